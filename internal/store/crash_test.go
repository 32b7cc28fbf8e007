package store

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"banger.dev/banger"
)

// crashPath, when set, makes this binary a writer that never ends.
const crashPath = "BANGER_TEST_STORE"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashPath); path != "" {
		fmt.Fprintln(os.Stderr, writeForEver(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeForEver inserts VMs, changes each in two fields at once, and says so on
// standard output after each commit.
func writeForEver(path string) error {
	ctx := context.Background()
	db, err := Open(ctx, path, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	present, err := db.All(ctx)
	if err != nil {
		return err
	}
	for n := len(present); ; n++ {
		r := record(n, 1, fmt.Sprint("vm-", n))
		if err := db.Insert(ctx, r); err != nil {
			return err
		}
		fmt.Println("inserted", r.ID)
		for i := range 3 {
			if _, err := db.Update(ctx, r.ID, func(r *banger.Record) error {
				r.Machine.Generation, r.LastError = uint64(i), fmt.Sprint(i)
				return nil
			}); err != nil {
				return err
			}
		}
		fmt.Println("updated", r.ID)
	}
}

// What was said to be written is there after kill -9, and no change is half made.
func TestKillInTheMiddleOfWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "banger.db")
	promised := map[string]string{}
	for round := range 5 {
		killAfter(t, path, 3+7*round, promised)
		db := open(t, path)
		for id, what := range promised {
			r, err := db.Get(t.Context(), 1, id)
			if err != nil {
				t.Errorf("round %d: %s was %s: %v", round, id, what, err)
			}
			if what == "updated" && r.Machine.Generation != 2 {
				t.Errorf("round %d: %s lost a change: %d", round, id, r.Machine.Generation)
			}
		}
		all, err := db.All(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			if r.LastError != "" && r.LastError != fmt.Sprint(r.Machine.Generation) {
				t.Errorf("round %d: half a change: %d and %q", round, r.Machine.Generation, r.LastError)
			}
		}
		db.Close()
	}
}

// killAfter runs a writer and kills it once it has promised n things.
func killAfter(t *testing.T, path string, n int, promised map[string]string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashPath+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for seen := 0; lines.Scan(); {
		var what, id string
		if _, err := fmt.Sscan(lines.Text(), &what, &id); err != nil {
			break // the line it died in
		}
		promised[id] = what
		if seen++; seen == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("the writer ended by itself: %v", err)
	}
}
