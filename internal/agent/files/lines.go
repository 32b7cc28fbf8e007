package files

import (
	"bufio"
	"encoding/json"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/archive"
	"banger.dev/banger/internal/agent/wire"
)

// maxLine bounds a line: a path of 4096 bytes that is all escapes, and numbers.
const maxLine = 64 << 10

// eachLine decodes what follows a request, a value a line.
func eachLine[T any](in io.Reader, do func(T) error) error {
	scan := bufio.NewScanner(in)
	scan.Buffer(nil, maxLine)
	for scan.Scan() {
		var v T
		if err := decode(scan.Bytes(), &v); err != nil {
			return err
		}
		if err := do(v); err != nil {
			return err
		}
	}
	return scan.Err()
}

func stampOf(name string, st unix.Stat_t) wire.Stamp {
	stamp := wire.Stamp{Path: wire.Text(name), Mode: st.Mode, MTime: st.Mtim.Nano(), CTime: st.Ctim.Nano()}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		stamp.Size = st.Size
	}
	return stamp
}

// writeStamps writes a line for each of the files with these names. Not before
// all of them are made: a further name of a file changes its ctime.
func writeStamps(out io.Writer, dir *os.File, names []string) error {
	tree := archive.NewTree(dir)
	defer tree.Close()
	enc := json.NewEncoder(out)
	for _, name := range names {
		st, err := tree.Lstat(name)
		if archive.IsAbsent(err) {
			continue
		}
		if err == nil {
			err = enc.Encode(stampOf(name, st))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
