package lifecycle_test

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/monitor"
)

func ptr[T any](v T) *T { return &v }

// diskSize is how large a VM's system disk is, by its own word.
func (w *world) diskSize(name string) banger.Bytes {
	w.t.Helper()
	content, err := os.ReadFile(w.layout.VM(w.row(name).ID).SystemDisk("qcow2"))
	if err != nil {
		w.t.Fatal(err)
	}
	return banger.Bytes(binary.BigEndian.Uint64(content[24:]))
}

func TestSetChangesAStoppedVMAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		w.scribble("a")
		d, out, err := w.Set(t.Context(), "a", lifecycle.Change{
			VCPUs: ptr(2), Memory: ptr(2 * banger.GiB), Disk: ptr(30 * banger.GiB), Labels: map[string]*string{"team": ptr("blue")},
		}, nil)
		if err != nil || !out.Changed || out.Note != "" {
			t.Fatalf("set: %+v, %v", out, err)
		}
		if d.VCPUs != 2 || d.MemoryBytes != 2*banger.GiB || d.DiskBytes != 30*banger.GiB || d.Labels["team"] != "blue" || w.diskSize("a") != 30*banger.GiB {
			t.Errorf("set: %+v, the disk has %s", d.VM, w.diskSize("a"))
		}
		if system, work := w.written("a"); !system || !work {
			t.Error("what was on the disks is lost")
		}
		last, err := w.events.Last(t.Context(), d.ID)
		if err != nil || last.Type != banger.EventVMChanged || last.Detail["disk"] != "30GiB" || last.Detail["image"] != "" {
			t.Errorf("the last event: %+v, %v", last, err)
		}
		d, out, err = w.Set(t.Context(), "a", lifecycle.Change{Labels: map[string]*string{"team": nil, "none": nil}}, nil)
		if err != nil || !out.Changed || len(d.Labels) != 0 {
			t.Errorf("labels taken off: %+v, %+v, %v", d.Labels, out, err)
		}
		if _, out, err = w.Set(t.Context(), "a", lifecycle.Change{VCPUs: ptr(2), Disk: ptr(30 * banger.GiB)}, nil); err != nil || out.Changed {
			t.Errorf("the same again: %+v, %v", out, err)
		}
		<-w.beginStart(t.Context(), "a")
		if order := w.machine("a").order.Machine; order.VCPUs != 2 || order.Memory != 2*banger.GiB {
			t.Errorf("it was started with %+v", order)
		}
	})
}

func TestSetRefusesWhatCannotBeAndChangesNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		before := w.row("a").Spec
		for name, c := range map[string]struct {
			change lifecycle.Change
			kind   banger.Kind
			says   string
		}{
			"less disk":   {lifecycle.Change{Disk: ptr(19 * banger.GiB), VCPUs: ptr(2)}, banger.KindInvalid, "can only grow"},
			"much memory": {lifecycle.Change{Memory: ptr(banger.TiB)}, banger.KindInvalid, "--memory"},
			"no vcpus":    {lifecycle.Change{VCPUs: ptr(0)}, banger.KindInvalid, "--vcpus"},
			"strange":     {lifecycle.Change{Labels: map[string]*string{"a": ptr("\n")}}, banger.KindInvalid, "--label"},
			"no kernel":   {lifecycle.Change{Kernel: ptr("nothing"), VCPUs: ptr(2)}, banger.KindNotFound, "nothing"},
			"own args":    {lifecycle.Change{KernelArgs: ptr("init=/x")}, banger.KindInvalid, "init is banger's"},
			"no image":    {lifecycle.Change{Image: ptr("nothing"), VCPUs: ptr(2)}, banger.KindNotFound, "nothing"},
		} {
			_, _, err := w.Set(t.Context(), "a", c.change, nil)
			wantKind(t, err, c.kind)
			wantWords(t, err.Error(), c.says)
			if after := w.row("a").Spec; after.VCPUs != before.VCPUs || after.Disk != before.Disk || after.Image != before.Image {
				t.Errorf("%s: changed to %+v", name, after)
			}
		}
	})
}

