package transfer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/control"
	"banger.dev/banger/internal/agent/files"
	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/guest"
)

// theGuest is the agent's own server without a guest around it: its root is
// this machine's, so that a test copies between two temporary directories.
func theGuest() Copy {
	disk := &files.Server{Users: &users.DB{}}
	ctl := &control.Server{Streams: disk.All()}
	return served(ctl.Serve)
}

func served(serve func(net.Conn)) Copy {
	return Copy{Guest: guest.Files{Name: "web", Dial: func(context.Context) (net.Conn, error) {
		ours, theirs, err := pair()
		if err == nil {
			go serve(theirs)
		}
		return ours, err
	}}}
}

// pair is a connection that buffers, as the guest channel does.
func pair() (net.Conn, net.Conn, error) {
	dir, err := os.MkdirTemp("", "bng")
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ln, err := net.Listen("unix", dir+"/s")
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = ln.Close() }()
	ours, err := net.Dial("unix", dir+"/s")
	if err != nil {
		return nil, nil, err
	}
	theirs, err := ln.Accept()
	return ours, theirs, err
}

// lay makes files: "name" with itself as content, "name/", "name -> target".
func lay(t *testing.T, dir string, entries ...string) {
	t.Helper()
	for _, e := range entries {
		name, target, link := strings.Cut(e, " -> ")
		full := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(full), 0o755)
		switch {
		case err != nil:
		case link:
			err = os.Symlink(target, full)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(full, 0o755)
		default:
			err = os.WriteFile(full, []byte(name), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// found is what lay would be given to make dir.
func found(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		short, _ := filepath.Rel(dir, name)
		switch {
		case d.IsDir():
			short += "/"
		case d.Type()&os.ModeSymlink != 0:
			target, _ := os.Readlink(name)
			short += " -> " + target
		default:
			content, _ := os.ReadFile(name)
			short += "=" + string(content)
		}
		all = append(all, short)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(all)
	return strings.Join(all, ", ")
}

// TestTheRulesOfDockerCp is one table for both directions.
func TestTheRulesOfDockerCp(t *testing.T) {
	const source = "f, d/, d/in, to-f -> f, to-d -> d"
	for _, test := range []struct {
		there  string // what the destination holds before
		src    string
		dst    string
		follow bool
		want   string // what it holds afterwards, or an error that begins with !
	}{
		{src: "f", dst: "new", want: "new=f"},
		{src: "f", dst: "", want: "f=f"},
		{src: "f", dst: ".", want: "f=f"},
		{src: "f", dst: "new/", want: "!is not there"},
		{src: "f", dst: "no/new", want: "!is not there"},
		{there: "old", src: "f", dst: "old", want: "old=f"},
		{there: "old", src: "f", dst: "old/", want: "!no directory"},
		{there: "dir/", src: "f", dst: "dir", want: "dir/, dir/f=f"},
		{there: "dir/", src: "f", dst: "dir/", want: "dir/, dir/f=f"},
		{there: "dir/f/", src: "f", dst: "dir", want: "!there already"},
		{there: "dir/, l -> dir", src: "f", dst: "l", want: "dir/, dir/f=f, l -> dir"},
		{there: "old, l -> old", src: "f", dst: "l", want: "l -> old, old=f"},
		{there: "l -> new", src: "f", dst: "l", want: "l -> new, new=f"},
		{src: "f/", dst: "new", want: "!no directory"},
		{src: "no", dst: "new", want: "!"},
		{src: "d", dst: "new", want: "new/, new/in=d/in"},
		{src: "d", dst: "new/", want: "new/, new/in=d/in"},
		{src: "d/.", dst: "new", want: "new/, new/in=d/in"},
		{src: "d", dst: "no/new", want: "!is not there"},
		{there: "old", src: "d", dst: "old", want: "!a file"},
		{there: "dir/", src: "d", dst: "dir", want: "dir/, dir/d/, dir/d/in=d/in"},
		{there: "dir/", src: "d/", dst: "dir", want: "dir/, dir/d/, dir/d/in=d/in"},
		{there: "dir/", src: "d/.", dst: "dir", want: "dir/, dir/in=d/in"},
		{there: "dir/d/other", src: "d", dst: "dir", want: "dir/, dir/d/, dir/d/in=d/in, dir/d/other=dir/d/other"},
		{there: "dir/d", src: "d", dst: "dir", want: "!there already"},
		{there: "dir/elsewhere/, dir/d -> elsewhere", src: "d", dst: "dir", want: "!there already"},
		{src: "to-f", dst: "new", want: "new -> f"},
		{src: "to-f", dst: "new", follow: true, want: "new=f"},
		{src: "to-d", dst: "new", want: "new -> d"},
		{src: "to-d", dst: "new", follow: true, want: "new/, new/in=d/in"},
		{src: "to-d/", dst: "new", want: "new/, new/in=d/in"},
		{src: "to-d/.", dst: "new", want: "new/, new/in=d/in"},
	} {
		for _, direction := range []string{"in", "out"} {
			t.Run(fmt.Sprintf("%s %s to %q beside %q", direction, test.src, test.dst, test.there), func(t *testing.T) {
				from, to := t.TempDir(), t.TempDir()
				lay(t, from, strings.Split(source, ", ")...)
				if test.there != "" {
					lay(t, to, strings.Split(test.there, ", ")...)
				}
				c := theGuest()
				c.Follow = test.follow
				do := c.In
				if direction == "out" {
					do = c.Out
				}
				_, err := do(t.Context(), from+"/"+test.src, to+"/"+test.dst)
				if says, fails := strings.CutPrefix(test.want, "!"); fails {
					if err == nil || !strings.Contains(err.Error(), says) {
						t.Errorf("got %v, want %q", err, says)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := found(t, to); got != test.want {
					t.Errorf("got %s, want %s", got, test.want)
				}
			})
		}
	}
}

func TestStreams(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	lay(t, from, "d/in", "d/sub/deep")
	c := theGuest()
	var b bytes.Buffer
	if err := c.StreamOut(t.Context(), from+"/d", &b); err != nil {
		t.Fatal(err)
	}
	if _, err := c.StreamIn(t.Context(), bytes.NewReader(b.Bytes()), to); err != nil {
		t.Fatal(err)
	}
	if got, want := found(t, to), found(t, from); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for dst, says := range map[string]string{to + "/no": "is not there", to + "/d/in": "no directory"} {
		if _, err := c.StreamIn(t.Context(), bytes.NewReader(b.Bytes()), dst); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v", dst, err)
		}
	}
	if _, err := c.StreamIn(t.Context(), strings.NewReader("this is no tar, but long enough to look like something"), to); err == nil {
		t.Error("what is no tar is unpacked")
	}
}

// hostile is a guest that says what stat and the tar are.
func hostile(stat string, archive []byte) Copy {
	return served((&control.Server{Streams: map[string]func(io.Reader, io.Writer) error{
		wire.PathStat: func(_ io.Reader, w io.Writer) error { _, err := io.WriteString(w, stat); return err },
		wire.PathRead: func(_ io.Reader, w io.Writer) error { _, err := w.Write(archive); return err },
	}}).Serve)
}

// TestAHostileGuest: one that is asked for a file or a directory brings
// something else. Nothing but what was named may change.
func TestAHostileGuest(t *testing.T) {
	const file, dir = `{"exists":true,"kind":"file","size":1}`, `{"exists":true,"kind":"dir"}`
	reg := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o777} }
	for name, test := range map[string]struct {
		stat    string
		entries []tar.Header
	}{
		"another file":              {file, []tar.Header{reg("got"), reg(".bashrc")}},
		"another file first":        {file, []tar.Header{reg(".bashrc"), reg("got")}},
		"a directory for a file":    {file, []tar.Header{{Name: "got/", Typeflag: tar.TypeDir}, reg("got/x")}},
		"files below a file":        {file, []tar.Header{reg("got/x")}},
		"a link for a directory":    {dir, []tar.Header{{Name: "got", Typeflag: tar.TypeSymlink, Linkname: ".."}, reg("got/victim")}},
		"files beside a directory":  {dir, []tar.Header{{Name: "got/", Typeflag: tar.TypeDir}, reg("gotcha")}},
		"files above a directory":   {dir, []tar.Header{{Name: "got/", Typeflag: tar.TypeDir}, reg("got/../victim")}},
		"files outside":             {dir, []tar.Header{reg("got/../../victim")}},
		"a link and a file through": {dir, []tar.Header{{Name: "got/l", Typeflag: tar.TypeSymlink, Linkname: "../.."}, reg("got/l/victim")}},
		"a hard link to outside":    {dir, []tar.Header{{Name: "got/l", Typeflag: tar.TypeLink, Linkname: "victim"}}},
		"nothing":                   {file, nil},
		"a stat that is garbage":    {`{"exists":"maybe"}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for _, hdr := range test.entries {
				if err := w.WriteHeader(&hdr); err != nil {
					t.Fatal(err)
				}
			}
			_ = w.Close()
			to := t.TempDir()
			lay(t, to, "home/victim", "victim")
			_, err := hostile(test.stat, b.Bytes()).Out(t.Context(), "/root/got", to+"/home")
			if err == nil {
				t.Error("no word of it")
			}
			for _, path := range []string{"victim", "home/victim"} {
				if content, err := os.ReadFile(to + "/" + path); err != nil || string(content) != path {
					t.Errorf("%s is %q, %v", path, content, err)
				}
			}
			for _, path := range []string{"home/.bashrc", "home/gotcha"} {
				if _, err := os.Lstat(to + "/" + path); err == nil {
					t.Errorf("%s is there", path)
				}
			}
		})
	}
}

// Whoever writes holes in such a form costs us time for each byte of them.
func TestHolesInAFormOfNoAgentsAreRefused(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	if err := errors.Join(os.WriteFile(from+"/got", []byte("data"), 0o600), os.Truncate(from+"/got", 1<<40)); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"--format=gnu", "--format=pax --sparse-version=1.0"} {
		archive, err := exec.Command("tar", append(strings.Fields(form), "--sparse", "-C", from, "-c", "got")...).Output()
		if err != nil {
			t.Fatal(err)
		}
		_, err = hostile(`{"exists":true,"kind":"file","size":1}`, archive).Out(t.Context(), "/root/got", to)
		if banger.KindOf(err) != banger.KindUnavailable || !strings.Contains(err.Error(), "holes") {
			t.Errorf("%s: %v", form, err)
		}
	}
	if left := found(t, to); left != "" {
		t.Errorf("there is %s", left)
	}
}

func TestACopyTellsHowFarItIs(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	if err := os.WriteFile(from+"/f", make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	var last banger.Progress
	c := theGuest()
	c.Progress = func(p banger.Progress) { last = p }
	if _, err := c.In(t.Context(), from+"/f", to); err != nil {
		t.Fatal(err)
	}
	if last.Total != 4<<20 || !last.Bytes || last.Done == 0 {
		t.Errorf("told %+v", last)
	}
}
