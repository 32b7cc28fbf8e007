package cli

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
)

// openTerminal gives both ends of a terminal; what is shown on it collects in shown.
func openTerminal(t *testing.T) (user, tty *os.File, shown *screen) {
	t.Helper()
	blocking, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	user = closable(t, blocking)
	if err := pty.Setsize(tty, &pty.Winsize{Rows: 40, Cols: 120}); err != nil {
		t.Fatal(err)
	}
	shown = &screen{done: make(chan struct{})}
	go shown.watch(user)
	t.Cleanup(func() {
		_ = tty.Close()
		_ = user.Close() // hangs up, which ends a read of stdin that a command left behind
		<-shown.done
	})
	return user, tty, shown
}

// closable is f as a file whose Close does not wait for a Read of it.
func closable(t *testing.T, f *os.File) *os.File {
	t.Helper()
	defer func() { _ = f.Close() }()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), f.Name())
}

type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
	done chan struct{}
}

func (s *screen) watch(user io.Reader) {
	defer close(s.done)
	buf := make([]byte, 4096)
	for {
		n, err := user.Read(buf)
		s.mu.Lock()
		s.text.Write(buf[:n])
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// wait waits until text has been shown.
func (s *screen) wait(t *testing.T, text string) {
	t.Helper()
	s.times(t, text, 1)
}

// times waits until text has been shown n times.
func (s *screen) times(t *testing.T, text string, n int) {
	t.Helper()
	if !soon(func() bool { return strings.Count(s.String(), text) >= n }) {
		t.Fatalf("%q was not shown %d times, but %q", text, n, s)
	}
}

func TestExecOnATerminal(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.add("web", banger.StateRunning)
	user, tty, shown := openTerminal(t)
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	var key [1]byte
	w.command = func(c *guestCall) wire.Exit {
		if !c.TTY || c.Rows != 40 || c.Cols != 120 {
			t.Errorf("asked %+v", c.Request)
		}
		_, _ = user.Write([]byte{3}) // Ctrl-C is a key like any other
		_, _ = io.ReadFull(c.stdin, key[:])
		_, _ = io.WriteString(c.stdout, "raw\n")
		_ = pty.Setsize(tty, &pty.Winsize{Rows: 50, Cols: 90})
		_ = syscall.Kill(os.Getpid(), syscall.SIGWINCH)
		size := <-c.resizes
		if size != [2]uint16{50, 90} {
			t.Errorf("resized to %v", size)
		}
		return exitWith(5)
	}
	var stderr bytes.Buffer
	if code := Run(context.Background(), w.process(tty, tty, &stderr), []string{"exec", "-t", "web", "sh"}); code != 5 || stderr.Len() != 0 {
		t.Errorf("code %d, stderr %q", code, &stderr)
	}
	if key[0] != 3 {
		t.Errorf("the guest got %v", key)
	}
	shown.wait(t, "raw\n")
	if strings.Contains(shown.String(), "raw\r\n") {
		t.Error("the terminal was not raw")
	}
	after, err := term.GetState(int(tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if *after != *before {
		t.Errorf("the terminal is left as %+v, was %+v", after, before)
	}
}

func TestShellOnATerminal(t *testing.T) {
	for _, test := range []struct {
		args string
		tty  bool
	}{
		{"run --rm", true}, {"run --rm -- sh", false}, {"run --rm -t -- sh", true},
	} {
		w := newWorld(t).withDaemon()
		_, tty, _ := openTerminal(t)
		var got wire.Request
		w.command = func(c *guestCall) wire.Exit {
			got = c.Request
			return exitWith(0)
		}
		var stderr bytes.Buffer
		if code := Run(context.Background(), w.process(tty, tty, &stderr), strings.Fields(test.args)); code != 0 {
			t.Errorf("%s: code %d, stderr %q", test.args, code, &stderr)
		}
		if got.TTY != test.tty {
			t.Errorf("%s: tty %v", test.args, got.TTY)
		}
	}
}

func TestLogsOnATerminal(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.add("web", banger.StateStopped)
	_, tty, shown := openTerminal(t)
	if code := Run(context.Background(), w.process(tty, tty, tty), []string{"vm", "logs", "web"}); code != 0 {
		t.Errorf("code %d", code)
	}
	shown.wait(t, `boot\x1b[31m`)
	if strings.ContainsRune(shown.String(), 0x1b) {
		t.Errorf("%q", shown)
	}
}

func TestPruneAsksOnATerminal(t *testing.T) {
	for answer, left := range map[string]string{"y\n": "", "\n": "old\n", "no\n": "old\n"} {
		w := newWorld(t).withDaemon()
		w.add("old", banger.StateStopped)
		user, tty, shown := openTerminal(t)
		go func() {
			shown.wait(t, "Delete old with all that is on their disks? [y/N]")
			_, _ = io.WriteString(user, answer)
		}()
		code := Run(context.Background(), w.process(tty, tty, tty), []string{"vm", "prune"})
		if want := map[bool]int{true: 0, false: 130}[left == ""]; code != want {
			t.Errorf("%q: code %d: %q", answer, code, shown)
		}
		w.run("vm", "list", "-q").want(t, 0, left, "")
	}
}

// TestBar is about the bar on a terminal: it comes, it moves, it goes.
func TestBar(t *testing.T) {
	_, tty, shown := openTerminal(t)
	b := &bar{out: tty}
	b.show(banger.Progress{Stage: "pull image", Message: "deb\x07ian", Done: 10 << 20, Total: 100 << 20, Bytes: true})
	shown.wait(t, `pull image: deb\x07ian`)
	shown.wait(t, "10.0 MiB / 100.0 MiB")
	b.show(banger.Progress{Stage: "pull image", Message: "debian", Done: 100 << 20, Total: 100 << 20, Bytes: true})
	shown.wait(t, "100.0 MiB / 100.0 MiB")
	b.show(banger.Progress{Stage: "boot"})
	shown.wait(t, "boot")
	b.close()
	_, _ = io.WriteString(tty, "after")
	shown.wait(t, "after")
	if at := strings.LastIndex(shown.String(), "boot"); !strings.Contains(shown.String()[at:], "\x1b[J") {
		t.Errorf("the bar is still there: %q", shown.String()[at:])
	}
	(&bar{out: tty}).close() // nothing was ever shown
}
