package userns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// RemoveAll removes a directory with files of subordinate owners, which a plain
// user cannot remove as itself. It is nil when there is no such directory.
func RemoveAll(ctx context.Context, dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if os.RemoveAll(dir) == nil {
		return nil
	}
	rm, err := Find("rm", "coreutils")
	if err != nil {
		return err
	}
	if err := (Command{Argv: []string{rm, "-rf", "--one-file-system", "--", dir}}).Run(ctx); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}
