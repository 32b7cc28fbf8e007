package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/doctor"
)

// report is what doctor says, and whether its exit code agrees.
func (w *world) report(args ...string) doctor.Report {
	w.t.Helper()
	got := w.run(append([]string{"doctor", "-o", "json"}, args...)...)
	var r doctor.Report
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
		w.t.Fatalf("%q: %v", got.stdout, err)
	}
	if r.OK != (got.code == 0) || got.code > 1 || got.stderr != "" {
		w.t.Errorf("ok %v, exit code %d, stderr %q", r.OK, got.code, got.stderr)
	}
	return r
}

func checkOf(t *testing.T, r doctor.Report, name string) banger.Check {
	t.Helper()
	for _, c := range r.Checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no check %q in %+v", name, r.Checks)
	return banger.Check{}
}

func TestDoctorSaysWhatIsLeftOver(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.health = api.DoctorReply{
		Checks: []banger.Check{{Name: "image", Status: banger.CheckFailed, Message: "the mirror does not answer", Next: "curl it"}},
		Strays: []banger.Stray{
			{Kind: banger.StraySockets, What: "/r/vms/1", Reason: "no row", Fixable: true},
			{Kind: banger.StrayDirectory, What: "/s/vms/2", Reason: "kept", Bytes: banger.MiB, Next: "rm -r /s/vms/2"},
		},
	}
	got := w.run("doctor", "-q")
	for _, line := range []string{
		"image      FAILED  the mirror does not answer; try: curl it\n",
		"left over  FOUND   /r/vms/1: no row; try: banger doctor --fix\n",
		"left over  FOUND   /s/vms/2: kept (1MiB); try: rm -r /s/vms/2\n",
	} {
		if !strings.Contains(got.stdout, line) {
			t.Errorf("%q is not in\n%s", line, got.stdout)
		}
	}
	if got.code != 1 || got.stderr != "" {
		t.Errorf("%+v", got)
	}
	if r := w.report(); r.OK || len(r.Strays) != 2 {
		t.Errorf("%+v", r)
	}
	w.health.Checks = nil
	if r := w.report("--fix"); r.OK || !r.Strays[0].Fixed || r.Strays[1].Fixed {
		t.Errorf("%+v", r)
	}
	w.health.Strays = w.health.Strays[:1]
	if r := w.report("--fix"); !r.Strays[0].Fixed || strings.Contains(w.run("doctor", "-q", "--fix").stdout, "left over") {
		t.Errorf("%+v", r)
	}
}

// A home that has never been used is not made by looking at it.
func TestDoctorOfAnUnusedHomeStartsNothing(t *testing.T) {
	w := newWorld(t)
	r := w.report()
	if c := checkOf(t, r, "daemon"); c.Status != banger.CheckOK || !strings.Contains(c.Message, "not running") {
		t.Errorf("%+v", c)
	}
	if r.Strays == nil || r.Profile == "" {
		t.Errorf("%+v", r)
	}
	if left, err := os.ReadDir(w.home); err != nil || len(left) != 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

func TestDoctorWorksWithoutADaemonThatCanStart(t *testing.T) {
	w := newWorld(t)
	if err := os.MkdirAll(w.layout.State, 0o700); err != nil {
		t.Fatal(err)
	}
	// The program of these tests has no bangerd beside it.
	w.env["PATH"] = w.home
	t.Setenv("PATH", w.home)
	r := w.report("--fix")
	if c := checkOf(t, r, "daemon"); c.Status != banger.CheckFailed || c.Next == "" || !strings.Contains(c.Message, "left over") {
		t.Errorf("%+v", c)
	}
	if r.OK || len(r.Strays) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestDoctorSeesWrongSettingsAndPaths(t *testing.T) {
	w := newWorld(t)
	if err := os.MkdirAll(w.layout.Config, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.layout.ConfigFile(), []byte("nonsense = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c := checkOf(t, w.report(), "settings"); c.Status != banger.CheckFailed || !strings.Contains(c.Message, "nonsense") {
		t.Errorf("%+v", c)
	}
	w.env["BANGER_HOME"] = filepath.Join("/", strings.Repeat("x", 100))
	if c := checkOf(t, w.report(), "paths"); c.Status != banger.CheckFailed || c.Next == "" {
		t.Errorf("%+v", c)
	}
}
