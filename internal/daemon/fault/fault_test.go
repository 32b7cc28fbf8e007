package fault_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"banger.dev/banger/internal/daemon/fault"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/steps"
)

// A step that fails by a full disk does so again; one that was busy does not.
func TestErrors(t *testing.T) {
	for kind, want := range map[fault.Kind][3]error{
		fault.EIO:    {syscall.EIO, syscall.EIO, syscall.EIO},
		fault.ENOSPC: {syscall.ENOSPC, syscall.ENOSPC, syscall.ENOSPC},
		fault.EBUSY:  {syscall.EBUSY, nil, nil},
	} {
		t.Run(string(kind), func(t *testing.T) {
			dir := fault.Dir(t.TempDir())
			if err := dir.Arm(fault.Fault{Step: "make.two", After: true, Kind: kind}); err != nil {
				t.Fatal(err)
			}
			at := dir.Faults(paths.Layout{State: t.TempDir()})
			for try, want := range want {
				for _, p := range []steps.Point{{Of: "vm", Step: "make.one", After: true}, {Of: "vm", Step: "make.two"}} {
					if err := at(p); err != nil {
						t.Errorf("%s: %v", p, err)
					}
				}
				if err := at(steps.Point{Of: "vm", Step: "make.two", After: true}); !errors.Is(err, want) {
					t.Errorf("try %d: %v, want %v", try+1, err, want)
				}
			}
			if err := dir.Disarm(); err != nil {
				t.Fatal(err)
			}
			if err := at(steps.Point{Of: "vm", Step: "make.two", After: true}); err != nil {
				t.Errorf("when it is disarmed: %v", err)
			}
		})
	}
}

func TestTrace(t *testing.T) {
	dir := fault.Dir(t.TempDir())
	if err := dir.Arm(fault.Fault{Step: "make.two", Kind: fault.EBUSY}); err != nil {
		t.Fatal(err)
	}
	at := dir.Faults(paths.Layout{State: t.TempDir()})
	for _, step := range []string{"make.one", "make.two"} {
		_ = at(steps.Point{Of: "vm", Step: step}) // what it says is in the trace
	}
	visits, err := dir.Trace()
	want := []fault.Visit{{Point: steps.Point{Of: "vm", Step: "make.one"}}, {Point: steps.Point{Of: "vm", Step: "make.two"}, Fault: true}}
	if err != nil || fmt.Sprint(visits) != fmt.Sprint(want) {
		t.Errorf("%v, %v", visits, err)
	}
}
