package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"banger.dev/banger"
)

// EventsKept is how many events are remembered; older ones are pruned.
const EventsKept = 10_000

const eventColumns = `id, time, type, vm, vm_id, request, reason, detail`

// AppendEvent adds an event of owner and gives it its id. A zero time is now.
func (d *DB) AppendEvent(ctx context.Context, owner int, e banger.Event) error {
	return d.write(ctx, "add to", func(tx *sql.Tx) error { return insertEvent(ctx, tx, owner, e) })
}

// insertEvent adds an event, unless it has no type, and prunes the oldest.
func insertEvent(ctx context.Context, tx *sql.Tx, owner int, e banger.Event) error {
	if e.Type == "" {
		return nil
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	var brief map[string]string
	if e.Detail != nil {
		brief = make(map[string]string, len(e.Detail))
		for key, text := range e.Detail {
			brief[key] = bounded(text)
		}
	}
	detail, err := json.Marshal(brief)
	if err != nil {
		return err
	}
	added, err := tx.ExecContext(ctx, `INSERT INTO events (owner, time, type, vm, vm_id, request, reason, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		owner, e.Time.UTC().Format(timeFormat), string(e.Type), e.VM, e.VMID, e.Request, bounded(e.Reason), string(detail))
	if err != nil {
		return err
	}
	id, err := added.LastInsertId()
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM events WHERE id <= ?`, id-EventsKept)
	return err
}

// maxText bounds a text of an event: some repeat what a guest has said.
const maxText = 2 << 10

func bounded(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxText)], "\uFFFD")
}

// Events are those of owner that are newer than the id after and that filter
// wants, the oldest first, at most limit of them.
func (d *DB) Events(ctx context.Context, owner int, after int64, filter banger.EventFilter, limit int) ([]banger.Event, error) {
	where, args := []string{"owner = ?", "id > ?"}, []any{owner, after}
	if !filter.Since.IsZero() {
		where, args = append(where, "time >= ?"), append(args, filter.Since.UTC().Format(timeFormat))
	}
	if filter.VM != "" {
		where, args = append(where, "(vm = ? OR vm_id = ?)"), append(args, filter.VM, filter.VM)
	}
	if len(filter.Types) > 0 {
		where = append(where, "type IN (?"+strings.Repeat(", ?", len(filter.Types)-1)+")")
		for _, t := range filter.Types {
			args = append(args, string(t))
		}
	}
	rows, err := d.db.QueryContext(ctx, `SELECT `+eventColumns+` FROM events WHERE `+strings.Join(where, " AND ")+` ORDER BY id LIMIT ?`, append(args, limit)...)
	if err != nil {
		return nil, failure(ctx, d.path, "read", err)
	}
	defer rows.Close() // its error comes from rows.Err too
	var events []banger.Event
	for rows.Next() {
		e, err := decodeEvent(rows.Scan)
		if err != nil {
			return nil, failure(ctx, d.path, "read", err)
		}
		events = append(events, e)
	}
	return events, failure(ctx, d.path, "read", rows.Err())
}

// EventBounds are the id of the newest event there ever was, and that of the
// newest one that is pruned; 0 where there is none.
func (d *DB) EventBounds(ctx context.Context) (newest, pruned int64, err error) {
	err = d.db.QueryRowContext(ctx, `SELECT
		coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0),
		coalesce((SELECT min(id) - 1 FROM events), (SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)`).Scan(&newest, &pruned)
	return newest, pruned, failure(ctx, d.path, "read", err)
}

const lastEventQuery = `SELECT ` + eventColumns + ` FROM events WHERE owner = ? AND vm_id = ? ORDER BY id DESC LIMIT 1`

// LastEvent is the newest event of owner's VM with this id, or the zero event.
func (d *DB) LastEvent(ctx context.Context, owner int, vmID string) (banger.Event, error) {
	rows, err := d.db.QueryContext(ctx, lastEventQuery, owner, vmID)
	if err != nil {
		return banger.Event{}, failure(ctx, d.path, "read", err)
	}
	defer rows.Close() // its error comes from rows.Err too
	var e banger.Event
	if rows.Next() {
		if e, err = decodeEvent(rows.Scan); err != nil {
			return e, failure(ctx, d.path, "read", err)
		}
	}
	return e, failure(ctx, d.path, "read", rows.Err())
}

func decodeEvent(scan func(...any) error) (banger.Event, error) {
	var e banger.Event
	var when, detail string
	if err := scan(&e.ID, &when, &e.Type, &e.VM, &e.VMID, &e.Request, &e.Reason, &detail); err != nil {
		return e, err
	}
	var err error
	if e.Time, err = time.Parse(timeFormat, when); err != nil {
		return e, fmt.Errorf("time of event %d: %w", e.ID, err)
	}
	if err := json.Unmarshal([]byte(detail), &e.Detail); err != nil {
		return e, fmt.Errorf("detail of event %d: %w", e.ID, err)
	}
	return e, nil
}
