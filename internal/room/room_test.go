package room

import (
	"bytes"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
)

func TestEnough(t *testing.T) {
	const block = 4096
	blocks := func(b banger.Bytes) uint64 { return uint64(b) / block }
	for name, test := range map[string]struct {
		fs   unix.Statfs_t
		more banger.Bytes
		fits bool
	}{
		"plenty":          {unix.Statfs_t{Bavail: blocks(banger.GiB), Files: 1 << 20, Ffree: 1 << 20}, 0, true},
		"more fits":       {unix.Statfs_t{Bavail: blocks(banger.GiB), Files: 1 << 20, Ffree: 1 << 20}, 512 * banger.MiB, true},
		"more does not":   {unix.Statfs_t{Bavail: blocks(banger.GiB), Files: 1 << 20, Ffree: 1 << 20}, banger.GiB, false},
		"nearly full":     {unix.Statfs_t{Bavail: blocks(200 * banger.MiB), Files: 1 << 20, Ffree: 1 << 20}, 0, false},
		"no files left":   {unix.Statfs_t{Bavail: blocks(banger.GiB), Files: 1 << 20, Ffree: 10}, 0, false},
		"counts no files": {unix.Statfs_t{Bavail: blocks(banger.GiB)}, 0, true},
	} {
		test.fs.Bsize = block
		err := enough(test.fs, "/x", int64(test.more))
		if (err == nil) != test.fits || err != nil && banger.NextOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReaderPassesOnWhatFits(t *testing.T) {
	want := bytes.Repeat([]byte("content "), 1000)
	got, err := io.ReadAll(Reader(bytes.NewReader(want), t.TempDir()))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
	}
	if _, err := io.ReadAll(Reader(bytes.NewReader(want), "/no/such")); !os.IsNotExist(err) {
		t.Errorf("without a directory: %v", err)
	}
}
