package store

import (
	"context"
	"strings"
	"testing"
	"unicode/utf8"

	"banger.dev/banger"
)

func appendEvents(t *testing.T, db *DB, n int, e banger.Event) {
	t.Helper()
	for range n {
		if err := db.AppendEvent(t.Context(), 1000, e); err != nil {
			t.Fatal(err)
		}
	}
}

func bounds(t *testing.T, db *DB) [2]int64 {
	t.Helper()
	newest, pruned, err := db.EventBounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return [2]int64{newest, pruned}
}

func TestEventsAreKeptInOrder(t *testing.T) {
	db := fresh(t)
	if got := bounds(t, db); got != [2]int64{0, 0} {
		t.Errorf("%v", got)
	}
	changed := db.Changed()
	appendEvents(t, db, 1, banger.Event{Type: banger.EventVMStarted, VM: "a", VMID: "1", Request: "r", Reason: "x", Detail: map[string]string{"k": "v"}})
	select {
	case <-changed:
	default:
		t.Error("nobody is woken")
	}
	appendEvents(t, db, 2, banger.Event{Type: banger.EventVMStopped, VM: "b", VMID: "2"})
	if err := db.AppendEvent(t.Context(), 2000, banger.Event{Type: banger.EventVMStopped, VM: "b"}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		after  int64
		filter banger.EventFilter
		limit  int
		want   []int64
	}{
		"all":   {0, banger.EventFilter{}, 10, []int64{1, 2, 3}},
		"after": {1, banger.EventFilter{}, 10, []int64{2, 3}},
		"limit": {0, banger.EventFilter{}, 2, []int64{1, 2}},
		"name":  {0, banger.EventFilter{VM: "b"}, 10, []int64{2, 3}},
		"id":    {0, banger.EventFilter{VM: "1"}, 10, []int64{1}},
		"types": {0, banger.EventFilter{Types: []banger.EventType{banger.EventVMStarted, "other"}}, 10, []int64{1}},
		"none":  {3, banger.EventFilter{}, 10, nil},
	} {
		got, err := db.Events(t.Context(), 1000, c.after, c.filter, c.limit)
		if err != nil || len(got) != len(c.want) {
			t.Errorf("%s: %+v %v", name, got, err)
			continue
		}
		for i, e := range got {
			if e.ID != c.want[i] || e.Time.IsZero() {
				t.Errorf("%s: %+v", name, e)
			}
		}
	}
	all, err := db.Events(t.Context(), 1000, 0, banger.EventFilter{}, 1)
	if err != nil || all[0].Detail["k"] != "v" || all[0].Request != "r" || all[0].Reason != "x" {
		t.Errorf("%+v %v", all, err)
	}
	later, err := db.Events(t.Context(), 1000, 0, banger.EventFilter{Since: all[0].Time.Add(1)}, 10)
	if err != nil || len(later) != 2 {
		t.Errorf("%+v %v", later, err)
	}
	if last, err := db.LastEvent(t.Context(), 1000, "2"); err != nil || last.ID != 3 {
		t.Errorf("%+v %v", last, err)
	}
	if last, err := db.LastEvent(t.Context(), 1000, "9"); err != nil || last.ID != 0 {
		t.Errorf("%+v %v", last, err)
	}
}

// A guest that says much fills no database.
func TestTextsOfEventsAreBounded(t *testing.T) {
	db := fresh(t)
	long := strings.Repeat("ä", maxText)
	appendEvents(t, db, 1, banger.Event{Type: "x", Reason: long, Detail: map[string]string{"error": "a\xff" + long}})
	got, err := db.Events(t.Context(), 1000, 0, banger.EventFilter{}, 1)
	if err != nil || len(got[0].Reason) > maxText || len(got[0].Detail["error"]) > maxText+8 || !utf8.ValidString(got[0].Reason) {
		t.Errorf("%d %d %v", len(got[0].Reason), len(got[0].Detail["error"]), err)
	}
}

// The oldest are pruned, and no id is given twice, also when all are gone.
func TestEventsArePruned(t *testing.T) {
	db := fresh(t)
	execSQL(t, db.db, `INSERT INTO events VALUES (7, 1000, '2026-01-01T00:00:00.000000000Z', 'x', '', '', '', '', 'null'),
		(10006, 1000, '2026-01-01T00:00:00.000000000Z', 'x', '', '', '', '', 'null')`)
	appendEvents(t, db, 1, banger.Event{Type: "x"})
	if got := bounds(t, db); got != [2]int64{10_007, 10_005} {
		t.Errorf("%v", got)
	}
	execSQL(t, db.db, `DELETE FROM events`)
	if got := bounds(t, db); got != [2]int64{10_007, 10_007} {
		t.Errorf("%v", got)
	}
	appendEvents(t, db, 1, banger.Event{Type: "x"})
	if got := bounds(t, db); got != [2]int64{10_008, 10_007} {
		t.Errorf("%v", got)
	}
}

// An event is written with the change that it tells of, or not at all.
func TestEventsOfChanges(t *testing.T) {
	db := fresh(t)
	r := record(1, 1, "x")
	insert(t, db, r)
	tell := func(r banger.Record) banger.Event { return banger.Event{Type: "changed", VM: r.Name} }
	refuse := func(*banger.Record) error { return context.DeadlineExceeded }
	if _, err := db.Update(t.Context(), r.ID, refuse, tell); err == nil {
		t.Error("nothing refused")
	}
	if _, err := db.Update(t.Context(), r.ID, func(r *banger.Record) error { r.Name = "y"; return nil }, tell,
		func(banger.Record) banger.Event { return banger.Event{} }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := db.Delete(t.Context(), r.ID, tell); err != nil {
			t.Fatal(err)
		}
	}
	got, err := db.Events(t.Context(), r.Owner, 0, banger.EventFilter{}, 10)
	if err != nil || len(got) != 2 || got[0].VM != "y" || got[1].VM != "y" {
		t.Errorf("%+v %v", got, err)
	}
}
