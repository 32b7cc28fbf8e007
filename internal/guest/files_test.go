package guest_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/control"
	"banger.dev/banger/internal/agent/files"
	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/guest"
)

// filesPort answers as the agent does.
func filesPort() map[uint32]func(net.Conn) {
	disk := &files.Server{Users: &users.DB{}}
	ctl := &control.Server{Streams: disk.All()}
	return map[uint32]func(net.Conn){wire.PortControl: ctl.Serve}
}

func filesOver(t *testing.T, ports map[uint32]func(net.Conn)) guest.Files {
	t.Helper()
	socket, _ := socketToGuest(t, ports)
	return guest.NewFiles("web", socket)
}

func at(name string) wire.Place { return wire.Place{Path: wire.Text(name)} }

func TestFilesThroughTheWholeChannel(t *testing.T) {
	f := filesOver(t, filesPort())
	dir := t.TempDir()
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // more than is on its way at a time
	done, err := f.Write(t.Context(), wire.WriteFiles{Place: at(dir)}, func(w io.Writer) error {
		out := tar.NewWriter(w)
		for name, content := range map[string][]byte{"a": []byte("small"), "sub/b": big} {
			if err := out.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o640, Size: int64(len(content))}); err != nil {
				return err
			}
			if _, err := out.Write(content); err != nil {
				return err
			}
		}
		return out.Close()
	})
	if err != nil || done.Entries != 2 || done.Bytes != int64(len(big)+5) {
		t.Fatalf("%+v, %v", done, err)
	}
	stat, err := f.Stat(t.Context(), wire.StatFile{Place: at(dir + "/sub/b")})
	if err != nil || !stat.Exists || stat.Kind != wire.KindFile || stat.Size != int64(len(big)) || stat.Mode != 0o640 {
		t.Errorf("%+v, %v", stat, err)
	}
	body, err := f.Read(t.Context(), wire.ReadFiles{Place: at(dir + "/sub"), As: "renamed"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = body.Close() }()
	in := tar.NewReader(body)
	var names []string
	for {
		hdr, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, hdr.Name)
		if content, err := io.ReadAll(in); hdr.Name == "renamed/b" && (err != nil || !bytes.Equal(content, big)) {
			t.Errorf("%d bytes, %v", len(content), err)
		}
	}
	if got := strings.Join(names, " "); got != "renamed/ renamed/b" {
		t.Errorf("the tar holds %s", got)
	}
}

