package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"

	"banger.dev/banger"
)

//go:embed migrations/*.sql
var migrations embed.FS

// minSize is the smallest page of SQLite. It takes a shorter file for an empty
// database and would begin anew in it.
const minSize = 512

// prepare makes the file when there is none. A new database is made whole
// beside its place and then moved there, so that an empty or half-made file at
// path is always a damaged one and never a beginning.
func prepare(ctx context.Context, path string, log *slog.Logger) error {
	switch info, err := os.Lstat(path); {
	case err == nil && !info.Mode().IsRegular():
		return damaged(path, "it is not a regular file")
	case err == nil && info.Size() < minSize:
		return damaged(path, "it is cut off")
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return failure(ctx, path, "open", err)
	}
	// A journal would be played into the new file.
	if info, err := os.Lstat(path + "-wal"); err == nil && info.Size() > 0 {
		return damaged(path, "it is gone, but its journal "+path+"-wal is there")
	}
	return create(ctx, path, log)
}

func create(ctx context.Context, path string, log *slog.Logger) error {
	fresh := path + ".new"
	for _, name := range []string{fresh, fresh + "-wal", fresh + "-shm"} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return failure(ctx, path, "make", err)
		}
	}
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return failure(ctx, path, "make", err)
	}
	if err := f.Close(); err != nil {
		return failure(ctx, path, "make", err)
	}
	db, err := connect(fresh)
	if err != nil {
		return failure(ctx, path, "make", err)
	}
	// Close writes the journal into the file and removes it.
	if err := errors.Join(migrate(ctx, db, path, log), db.Close()); err != nil {
		return failure(ctx, path, "make", err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return failure(ctx, path, "make", err)
	}
	return failure(ctx, path, "make", syncDir(filepath.Dir(path)))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// migrate brings the schema of db up to the newest that this build knows. Each
// step is one transaction together with its number, so a crash between two is
// nothing but an older schema.
func migrate(ctx context.Context, db *sql.DB, path string, log *slog.Logger) error {
	provider, err := newProvider(db)
	if err != nil {
		return err
	}
	current, target, err := provider.GetVersions(ctx)
	if err != nil {
		return err
	}
	if current > target {
		return banger.Errorf(banger.KindConflict,
			"the database %s is of a newer banger: its schema is %d, this build knows %d", path, current, target).
			WithNext("upgrade banger, or give this build a BANGER_HOME of its own")
	}
	if current == target {
		return nil
	}
	if _, err := provider.Up(ctx); err != nil {
		return err
	}
	log.InfoContext(ctx, "database migrated", "path", path, "from", current, "to", target)
	return nil
}

func newProvider(db *sql.DB) (*goose.Provider, error) {
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectSQLite3, db, steps,
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
}
