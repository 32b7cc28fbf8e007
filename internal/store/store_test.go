package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"banger.dev/banger"
)

func open(t *testing.T, path string) *DB {
	t.Helper()
	db, err := Open(t.Context(), path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func fresh(t *testing.T) *DB {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "banger.db"))
}

func record(n int, owner int, name string) banger.Record {
	return banger.Record{
		ID: fmt.Sprintf("%016x", n), Name: name, Owner: owner, Intent: banger.IntentStopped, Creating: true,
		Spec: banger.Spec{
			VCPUs: 2, Memory: banger.GiB, Disk: banger.DefaultDisk, Image: "debian", Init: banger.InitAuto,
			Net: banger.NetUser, VMM: banger.VMMAuto, Env: []string{"A=b c"}, Labels: map[string]string{"k": "é\n"},
		},
		Machine: banger.MachineIdentity{MachineID: "aa", MAC: "02:00:00:00:00:01", Generation: 1<<63 + 1},
		Created: time.Date(2025, 1, 2, 3, 4, 5, n, time.UTC),
	}
}

func insert(t *testing.T, db *DB, r banger.Record) {
	t.Helper()
	if err := db.Insert(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func TestRecordComesBackAfterReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a dir with ?, # and %41", "banger.db")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	first := open(t, path)
	plain, full := record(1, 1000, "plain"), record(2, 1000, "full")
	full.LastError = "its monitor died"
	full.LastExit = &banger.LastExit{Time: full.Created, Code: -1, Signal: "SIGKILL", Reason: "killed"}
	insert(t, first, plain)
	insert(t, first, full)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := open(t, path)
	for _, want := range []banger.Record{plain, full} {
		got, err := second.Get(t.Context(), 1000, want.ID)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
	}
}

func TestFilesArePrivate(t *testing.T) {
	db := fresh(t)
	insert(t, db, record(1, 1, "x"))
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(db.path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s: mode %o, want 600", info.Name(), mode)
		}
	}
}

func TestWideModeIsNarrowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "banger.db")
	open(t, path).Close()
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	open(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 600", info.Mode(), err)
	}
}

func TestNameIsUniquePerOwner(t *testing.T) {
	db := fresh(t)
	insert(t, db, record(1, 1000, "x"))
	err := db.Insert(t.Context(), record(2, 1000, "x"))
	if banger.KindOf(err) != banger.KindConflict || err.Error() != `a VM named "x" exists already (id 0000000000000001)` {
		t.Errorf("second x of one owner: %v", err)
	}
	if next := banger.NextOf(err); next != "banger vm delete x" {
		t.Errorf("next: %q", next)
	}
	insert(t, db, record(2, 1001, "x"))
	insert(t, db, record(3, 1000, "y"))
	_, err = db.Update(t.Context(), record(3, 0, "").ID, func(r *banger.Record) error { r.Name = "x"; return nil })
	if banger.KindOf(err) != banger.KindConflict {
		t.Errorf("rename to a taken name: %v", err)
	}
}

func TestOwnersSeeOnlyTheirOwn(t *testing.T) {
	db := fresh(t)
	for n, owner := range []int{1000, 1001, 1000} {
		insert(t, db, record(9-n, owner, fmt.Sprint("vm-", n)))
	}
	names := func(records []banger.Record, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, r := range records {
			list = append(list, r.Name)
		}
		return strings.Join(list, " ")
	}
	// The oldest is the last inserted.
	if got := names(db.List(t.Context(), 1000)); got != "vm-2 vm-0" {
		t.Errorf("List of 1000: %s", got)
	}
	if got := names(db.All(t.Context())); got != "vm-2 vm-1 vm-0" {
		t.Errorf("All: %s", got)
	}
	if got, err := db.List(t.Context(), 7); got == nil || len(got) != 0 || err != nil {
		t.Errorf("List of an owner without VMs: %v, %v", got, err)
	}
	_, err := db.Get(t.Context(), 1001, record(9, 0, "").ID)
	if banger.KindOf(err) != banger.KindNotFound {
		t.Errorf("Get of another's VM: %v", err)
	}
}

