package crashtest

import (
	"flag"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banger.dev/banger"
)

var (
	overQEMU = flag.Bool("qemu", false, "run the matrix over QEMU too, one cell for each step")
	all      = flag.Bool("all", false, "with -qemu: every cell, or all that -cells matches")
)

// TestQEMU runs cells over QEMU, with a bangerd that is the one that ships but
// for its faults: for each step one cell, which one depends on the commit, so
// that in time all of them are.
func TestQEMU(t *testing.T) {
	if !*overQEMU {
		t.Skip("only with -qemu: a cell boots real VMs")
	}
	wanted := wantedCells(t)
	m := newMatrix(t, newHome(t, fake(t)))
	commit := commit()
	chosen := m.choose(commit)
	w := qemu(t)
	m.run(t, []*home{newHome(t, w), newHome(t, w)}, func(c cell) bool {
		if *all {
			return wanted(c)
		}
		return chosen[c.fault.Step] == c.String()
	})
	t.Logf("the crash matrix over QEMU, as chosen by commit %s: %s", commit, m)
}

// choose picks a cell for each step.
func (m *matrix) choose(commit string) map[string]string {
	cells := map[string][]string{}
	for _, c := range m.cells {
		cells[c.fault.Step] = append(cells[c.fault.Step], c.String())
	}
	chosen := map[string]string{}
	for step, names := range cells {
		h := fnv.New64a()
		_, _ = h.Write([]byte(commit + " " + step)) // never fails
		chosen[step] = names[h.Sum64()%uint64(len(names))]
	}
	return chosen
}

// commit is the checkout's; always the same one where there is none.
func commit() string {
	out, err := exec.Command("git", "rev-parse", "HEAD").Output()
	if err != nil {
		return "none"
	}
	return strings.TrimSpace(string(out))
}

// qemu is the world of a bangerd that is built here, with the cache of the stories.
func qemu(t *testing.T) world {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-tags", "faults", "-trimpath", "-buildvcs=false", "-o", dir+"/", "./cmd/bangerd")
	cmd.Dir, cmd.Env = "../../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	user, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return world{
		bangerd: filepath.Join(dir, "bangerd"), cache: filepath.Join(user, "banger-test"), brief: 50 * time.Millisecond, registry: startRegistry(t),
		spec: banger.Spec{Memory: 256 * banger.MiB, Work: banger.DefaultWork, Init: banger.InitNone, Net: banger.NetNone},
	}
}