func TestAnotherImageBeginsTheSystemDiskAnew(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		w.scribble("a")
		if _, out, err := w.Set(t.Context(), "a", lifecycle.Change{Image: ptr("debian")}, nil); err != nil || out.Changed {
			t.Errorf("the image that it has: %+v, %v", out, err)
		}
		if system, _ := w.written("a"); !system {
			t.Error("the image that it has was laid under it again")
		}
		w.images.setGone(true)
		d, out, err := w.Set(t.Context(), "a", lifecycle.Change{Image: ptr("debian")}, nil)
		if err != nil || !out.Changed || d.ImageDigest != nextDigest {
			t.Fatalf("a newer image: %+v, %s, %v", out, d.ImageDigest, err)
		}
		if w.holds.kept != nextDigest+" sha256:0e" {
			t.Errorf("of the images that the VM has had it keeps %q", w.holds.kept)
		}
		if system, work := w.written("a"); system || !work {
			t.Errorf("still written: the system disk %t, the work disk %t", system, work)
		}
		<-w.beginStart(t.Context(), "a")
		_, _, err = w.Set(t.Context(), "a", lifecycle.Change{Image: ptr("debian")}, nil)
		wantKind(t, err, banger.KindConflict)
		if next := banger.NextOf(err); next != "banger vm stop a" {
			t.Errorf("next: %q", next)
		}
	})
}

func TestAnotherKernelIsForTheNextStart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		w.scribble("a")
		d, out, err := w.Set(t.Context(), "a", lifecycle.Change{Kernel: ptr("other"), KernelArgs: ptr("quiet banger.test=1")}, nil)
		if err != nil || !out.Changed || d.Kernel != otherKernel || d.Spec.Kernel != "other" {
			t.Fatalf("set: %+v, %+v, %v", d.VM, out, err)
		}
		if w.holds.kept != d.ImageDigest+" "+otherKernel {
			t.Errorf("it keeps %q", w.holds.kept)
		}
		if system, work := w.written("a"); !system || !work {
			t.Error("what was on the disks is lost")
		}
		<-w.beginStart(t.Context(), "a")
		order := w.machine("a").order.Machine
		if order.Kernel != "/other/vmlinux" || order.Disks[len(order.Disks)-1].Path != "/other/modules" || !strings.HasSuffix(order.Cmdline, " quiet banger.test=1") {
			t.Errorf("it was started with %+v", order)
		}
		_, _, err = w.Set(t.Context(), "a", lifecycle.Change{Kernel: ptr("sha256:0e")}, nil)
		if banger.KindOf(err) != banger.KindConflict {
			t.Errorf("another kernel for a VM that runs: %v", err)
		}
		_, out, err = w.Set(t.Context(), "a", lifecycle.Change{KernelArgs: ptr("")}, nil)
		if err != nil || !out.Changed || out.Note != "the kernel's arguments take effect at its next start" {
			t.Errorf("no arguments any more: %+v, %v", out, err)
		}
	})
}

func TestAnImagesKernelIsThatOfItsVMs(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.images.kernel = "other"
		w.create("a")
		if r := w.row("a"); r.KernelDigest != otherKernel || r.Spec.Kernel != "" {
			t.Errorf("%+v", r)
		}
		d, err := w.Create(t.Context(), "b", banger.Spec{Kernel: "sha256:0e"}, nil, nil)
		if err != nil || d.Kernel != "sha256:0e" {
			t.Errorf("a kernel that is named: %s, %v", d.Kernel, err)
		}
		w.images.kernel = ""
		w.create("c")
		w.images.setGone(true)
		w.images.kernel = "other"
		for name, want := range map[string]string{"b": "sha256:0e", "c": otherKernel} {
			if d, _, err := w.Set(t.Context(), name, lifecycle.Change{Image: ptr("debian")}, nil); err != nil || d.Kernel != want {
				t.Errorf("%s with another image has %s, %v", name, d.Kernel, err)
			}
		}
	})
}

func TestDeleteDoesNotWaitForTheImageThatASetPulls(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		defer w.images.hold()() // a registry that does not answer
		set := begin(func() (r result) {
			r.detail, r.out, r.err = w.Set(context.Background(), "a", lifecycle.Change{Image: ptr("debian")}, nil)
			return r
		})
		pending(t, "the set that pulls", set)
		if _, _, err := w.Delete(t.Context(), "a", false); err != nil {
			t.Error(err)
		}
		r := <-set
		wantKind(t, r.err, banger.KindCancelled)
		wantWords(t, r.err.Error(), "VM a was deleted")
		w.wantState("a", "gone")
	})
}