func TestUpdate(t *testing.T) {
	db := fresh(t)
	before := record(1, 1000, "x")
	insert(t, db, before)
	got, err := db.Update(t.Context(), before.ID, func(r *banger.Record) error {
		r.Creating, r.Intent, r.Name = false, banger.IntentRunning, "renamed"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	stored, err := db.Get(t.Context(), 1000, before.ID)
	if err != nil || !reflect.DeepEqual(got, stored) || stored.Creating || stored.Name != "renamed" {
		t.Errorf("stored %+v, %v; returned %+v", stored, err, got)
	}

	refusal := errors.New("not now")
	_, err = db.Update(t.Context(), before.ID, func(r *banger.Record) error { r.Name = "half"; return refusal })
	if err != refusal {
		t.Errorf("refused change: %v", err)
	}
	_, err = db.Update(t.Context(), before.ID, func(r *banger.Record) error { r.Owner = 0; return nil })
	if banger.KindOf(err) != banger.KindInternal {
		t.Errorf("change of owner: %v", err)
	}
	if again, err := db.Get(t.Context(), 1000, before.ID); err != nil || !reflect.DeepEqual(again, stored) {
		t.Errorf("after refused changes: %+v, %v", again, err)
	}
	_, err = db.Update(t.Context(), "ffffffffffffffff", func(*banger.Record) error { return nil })
	if banger.KindOf(err) != banger.KindNotFound {
		t.Errorf("unknown id: %v", err)
	}
}

func TestDeleteTwice(t *testing.T) {
	db := fresh(t)
	insert(t, db, record(1, 1000, "x"))
	for range 2 {
		if err := db.Delete(t.Context(), record(1, 0, "").ID); err != nil {
			t.Fatal(err)
		}
	}
	insert(t, db, record(2, 1000, "x"))
}

func TestConcurrentUpdatesAreNotLost(t *testing.T) {
	db := fresh(t)
	r := record(1, 1000, "x")
	r.Machine.Generation = 0
	insert(t, db, r)
	const workers, each = 8, 10
	done := make(chan error, workers)
	for range workers {
		go func() {
			for range each {
				if _, err := db.Update(t.Context(), r.ID, func(r *banger.Record) error { r.Machine.Generation++; return nil }); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range workers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got, err := db.Get(t.Context(), 1000, r.ID); err != nil || got.Machine.Generation != workers*each {
		t.Errorf("generation %d, %v; want %d", got.Machine.Generation, err, workers*each)
	}
}

func TestEndedContext(t *testing.T) {
	db := fresh(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Insert(ctx, record(1, 1, "x")); banger.KindOf(err) != banger.KindCancelled {
		t.Errorf("Insert: %v", err)
	}
}

// Every older schema must open and keep its rows: testdata/v<N>.sql is a row as
// schema N had it.
func TestMigrationFromEveryOlderVersion(t *testing.T) {
	steps, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= len(steps); n++ {
		t.Run(fmt.Sprint("v", n), func(t *testing.T) {
			row, err := os.ReadFile(fmt.Sprintf("testdata/v%d.sql", n))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "banger.db")
			raw, err := connect(path)
			if err != nil {
				t.Fatal(err)
			}
			provider, err := newProvider(raw)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := provider.UpTo(t.Context(), int64(n)); err != nil {
				t.Fatal(err)
			}
			execSQL(t, raw, string(row))
			raw.Close()

			got, err := open(t, path).Get(t.Context(), 1000, "0123456789abcdef")
			if err != nil || got.Name != "old" || got.Spec.VCPUs != 2 || got.Machine.Machine != "pc-q35-7.2" ||
				got.LastExit == nil || got.LastExit.Signal != "SIGKILL" || got.Created.Nanosecond() != 6 {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func execSQL(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	db := fresh(t)
	insert(t, db, record(1, 1, "x"))
	execSQL(t, db.db, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`)
	db.Close()
	_, err := Open(t.Context(), db.path, slog.New(slog.DiscardHandler))
	if banger.KindOf(err) != banger.KindConflict || !strings.Contains(err.Error(), "newer banger: its schema is 99") {
		t.Errorf("%v", err)
	}
}

func TestFindIsByNameAndByTheBeginningOfTheID(t *testing.T) {
	db := fresh(t)
	for n, r := range []banger.Record{
		{ID: "00aa000000000001", Name: "a", Owner: 1}, {ID: "00aa000000000002", Name: "00aa", Owner: 1},
		{ID: "00ab000000000003", Name: "c", Owner: 1}, {ID: "00aa000000000004", Name: "00aa", Owner: 2},
	} {
		r.Created = time.Date(2025, 1, 2, 3, 4, 5, n, time.UTC)
		insert(t, db, r)
	}
	for ref, want := range map[string]string{
		"a": "a", "00aa": "a 00aa", "00a": "a 00aa c", "00aa000000000001": "a", "00aa00000000000": "a 00aa",
		"00ab000000000003": "c", "0": "a 00aa c", "f": "", "g": "", "%": "", "00a_": "", "00AA": "",
	} {
		found, err := db.Find(t.Context(), 1, ref)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, r := range found {
			names = append(names, r.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: found %q, want %q", ref, got, want)
		}
	}
}

func TestWhatIsAskedOfOneVMReadsNoOther(t *testing.T) {
	db := fresh(t)
	for query, args := range map[string][]any{
		findQuery:      {1, "a", 1, "a", "ag"},
		lastEventQuery: {1, "a"},
	} {
		rows, err := db.db.QueryContext(t.Context(), `EXPLAIN QUERY PLAN `+query, args...)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Error(err)
			}
			if strings.Contains(detail, "SCAN") {
				t.Errorf("%s\nreads all: %s", query, detail)
			}
		}
		rows.Close()
	}
}

func TestMarkDeletingIsOfOneVMAndStays(t *testing.T) {
	db := fresh(t)
	a, b := record(1, 1, "a"), record(2, 1, "b")
	insert(t, db, a)
	insert(t, db, b)
	for _, id := range []string{a.ID, a.ID, record(3, 1, "c").ID, ""} {
		if err := db.MarkDeleting(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Update(t.Context(), a.ID, func(r *banger.Record) error { r.LastError = "x"; return nil }); err != nil {
		t.Fatal(err)
	}
	all, err := db.List(t.Context(), 1)
	if err != nil || len(all) != 2 || !all[0].Deleting || all[1].Deleting {
		t.Errorf("%+v, %v", all, err)
	}
}
