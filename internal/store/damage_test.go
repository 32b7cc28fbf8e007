package store

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger.dev/banger"
)

// A file that cannot be used is reported in one line with its path and what to
// do, and stays exactly as it is.
func TestDamagedFile(t *testing.T) {
	whole := fresh(t)
	for n := range 200 {
		insert(t, whole, record(n, 1, fmt.Sprint("vm-", n)))
	}
	whole.Close()
	content, err := os.ReadFile(whole.path)
	if err != nil {
		t.Fatal(err)
	}
	scribbled := bytes.Clone(content)
	for i := len(scribbled) / 2; i < len(scribbled); i++ {
		scribbled[i] ^= 0x5a
	}
	cases := map[string][]byte{
		"text":             []byte(strings.Repeat("this is not a database\n", 500)),
		"one byte":         {'x'},
		"empty":            {},
		"cut in a page":    content[:len(content)/2-100],
		"cut at a page":    content[:len(content)/2/4096*4096],
		"cut to one page":  content[:4096],
		"cut in its head":  content[:60],
		"scribbled upon":   scribbled,
		"zeroes from disk": make([]byte, len(content)),
	}
	for name, damage := range cases {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "banger.db")
			if err := os.WriteFile(path, damage, 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := Open(t.Context(), path, slog.New(slog.DiscardHandler))
			if err == nil {
				db.Close()
				t.Fatal("it opened")
			}
			if banger.KindOf(err) != banger.KindInternal || !strings.Contains(err.Error(), path) ||
				strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "backup") ||
				!strings.HasPrefix(banger.NextOf(err), "mkdir") {
				t.Errorf("kind %s, next %q: %v", banger.KindOf(err), banger.NextOf(err), err)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, damage) {
				t.Errorf("the file was changed: %d bytes before, %d after, %v", len(damage), len(after), err)
			}
		})
	}
}

func TestJournalWithoutDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "banger.db")
	if err := os.WriteFile(path+"-wal", []byte("frames"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), path, slog.New(slog.DiscardHandler))
	if banger.KindOf(err) != banger.KindInternal || !strings.Contains(err.Error(), "-wal") {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("a database was made: %v", err)
	}
}

func TestLeftoverOfHalfMadeDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "banger.db")
	for _, suffix := range []string{".new", ".new-wal", ".new-shm"} {
		if err := os.WriteFile(path+suffix, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	db := open(t, path)
	insert(t, db, record(1, 1, "x"))
	if left, _ := filepath.Glob(path + ".new*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDirectoryIsMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent", "banger.db")
	_, err := Open(t.Context(), path, slog.New(slog.DiscardHandler))
	if banger.KindOf(err) != banger.KindInternal || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
}

// What is in one row and cannot be read is that VM's misfortune alone: the row
// is listed, is not changed, and can be removed.
func TestDamagedRow(t *testing.T) {
	for column, value := range map[string]string{"spec": `{"vcpus": `, "machine": "\x00", "created": "yesterday", "last_exit": "[]", "deleting": "1", "image_digest": "sha256:00"} {
		t.Run(column, func(t *testing.T) {
			d := fresh(t)
			bad, good := record(1, 1, "bad"), record(2, 1, "good")
			insert(t, d, bad)
			insert(t, d, good)
			if _, err := d.db.ExecContext(t.Context(), `UPDATE vms SET `+column+` = ? WHERE id = ?`, value, bad.ID); err != nil {
				t.Fatal(err)
			}
			all, err := d.List(t.Context(), 1)
			if err != nil || len(all) != 2 {
				t.Fatalf("%+v, %v", all, err)
			}
			for _, r := range all {
				if (r.Damaged != "") != (r.Name == "bad") || r.Deleting {
					t.Errorf("%+v", r)
				}
			}
			never := func(*banger.Record) error { t.Error("it is changed"); return nil }
			if _, err := d.Update(t.Context(), bad.ID, never); banger.KindOf(err) != banger.KindConflict || banger.NextOf(err) != "banger vm delete bad" {
				t.Errorf("%v", err)
			}
			if _, err := d.Update(t.Context(), good.ID, func(*banger.Record) error { return nil }); err != nil {
				t.Error(err)
			}
			if err := d.MarkDeleting(t.Context(), bad.ID); err != nil {
				t.Error(err)
			}
			if r, err := d.Get(t.Context(), 1, bad.ID); err != nil || !r.Deleting {
				t.Errorf("%+v, %v", r, err)
			}
			if err := d.Delete(t.Context(), bad.ID); err != nil {
				t.Error(err)
			}
			if all, err := d.List(t.Context(), 1); err != nil || len(all) != 1 || all[0].Damaged != "" {
				t.Errorf("%+v, %v", all, err)
			}
		})
	}
}
