// Package store keeps the durable part of every VM (banger.Record) in SQLite,
// and is the only package that knows SQL. It holds no policy and nothing of
// this boot of the host: what a VM is at this moment is not here.
package store

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"banger.dev/banger"
)

// DB is an open database. All methods may be called from any goroutine; they
// take turns on one connection.
type DB struct {
	db   *sql.DB
	path string

	transactions atomic.Int64

	mu      sync.Mutex
	changed chan struct{} // closed, and made anew, at every write
}

// Open opens the database at path, makes it when there is none, and brings its
// schema up to this build's. The caller holds the daemon's lock: there is one
// process at a time. A damaged file, or one of a newer build, is an error and
// stays as it is.
func Open(ctx context.Context, path string, log *slog.Logger) (*DB, error) {
	if err := prepare(ctx, path, log); err != nil {
		return nil, err
	}
	db, err := connect(path)
	if err != nil {
		return nil, failure(ctx, path, "open", err)
	}
	d := &DB{db: db, path: path, changed: make(chan struct{})}
	if err := d.check(ctx); err != nil {
		return nil, errors.Join(failure(ctx, path, "check", err), db.Close())
	}
	if err := migrate(ctx, db, path, log); err != nil {
		return nil, errors.Join(failure(ctx, path, "migrate", err), db.Close())
	}
	return d, nil
}

// Transactions is how many reads and writes of VMs there were, and writes of
// events, each a transaction of its own: the most of what a verb costs.
func (d *DB) Transactions() int64 { return d.transactions.Load() }

// Close writes the journal back and closes the file.
func (d *DB) Close() error { return d.db.Close() }

// connect opens the file with the settings that hold for every connection.
//
// synchronous=FULL, because a row lost with the power would make its VM's disk
// a stray to be swept; a VM costs a handful of writes in its life, so the fsync
// of each is nothing. One connection: writers then never meet SQLITE_BUSY, and
// one page cache of 512 KiB is all the memory it takes.
func connect(path string) (*sql.DB, error) {
	settings := url.Values{
		"_pragma": {
			"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)",
			"foreign_keys(ON)", "cache_size(-512)", "trusted_schema(OFF)",
		},
		"_txlock": {"immediate"},
	}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: settings.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(1)
	return db, nil
}

// check reads the whole file once, which finds pages that are missing or not
// what they should be. The file is small.
func (d *DB) check(ctx context.Context) error {
	var verdict string
	if err := d.db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return damaged(d.path, strings.Join(strings.Fields(verdict), " "))
	}
	// SQLite gives -wal and -shm the mode of the file itself.
	return os.Chmod(d.path, 0o600)
}

// notFound is the answer to an id that no row has.
func notFound(id string) error {
	return banger.Errorf(banger.KindNotFound, "no VM has the id %q", id).WithNext("banger vm list")
}
