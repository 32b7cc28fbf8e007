package e2e

import (
	"bytes"
	"database/sql" //nolint:depguard // a newer banger's database is made here, which no build can
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "modernc.org/sqlite" //nolint:depguard // the driver "sqlite"
)

// twoVMs is a home with the VMs a and b, and no daemon.
func twoVMs(t *testing.T) *home {
	t.Helper()
	h, err := newHome(cache)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	})
	for _, args := range [][]string{{"vm", "create", "--name", "a"}, {"vm", "create", "--name", "b"}, {"daemon", "stop"}} {
		if out, err := h.banger(args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	return h
}

// says is what a command that must fail with this code says, and what to type next.
func (h *home) says(t *testing.T, code int, args ...string) (message, next string) {
	t.Helper()
	cmd := h.banger(append(args, "-o", "json")...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != code {
		t.Fatalf("%v: %v\n%s", args, err, complaint.String())
	}
	var reply struct {
		Error struct{ Message, Next string }
	}
	if err := json.Unmarshal(complaint.Bytes(), &reply); err != nil {
		t.Fatalf("%v: %s", args, complaint.String())
	}
	return reply.Error.Message, reply.Error.Next
}

// A database that cannot be read is left as it is, and every verb says so and
// how to go on; doctor too. What it says to type leads on, and costs no disk.
func TestDamagedDatabaseIsSaidAndLeadsOn(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"cut off":         func(b []byte) []byte { return b[:len(b)/2] },
		"nearly all gone": func(b []byte) []byte { return b[:100] },
		"a flipped bit":   func(b []byte) []byte { b[0] ^= 1; return b },
		"scribbled upon": func(b []byte) []byte {
			for i := 4096; i < len(b); i++ {
				b[i] ^= 0x5a
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := twoVMs(t)
			db := filepath.Join(h.dir, "state/banger.db")
			content, err := os.ReadFile(db)
			if err != nil {
				t.Fatal(err)
			}
			content = damage(content)
			if err := os.WriteFile(db, content, 0o600); err != nil {
				t.Fatal(err)
			}
			message, next := h.says(t, 1, "vm", "list")
			if !strings.Contains(message, db) || !strings.Contains(message, "damaged") || next == "" {
				t.Errorf("%q, try %q", message, next)
			}
			if out, err := h.banger("doctor", "--fix", "-q").Output(); err == nil || !strings.Contains(string(out), "damaged") {
				t.Errorf("doctor: %v\n%s", err, out)
			}
			if now, err := os.ReadFile(db); err != nil || !bytes.Equal(now, content) {
				t.Errorf("the database was changed: %v", err)
			}
			if out, err := exec.Command("sh", "-c", next).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", next, err, out)
			}
			if vms, err := h.list(); err != nil || len(vms) != 0 {
				t.Errorf("afterwards: %v, %v", vms, err)
			}
			if out, err := h.banger("doctor", "--fix", "-q").Output(); err == nil || strings.Count(string(out), "rm -r ") != 2 {
				t.Errorf("doctor afterwards: %v\n%s", err, out)
			}
			disks, err := filepath.Glob(filepath.Join(h.dir, "state/vms/*/*.qcow2"))
			if err != nil || len(disks) != 4 {
				t.Errorf("the disks: %v, %v", disks, err)
			}
			// As the owner of nothing of worth would.
			if err := os.RemoveAll(filepath.Join(h.dir, "state/vms")); err != nil {
				t.Error(err)
			}
		})
	}
}

// What lies beside the database, or is one VM's scratch, takes nobody's VM away.
func TestDamagedFilesBesideTheDatabaseTakeNothingAway(t *testing.T) {
	h := twoVMs(t)
	garbage := func(pattern string) {
		dirs, err := filepath.Glob(filepath.Join(h.dir, filepath.Dir(pattern)))
		if err != nil || len(dirs) == 0 {
			t.Fatalf("%s: %v, %v", pattern, dirs, err)
		}
		for _, dir := range dirs {
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(pattern)), []byte("\x00garbage{"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, pattern := range []string{"state/banger.db-wal", "state/banger.db-shm", "state/vms/*/exit.json", "state/vms/*/metrics.json", "state/vms/*/handles.json"} {
		garbage(pattern)
		vms, err := h.list()
		if err != nil || len(vms) != 2 {
			t.Fatalf("%s: %v, %v", pattern, vms, err)
		}
		for _, vm := range vms {
			if vm.State != "stopped" {
				t.Errorf("%s: %s is %s: %s", pattern, vm.Name, vm.State, vm.Reason)
			}
		}
		if out, err := h.banger("daemon", "stop").CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", pattern, err, out)
		}
	}
}

// A database of a newer banger is not touched, whoever asks: its VMs are that
// banger's, and go on there.
func TestDatabaseOfANewerBangerIsRefusedUntouched(t *testing.T) {
	h := twoVMs(t)
	db := filepath.Join(h.dir, "state/banger.db")
	execute(t, db, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`)
	before := filesOf(t, filepath.Dir(db))
	message, next := h.says(t, 4, "daemon", "start")
	if !strings.Contains(message, db+" is of a newer banger: its schema is 99, this build knows ") || !strings.HasPrefix(next, "upgrade banger") {
		t.Errorf("%q, try %q", message, next)
	}
	for _, args := range [][]string{{"daemon", "start"}, {"vm", "list"}, {"run", "--rm", "--", "true"}, {"vm", "delete", "--force", "a"}} {
		out, err := h.banger(args...).CombinedOutput()
		if err == nil || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), message) || !strings.Contains(string(out), next) {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	if after := filesOf(t, filepath.Dir(db)); !maps.Equal(before, after) {
		t.Errorf("of these files some were changed: %v; now there are %v", slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)))
	}
	execute(t, db, `DELETE FROM goose_db_version WHERE version_id = 99`)
	if vms, err := h.list(); err != nil || len(vms) != 2 {
		t.Errorf("with the banger that knows it: %v, %v", vms, err)
	}
	for _, name := range []string{"a", "b"} {
		if out, err := h.banger("vm", "delete", name).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

func execute(t *testing.T, file, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), statement)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// filesOf is the content of every file in and below dir, but of the daemon's log
// and locks.
func filesOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	content := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasPrefix(d.Name(), "bangerd.") {
			return err
		}
		b, err := os.ReadFile(path)
		content[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return content
}
