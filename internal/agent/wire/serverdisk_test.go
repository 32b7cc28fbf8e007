package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestServerBehindAFileSystem(t *testing.T) {
	for _, size := range []int{1, 511, 512, 513, 5000} {
		program := bytes.Repeat([]byte{'p'}, size)
		disk := bytes.NewBuffer(bytes.Repeat([]byte{'f'}, 4096))
		if err := AppendServer(disk, program); err != nil {
			t.Fatal(err)
		}
		if disk.Len()%512 != 0 {
			t.Errorf("a disk of %d bytes", disk.Len())
		}
		server, err := FindServer(bytes.NewReader(disk.Bytes()), int64(disk.Len()))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(server)
		_, offset, _ := server.Outer()
		if err != nil || !bytes.Equal(got, program) || offset != 4096 {
			t.Errorf("%d bytes at %d, %v, want %d at 4096", len(got), offset, err, size)
		}
	}
}

func FuzzFindServer(f *testing.F) {
	var whole bytes.Buffer
	if err := AppendServer(&whole, []byte("program")); err != nil {
		f.Fatal(err)
	}
	f.Add(whole.Bytes())
	f.Add(whole.Bytes()[512:])
	f.Add(make([]byte, 1024))
	f.Fuzz(func(t *testing.T, disk []byte) {
		server, err := FindServer(bytes.NewReader(disk), int64(len(disk)))
		if err != nil {
			if !errors.Is(err, ErrNoServer) {
				t.Error(err)
			}
			return
		}
		if _, err := io.ReadAll(server); err != nil {
			t.Error(err)
		}
	})
}
