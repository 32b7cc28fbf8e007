package server

import (
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"banger.dev/banger"
)

func TestAFullDiskLeadsOn(t *testing.T) {
	full := &fs.PathError{Op: "write", Path: "/cache/x", Err: syscall.ENOSPC}
	for next, err := range map[string]error{
		"banger system df": fmt.Errorf("make the image: %w", full),
		"df -h /other":     banger.Errorf(banger.KindUnavailable, "%w", full).WithNext("df -h /other"),
		"":                 fs.ErrPermission,
	} {
		if got := wireError("1", err); got.Next != next || got.Message != err.Error() {
			t.Errorf("%+v, want %q", got, next)
		}
	}
}
