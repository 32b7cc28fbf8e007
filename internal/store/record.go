package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"banger.dev/banger"
)

const columns = `id, owner, name, spec, intent, creating, image_digest, kernel_digest, machine, created, last_error, last_exit, deleting`

const placeholders = `?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?`

// timeFormat is RFC 3339 of fixed width, so that text sorts as time does.
const timeFormat = "2006-01-02T15:04:05.000000000Z"

// Insert adds r. A name that its owner has given already is a conflict, and
// nothing is changed.
func (d *DB) Insert(ctx context.Context, r banger.Record) error {
	return d.write(ctx, "add to", func(tx *sql.Tx) error {
		if err := nameFree(ctx, tx, r); err != nil {
			return err
		}
		values, err := encode(r)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO vms (`+columns+`) VALUES (`+placeholders+`)`, values...)
		return err
	})
}

// Update reads the record with this id, lets change alter it and writes it
// back, in one transaction; the result is what was written. An error of change
// is returned as it is, and nothing is changed. The id, owner and time of
// creation are for ever. change must not call the DB. An event that tell makes
// of what was written is written with it; one without a type is none.
func (d *DB) Update(ctx context.Context, id string, change func(*banger.Record) error, tell ...func(after banger.Record) banger.Event) (banger.Record, error) {
	var after banger.Record
	var refused error
	err := d.write(ctx, "change", func(tx *sql.Tx) error {
		before, err := one(tx.QueryRowContext(ctx, `SELECT `+columns+` FROM vms WHERE id = ?`, id), id)
		if err != nil {
			return err
		}
		if before.Damaged != "" {
			return banger.Errorf(banger.KindConflict, "the row of VM %s cannot be read (%s)", before.Name, before.Damaged).
				WithNext("banger vm delete %s", before.Name)
		}
		after = before
		if refused = change(&after); refused != nil {
			return refused
		}
		if after.ID != before.ID || after.Owner != before.Owner || !after.Created.Equal(before.Created) {
			return fmt.Errorf("id, owner and time of creation of %s cannot be changed", id)
		}
		if err := replace(ctx, tx, after); err != nil {
			return err
		}
		return tellOf(ctx, tx, after, tell)
	})
	if refused != nil {
		return banger.Record{}, refused
	}
	if err != nil {
		return banger.Record{}, err
	}
	return after, nil
}

// MarkDeleting notes for ever that the VM with this id, if there is one, is being
// deleted. Unlike Update it does so to a row that cannot be read too.
func (d *DB) MarkDeleting(ctx context.Context, id string) error {
	return d.write(ctx, "change", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE vms SET deleting = id WHERE id = ?`, id)
		return err
	})
}

