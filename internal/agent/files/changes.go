package files

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/archive"
	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
)

// Changes answers wire.PathChanges. It says what has other stamps; whether that
// is a change of content the other side sees.
func (s *Server) Changes(body io.Reader, answer io.Writer) error {
	in := bufio.NewReaderSize(body, answerBuffer)
	var req wire.ChangesRequest
	if err := readLine(in, &req); err != nil {
		return err
	}
	known := map[string]wire.Stamp{}
	if err := eachLine(in, func(stamp wire.Stamp) error {
		known[string(stamp.Path)] = stamp
		return nil
	}); err != nil {
		return err
	}
	return s.at(req.Place, func(name string, _ users.Identity) error {
		dir, err := archive.OpenDir(name)
		if err != nil {
			return failure(err)
		}
		defer func() { _ = dir.Close() }()
		out := bufio.NewWriterSize(answer, answerBuffer)
		c := changes{known: known, git: req.Git, enc: json.NewEncoder(out)}
		if err := c.walk(dir, "."); err != nil {
			return failure(err)
		}
		for gone := range known {
			if err := c.enc.Encode(wire.Change{Stamp: wire.Stamp{Path: wire.Text(gone)}, Gone: true}); err != nil {
				return err
			}
		}
		return out.Flush()
	})
}

// changes is one walk through a tree. What it has found is no longer in known.
type changes struct {
	known map[string]wire.Stamp
	git   bool
	enc   *json.Encoder
}

func (c changes) walk(dir *os.File, below string) error {
	return archive.List(dir, func(base string, st unix.Stat_t) error {
		name := path.Join(below, base)
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			if base == ".git" && !c.git {
				return nil
			}
			return c.enter(dir, base, name)
		}
		stamp := stampOf(name, st)
		was, found := c.known[name]
		delete(c.known, name)
		if found && was == stamp {
			return nil
		}
		return c.enc.Encode(wire.Change{Stamp: stamp})
	})
}

func (c changes) enter(dir *os.File, base, name string) error {
	sub, err := archive.OpenDirAt(dir, base)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = sub.Close() }()
	return c.walk(sub, name)
}
