package hold

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"banger.dev/banger"
)

// home is a table and a directory for each of some VMs.
func home(t *testing.T, vms ...string) (*Table, map[string]string) {
	t.Helper()
	dirs := map[string]string{}
	for _, vm := range vms {
		dirs[vm] = filepath.Join(t.TempDir(), vm)
		if err := os.Mkdir(dirs[vm], 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return &Table{Dir: filepath.Join(t.TempDir(), "[a]", "users")}, dirs
}

func here() error { return nil }

func (t *Table) want(tt *testing.T, entry string, n int) {
	tt.Helper()
	if got, err := t.Holders(entry); err != nil || got != n {
		tt.Errorf("%s has %d holders, %v; want %d", entry, got, err, n)
	}
}

func add(t *testing.T, table *Table, entry, holder string) {
	t.Helper()
	if err := table.Add(t.Context(), entry, holder, here); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsHeldIsNotRemoved(t *testing.T) {
	table, vms := home(t, "a", "b")
	table.want(t, "image", 0)
	add(t, table, "image", vms["a"])
	add(t, table, "image", vms["a"])
	add(t, table, "image", vms["b"])
	table.want(t, "image", 2)
	never := func() error { t.Error("removed"); return nil }
	if err := table.Remove(t.Context(), "image", never); banger.KindOf(err) != banger.KindConflict {
		t.Error(err)
	}
	if err := errors.Join(table.Release(vms["a"]), table.Release(vms["a"]), os.Remove(vms["b"])); err != nil {
		t.Fatal(err)
	}
	table.want(t, "image", 0)
	removed := false
	if err := table.Remove(t.Context(), "image", func() error { removed = true; return nil }); err != nil || !removed {
		t.Errorf("%v, %v", removed, err)
	}
	if left, _ := filepath.Glob(filepath.Join(table.Dir, "image*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAHolderThatKeepsOneHasLetTheOthersGo(t *testing.T) {
	table, vms := home(t, "one", "two")
	for _, entry := range []string{"before", "now"} {
		add(t, table, entry, vms["one"])
		add(t, table, entry, vms["two"])
	}
	if err := table.Keep("now", vms["one"]); err != nil {
		t.Fatal(err)
	}
	table.want(t, "before", 1)
	table.want(t, "now", 2)
	if err := table.Keep("now", vms["two"]); err != nil {
		t.Fatal(err)
	}
	if err := table.Remove(t.Context(), "before", here); err != nil {
		t.Error(err)
	}
}

func TestWhatIsGoneCannotBeHeld(t *testing.T) {
	table, vms := home(t, "a")
	absent := errors.New("it is gone")
	for range 2 {
		if err := table.Add(t.Context(), "image", vms["a"], func() error { return absent }); !errors.Is(err, absent) {
			t.Error(err)
		}
		table.want(t, "image", 0)
	}
	add(t, table, "image", vms["a"])
	if err := table.Add(t.Context(), "image", vms["a"], func() error { return absent }); !errors.Is(err, absent) {
		t.Error(err)
	}
}

// A home that was copied has VMs of the same ids.
func TestHoldersOfOneNameAreTwo(t *testing.T) {
	table, vms := home(t, "a")
	_, copied := home(t, "a")
	add(t, table, "image", vms["a"])
	add(t, table, "image", copied["a"])
	table.want(t, "image", 2)
	if err := table.Release(copied["a"]); err != nil {
		t.Fatal(err)
	}
	table.want(t, "image", 1)
}

// Whoever adds himself while the entry is removed either keeps it or is told.
func TestAddAndRemoveAgree(t *testing.T) {
	const vms = 8
	for range 20 {
		var names []string
		for i := range vms {
			names = append(names, strconv.Itoa(i))
		}
		table, dirs := home(t, names...)
		entry := filepath.Join(t.TempDir(), "entry")
		if err := os.WriteFile(entry, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		held := 0
		for _, dir := range dirs {
			wg.Go(func() {
				other := &Table{Dir: table.Dir} // another process's
				err := other.Add(t.Context(), "e", dir, func() error { _, err := os.Stat(entry); return err })
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					held++
				}
			})
		}
		err := table.Remove(t.Context(), "e", func() error { return os.Remove(entry) })
		wg.Wait()
		_, there := os.Stat(entry)
		if (there == nil) != (held == vms) || (err == nil) != (held == 0) {
			t.Fatalf("%d hold it, it is there: %v, removed: %v", held, there == nil, err)
		}
	}
}

// Whoever waits behind another, who may stand still, can give up.
func TestWaitingHonoursTheContext(t *testing.T) {
	table, vms := home(t, "a", "b")
	going, release := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		first <- table.Add(t.Context(), "image", vms["a"], func() error {
			close(going)
			<-release
			return nil
		})
	}()
	<-going
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := table.Add(ctx, "image", vms["b"], here); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
}