// Delete removes the record with this id, if there is one. An event that tell
// makes of the record as it last was is written with it, so once.
func (d *DB) Delete(ctx context.Context, id string, tell ...func(last banger.Record) banger.Event) error {
	return d.write(ctx, "remove from", func(tx *sql.Tx) error {
		last, err := decode(tx.QueryRowContext(ctx, `SELECT `+columns+` FROM vms WHERE id = ?`, id).Scan)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return nil
		case err == nil: // a row that cannot be read can be removed all the same
			if err := tellOf(ctx, tx, last, tell); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM vms WHERE id = ?`, id)
		return err
	})
}

// tellOf writes the events that tell makes of r.
func tellOf(ctx context.Context, tx *sql.Tx, r banger.Record, tell []func(banger.Record) banger.Event) error {
	for _, f := range tell {
		if err := insertEvent(ctx, tx, r.Owner, f(r)); err != nil {
			return err
		}
	}
	return nil
}

// Get is the record of owner's VM with exactly this id.
func (d *DB) Get(ctx context.Context, owner int, id string) (banger.Record, error) {
	d.transactions.Add(1)
	r, err := one(d.db.QueryRowContext(ctx, `SELECT `+columns+` FROM vms WHERE owner = ? AND id = ?`, owner, id), id)
	return r, failure(ctx, d.path, "read", err)
}

// Find is the records of owner that ref may mean, the oldest first: the one with
// this name, and those whose ids begin so.
func (d *DB) Find(ctx context.Context, owner int, ref string) ([]banger.Record, error) {
	return d.query(ctx, findQuery, owner, ref, owner, ref, ref+"g")
}

// findQuery looks both halves up in an index. An id is of hexadecimal digits,
// which all come before "g".
const findQuery = `SELECT ` + columns + ` FROM vms WHERE owner = ? AND name = ?
	UNION SELECT ` + columns + ` FROM vms WHERE owner = ? AND id >= ? AND id < ? ORDER BY created, id`

// List is every record of owner, the oldest first.
func (d *DB) List(ctx context.Context, owner int) ([]banger.Record, error) {
	return d.query(ctx, `SELECT `+columns+` FROM vms WHERE owner = ? ORDER BY created, rowid`, owner)
}

// All is every record of every owner, the oldest first: for recovery and for
// the sweep of strays, never for an answer to a user.
func (d *DB) All(ctx context.Context) ([]banger.Record, error) {
	return d.query(ctx, `SELECT `+columns+` FROM vms ORDER BY created, rowid`)
}

func (d *DB) query(ctx context.Context, query string, args ...any) ([]banger.Record, error) {
	d.transactions.Add(1)
	rows, err := d.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, failure(ctx, d.path, "read", err)
	}
	defer rows.Close() // its error comes from rows.Err too
	records := []banger.Record{}
	for rows.Next() {
		r, err := decode(rows.Scan)
		if err != nil {
			return nil, failure(ctx, d.path, "read", err)
		}
		records = append(records, r)
	}
	return records, failure(ctx, d.path, "read", rows.Err())
}

// write runs f in one transaction, which is on disk when write returns nil.
func (d *DB) write(ctx context.Context, what string, f func(*sql.Tx) error) error {
	d.transactions.Add(1)
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return failure(ctx, d.path, what, err)
	}
	defer tx.Rollback() // nothing after a commit
	if err := f(tx); err != nil {
		return failure(ctx, d.path, what, err)
	}
	if err := tx.Commit(); err != nil {
		return failure(ctx, d.path, what, err)
	}
	d.wake()
	return nil
}

// wake tells those who wait for a change.
func (d *DB) wake() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.changed)
	d.changed = make(chan struct{})
}

// Changed is closed at the next write. Ask for it before reading.
func (d *DB) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

func replace(ctx context.Context, tx *sql.Tx, r banger.Record) error {
	if err := nameFree(ctx, tx, r); err != nil {
		return err
	}
	values, err := encode(r)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE vms SET (`+columns+`) = (`+placeholders+`) WHERE id = ?`,
		append(values, r.ID)...)
	return err
}

// nameFree says whether r can have its name.
func nameFree(ctx context.Context, tx *sql.Tx, r banger.Record) error {
	var id string
	err := tx.QueryRowContext(ctx, `SELECT id FROM vms WHERE owner = ? AND name = ? AND id <> ?`, r.Owner, r.Name, r.ID).Scan(&id)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	return banger.Errorf(banger.KindConflict, "a VM named %q exists already (id %s)", r.Name, id).
		WithNext("banger vm delete %s", r.Name)
}

// encode is r in the order of columns.
func encode(r banger.Record) ([]any, error) {
	spec, err := json.Marshal(r.Spec)
	if err != nil {
		return nil, err
	}
	machine, err := json.Marshal(r.Machine)
	if err != nil {
		return nil, err
	}
	var exit sql.NullString
	if r.LastExit != nil {
		text, err := json.Marshal(r.LastExit)
		if err != nil {
			return nil, err
		}
		exit = sql.NullString{String: string(text), Valid: true}
	}
	creating, deleting := 0, ""
	if r.Creating {
		creating = 1
	}
	if r.Deleting {
		deleting = r.ID
	}
	return []any{
		r.ID, r.Owner, r.Name, string(spec), string(r.Intent), creating, r.ImageDigest, r.KernelDigest,
		string(machine), r.Created.UTC().Format(timeFormat), r.LastError, exit, deleting,
	}, nil
}

// decode is the reverse of encode. What is in a row and cannot be read is said
// in Damaged: it is one VM's misfortune, and no other's.
func decode(scan func(...any) error) (banger.Record, error) {
	var r banger.Record
	var spec, machine, created, deleting string
	var exit sql.NullString
	err := scan(&r.ID, &r.Owner, &r.Name, &spec, &r.Intent, &r.Creating, &r.ImageDigest, &r.KernelDigest,
		&machine, &created, &r.LastError, &exit, &deleting)
	if err != nil {
		return r, err
	}
	unreadable := func(what string, err error) {
		if err != nil && r.Damaged == "" {
			r.Damaged = fmt.Sprintf("%s: %v", what, err)
		}
	}
	unreadable("spec", json.Unmarshal([]byte(spec), &r.Spec))
	unreadable("machine", json.Unmarshal([]byte(machine), &r.Machine))
	r.Created, err = time.Parse(timeFormat, created)
	unreadable("time of creation", err)
	if exit.Valid {
		r.LastExit = new(banger.LastExit)
		unreadable("last exit", json.Unmarshal([]byte(exit.String), r.LastExit))
	}
	if r.Deleting = deleting == r.ID; !r.Deleting && deleting != "" {
		unreadable("mark of being deleted", fmt.Errorf("it is %q", deleting))
	}
	if r.Creating && r.ImageDigest != "" { // both end with the create, and such a VM would be removed
		unreadable("mark of being created", errors.New("it has an image"))
	}
	return r, nil
}

func one(row *sql.Row, id string) (banger.Record, error) {
	r, err := decode(row.Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return r, notFound(id)
	}
	return r, err
}