func TestFilesSayWhatIsWrong(t *testing.T) {
	f := filesOver(t, filesPort())
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	nothing := func(w io.Writer) error { return tar.NewWriter(w).Close() }
	_, err := f.Write(t.Context(), wire.WriteFiles{Place: at(dir + "/no")}, nothing)
	wantError(t, err, banger.KindNotFound, dir+"/no")
	_, err = f.Write(t.Context(), wire.WriteFiles{Place: at(dir + "/file")}, nothing)
	wantError(t, err, banger.KindConflict, dir+"/file")
	_, err = f.Read(t.Context(), wire.ReadFiles{Place: at(dir + "/no"), As: "x"})
	wantError(t, err, banger.KindNotFound, "no such file")
	_, err = f.Stat(t.Context(), wire.StatFile{Place: at("relative")})
	wantError(t, err, banger.KindInvalid, "relative")
	_, err = f.Stat(t.Context(), wire.StatFile{Place: wire.Place{Path: "/", User: "nobody-of-this-name"}})
	wantError(t, err, banger.KindNotFound, "nobody-of-this-name")
	t.Run("a stream that the guest ends early", func(t *testing.T) {
		_, err := f.Write(t.Context(), wire.WriteFiles{Place: at(dir)}, func(w io.Writer) error {
			_, err := w.Write(bytes.Repeat([]byte("no tar at all "), 1<<20))
			return err
		})
		wantError(t, err, banger.KindUnavailable, "invalid tar header")
	})
	t.Run("a sender that fails", func(t *testing.T) {
		_, err := f.Write(t.Context(), wire.WriteFiles{Place: at(dir)}, func(io.Writer) error { return errors.New("the disk on this side") })
		wantError(t, err, banger.KindInternal, "the disk on this side")
	})
	t.Run("interrupted", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := f.Write(ctx, wire.WriteFiles{Place: at(dir)}, func(w io.Writer) error {
			cancel()
			for {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return err
				}
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func wantError(t *testing.T, err error, kind banger.Kind, says string) {
	t.Helper()
	if err == nil || banger.KindOf(err) != kind || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v (%s), want %s with %q", err, banger.KindOf(err), kind, says)
	}
}

// TestAGuestThatAnswersAnything: no answer makes the host hang or take more
// memory than it may.
func TestAGuestThatAnswersAnything(t *testing.T) {
	for name, answer := range map[string]func(net.Conn){
		"nothing":        func(net.Conn) {},
		"garbage":        func(c net.Conn) { _, _ = io.WriteString(c, "\x00\xff\n\n\n") },
		"a head forever": func(c net.Conn) { endless(c, "HTTP/1.1 200 OK\r\n", "A: b\r\n") },
		"a line forever": func(c net.Conn) { endless(c, "HTTP/1.1 200 OK\r\nA: ", "b") },
		"a body forever": func(c net.Conn) { endless(c, "HTTP/1.1 200 OK\r\n\r\n", "{") },
		"no JSON":        func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]") },
		"a long error": func(c net.Conn) {
			text := strings.Repeat("x", 1<<19)
			_, _ = fmt.Fprintf(c, "HTTP/1.1 500 No\r\nContent-Length: %d\r\n\r\n{\"error\":\"%s\"}", len(text)+12, text)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := filesOver(t, map[uint32]func(net.Conn){wire.PortControl: func(c net.Conn) {
				answer(c)
				_ = c.Close()
			}})
			_, err := f.Stat(t.Context(), wire.StatFile{Place: at("/")})
			if err == nil || banger.NextOf(err) == "" && name != "a long error" || len(err.Error()) > 2000 {
				t.Errorf("got %.300v", err)
			}
		})
	}
	t.Run("an agent of before files", func(t *testing.T) {
		f := filesOver(t, map[uint32]func(net.Conn){wire.PortControl: (&control.Server{}).Serve})
		_, err := f.Stat(t.Context(), wire.StatFile{Place: at("/")})
		wantError(t, err, banger.KindUnavailable, "older")
	})
	t.Run("a tar that breaks off", func(t *testing.T) {
		f := filesOver(t, map[uint32]func(net.Conn){wire.PortControl: func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
			_ = c.Close()
		}})
		body, err := f.Read(t.Context(), wire.ReadFiles{Place: at("/")})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = body.Close() }()
		got, err := io.ReadAll(body)
		if string(got) != "hello" || banger.KindOf(err) != banger.KindUnavailable {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func endless(c net.Conn, head, more string) {
	if _, err := io.WriteString(c, head); err != nil {
		return
	}
	block := []byte(strings.Repeat(more, 1<<12))
	for {
		if _, err := c.Write(block); err != nil {
			return
		}
	}
}

// TestFilesAreAUsersOwn needs root: nobody else can be anybody.
func TestFilesAreAUsersOwn(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	f := filesOver(t, filesPort())
	dir := t.TempDir()
	for _, name := range []string{dir, filepath.Dir(dir)} { // not above: that is the host's own
		_ = os.Chmod(name, 0o755)
	}
	mine := func(user, dir string) error {
		_, err := f.Write(t.Context(), wire.WriteFiles{Place: wire.Place{Path: wire.Text(dir), User: user}}, func(w io.Writer) error {
			out := tar.NewWriter(w)
			if err := out.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, Mode: 0o600, Uid: 7}); err != nil {
				return err
			}
			return out.Close()
		})
		return err
	}
	if err := mine("4321:4321", dir); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("in root's directory: %v", err)
	}
	if err := os.Chown(dir, 4321, 4321); err != nil {
		t.Fatal(err)
	}
	if err := mine("4321:4321", dir); err != nil {
		t.Error(err)
	}
	owner(t, dir+"/f", 4321)
	if err := mine("", dir); err != nil {
		t.Error(err)
	}
	owner(t, dir+"/f", 0)
	if _, err := f.Read(t.Context(), wire.ReadFiles{Place: wire.Place{Path: wire.Text(dir + "/f"), User: "4321"}, As: "f"}); err == nil {
		t.Error("a user reads what root alone may")
	}
}

func owner(t *testing.T, name string, uid uint32) {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Sys().(*syscall.Stat_t).Uid; got != uid {
		t.Errorf("%s belongs to %d, want %d", name, got, uid)
	}
}
