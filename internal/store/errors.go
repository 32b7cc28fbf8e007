package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"banger.dev/banger"
)

// failure says what went wrong with the database in words for its owner. What
// is a banger.Error already stays as it is.
func failure(ctx context.Context, path, what string, err error) error {
	var known *banger.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	if ctx.Err() != nil {
		return banger.Errorf(banger.KindCancelled, "%s the database: %w", what, context.Cause(ctx))
	}
	var code *sqlite.Error
	if errors.As(err, &code) {
		switch code.Code() & 0xff {
		case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
			return damaged(path, code.Error())
		case sqlite3.SQLITE_FULL:
			return banger.Errorf(banger.KindUnavailable, "%s the database %s: no space is left on its disk: %w", what, path, err).
				WithNext("df -h %s", filepath.Dir(path))
		}
	}
	return banger.Errorf(banger.KindInternal, "%s the database %s: %w", what, path, err)
}

// damaged says what to do about a file that cannot be used. It is never
// removed here: what is left of it may be all that is left.
func damaged(path, reason string) error {
	return &banger.Error{
		Kind: banger.KindInternal,
		Message: fmt.Sprintf("the database %s is damaged (%s): restore it from a backup, or put it aside and begin without VMs",
			path, reason),
		Next: fmt.Sprintf("mkdir -p %[1]s && mv %[2]s* %[1]s", filepath.Join(filepath.Dir(path), "damaged"), path),
	}
}