func TestSetDoesWhatItCanWhileTheVMRuns(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run("a")
		d, out, err := w.Set(t.Context(), "a", lifecycle.Change{Disk: ptr(30 * banger.GiB), Labels: map[string]*string{"k": ptr("v")}}, nil)
		if err != nil || !out.Changed || out.Note != "" || d.Labels["k"] != "v" {
			t.Errorf("set: %+v, %v", out, err)
		}
		m := w.machine("a")
		m.mu.Lock()
		if m.grown[1] != 30*banger.GiB {
			t.Errorf("the VMM has grown %v", m.grown)
		}
		m.mu.Unlock()
		_, out, err = w.Set(t.Context(), "a", lifecycle.Change{Memory: ptr(2 * banger.GiB)}, nil)
		if err != nil || !out.Changed {
			t.Errorf("set: %+v, %v", out, err)
		}
		wantWords(t, out.Note, "memory", "next start")
		if d, err = w.Show(t.Context(), "a"); err != nil || d.Handles.Memory != banger.GiB || d.MemoryBytes != 2*banger.GiB {
			t.Errorf("it runs with %s of %s, %v", d.Handles.Memory, d.MemoryBytes, err)
		}
	})
}

func TestADiskThatDoesNotGrowNowGrowsAtTheNextStart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for why, g := range map[string]guest{
			"older banger": {stiff: monitor.ErrOld}, "not now": {stiff: errors.New("not now")}, "it is paused": {small: "it is paused"},
		} {
			w.guest("a", g)
			w.run("a")
			d, out, err := w.Set(t.Context(), "a", lifecycle.Change{Disk: ptr(30 * banger.GiB)}, nil)
			if err != nil || !out.Changed || d.DiskBytes != 30*banger.GiB {
				t.Errorf("set: %+v, %v", out, err)
			}
			wantWords(t, out.Note, why, "next start")
			w.guest("a", guest{})
			if _, _, err := w.Restart(t.Context(), "a", lifecycle.RestartOptions{}, nil); err != nil {
				t.Error(err)
			}
			if got := w.diskSize("a"); got != 30*banger.GiB {
				t.Errorf("after a restart the disk has %s", got)
			}
			w.delete("a")
		}
	})
}

// Whatever fails and whenever the daemon dies, the VM can be started, and asked
// again the change is made.
func TestAFailureOrACrashAtAnyStepOfASetCanBeRepaired(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		steps := []string{"set.image", "set.overlay", "set.row", "set.live"}
		w.create("a")
		w.begun()
		if _, _, err := w.Set(t.Context(), "a", lifecycle.Change{Image: ptr("debian"), Disk: ptr(21 * banger.GiB)}, nil); err != nil {
			t.Fatal(err)
		}
		if names := w.begun(); !slices.Equal(names, steps) {
			t.Fatalf("steps of a set: %q", names)
		}
		gone := false
		size := 21 * banger.GiB
		for _, step := range steps {
			for _, dies := range []bool{false, true} {
				gone = !gone
				w.images.setGone(gone)
				size += banger.GiB
				change := lifecycle.Change{Image: ptr("debian"), Disk: ptr(size), VCPUs: ptr(1 + int(size/banger.GiB)%2)}
				if dies {
					w.dieAt(step)
				} else {
					w.failAt(step)
				}
				r := <-begin(func() (r result) {
					_, r.out, r.err = w.Set(context.Background(), "a", change, nil)
					return r
				})
				if r.died != dies || (!dies && !errors.Is(r.err, errFault)) {
					t.Errorf("%s: %+v", step, r)
				}
				w.setFault(nil)
				if err := w.restart(); err != nil {
					t.Error(err)
				}
				w.wantState("a", "stopped")
				d, _, err := w.Set(t.Context(), "a", change, nil)
				if err != nil || d.DiskBytes != size || w.diskSize("a") != size || d.VCPUs != *change.VCPUs {
					t.Errorf("after %s: %+v, the disk has %s, %v", step, d.VM, w.diskSize("a"), err)
				}
				w.startAgain(step)
				if _, _, err := w.Stop(t.Context(), "a", 0); err != nil {
					t.Error(err)
				}
			}
		}
	})
}
