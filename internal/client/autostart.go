package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/ipc"
	"banger.dev/banger/internal/paths"
)

const (
	// startTimeout is how long a new daemon may take to answer.
	startTimeout = 10 * time.Second
	// queueTimeout is how long a client waits for others that start a daemon.
	queueTimeout = 2 * startTimeout
	// startPoll is how often a new daemon is asked whether it answers.
	startPoll = 3 * time.Millisecond
	// daemonPath is the daemon's PATH, whatever the user's is.
	daemonPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// Autostart says how a daemon is started when nobody answers. The zero value
// starts the bangerd that belongs to this program.
type Autostart struct {
	Disabled bool
	Binary   string   // path of bangerd; "": beside this program, else in PATH
	Environ  []string // what the daemon's environment is chosen from; nil: this process's
}

// start starts a daemon unless somebody else has meanwhile, and returns when it
// answers. However many call it at once, one daemon is started: the others wait
// for its starter.
func (a Autostart) start(ctx context.Context, layout paths.Layout) (*Client, error) {
	if err := ipc.PrivateDir(layout.Run); err != nil {
		return nil, err
	}
	queue, cancel := context.WithTimeout(ctx, queueTimeout)
	defer cancel()
	lock, err := ipc.LockWait(queue, layout.StartLock())
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	conn, err := ipc.Dial(ctx, layout.DaemonSocket())
	if err == nil {
		return newClient(layout, conn), nil
	}
	if !errors.Is(err, ipc.ErrNobody) {
		return nil, err
	}
	child, err := a.spawn(layout)
	if err != nil {
		return nil, err
	}
	return child.await(ctx, layout)
}

// daemon is a bangerd that has been started and does not answer yet.
type daemon struct {
	process *os.Process
	log     string
	offset  int64      // where in the log it begins
	exited  chan error // gets how it ended, if it does
}

// spawn starts bangerd on its own: in a session of its own, at the root of the
// file system, with nothing of ours open and a short environment.
func (a Autostart) spawn(layout paths.Layout) (*daemon, error) {
	binary, err := a.binary()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(layout.State, 0o700); err != nil {
		return nil, banger.Errorf(banger.KindUnavailable, "make the directory %s: %w", layout.State, err)
	}
	log, err := os.OpenFile(layout.DaemonLog(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, banger.Errorf(banger.KindUnavailable, "open the daemon's log: %w", err)
	}
	defer func() { _ = log.Close() }() // the child has its own
	offset, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, banger.Errorf(banger.KindInternal, "read the daemon's log %s: %w", layout.DaemonLog(), err)
	}
	// What this process was given open, such as a script's pipes, must not stay
	// open for as long as the daemon lives. Older kernels than 5.11 cannot.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	cmd := exec.Command(binary)
	cmd.Dir = "/"
	cmd.Env = a.environment()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, banger.Errorf(banger.KindUnavailable, "start the daemon %s: %w", binary, err).WithNext("make build")
	}
	d := &daemon{process: cmd.Process, log: layout.DaemonLog(), offset: offset, exited: make(chan error, 1)}
	go func() { d.exited <- cmd.Wait() }()
	return d, nil
}

// await returns when the daemon answers, or has ended, or takes too long. It is
// left alone in the last case: it may have many VMs to look after first.
func (d *daemon) await(ctx context.Context, layout paths.Layout) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(startPoll)
	defer tick.Stop()
	for {
		if c := answering(ctx, layout); c != nil {
			return c, nil
		}
		select {
		case err := <-d.exited:
			// It ends too when it finds another at work.
			if c := answering(ctx, layout); c != nil {
				return c, nil
			}
			return nil, d.failure(err)
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return nil, banger.Errorf(banger.KindCancelled, "interrupted while the daemon was starting: %w", ctx.Err())
			}
			return nil, banger.Errorf(banger.KindUnavailable, "the daemon was started and does not answer after %s%s", startTimeout, d.said()).
				WithNext("banger daemon logs")
		case <-tick.C:
		}
	}
}

// answering is a client of the daemon if it answers a ping, else nil.
func answering(ctx context.Context, layout paths.Layout) *Client {
	conn, err := ipc.Dial(ctx, layout.DaemonSocket())
	if err != nil {
		return nil
	}
	c := newClient(layout, conn)
	if _, err := c.Ping(ctx); err != nil {
		c.Close()
		return nil
	}
	return c
}

func (d *daemon) failure(err error) error {
	how := "exit status 0"
	if err != nil {
		how = err.Error()
	}
	return banger.Errorf(banger.KindUnavailable, "the daemon ended before it answered (%s)%s", how, d.said()).WithNext("banger daemon logs")
}

// said is the last lines that the daemon wrote to its log, in one line.
func (d *daemon) said() string {
	const maxBytes, maxLines = 4 << 10, 3
	f, err := os.Open(d.log)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	tail := make([]byte, max(0, min(end-d.offset, maxBytes)))
	n, _ := f.ReadAt(tail, end-int64(len(tail))) // what can be read is better than nothing
	lines := strings.FieldsFunc(string(tail[:n]), func(r rune) bool { return r == '\n' || r == '\r' })
	if len(lines) == 0 {
		return ""
	}
	return ": " + strings.Join(lines[max(0, len(lines)-maxLines):], " | ")
}

// binary is the path of bangerd.
func (a Autostart) binary() (string, error) {
	if a.Binary != "" {
		return a.Binary, nil
	}
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return "", banger.Errorf(banger.KindInternal, "find this program's own path: %w", err)
	}
	beside := filepath.Join(filepath.Dir(self), "bangerd")
	if path, err := exec.LookPath(beside); err == nil {
		return path, nil
	}
	path, err := exec.LookPath("bangerd")
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", banger.Errorf(banger.KindUnavailable, "the daemon's program bangerd is neither at %s nor in PATH", beside).WithNext("make build")
	}
	return path, nil
}

// environment is the daemon's: what says where its files are and who it is, and
// nothing else of the shell that happened to start it.
func (a Autostart) environment() []string {
	environ := a.Environ
	if environ == nil {
		environ = os.Environ()
	}
	env := []string{"PATH=" + daemonPath, "LANG=C.UTF-8"}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		switch name {
		case "BANGER_HOME", "BANGER_CACHE":
			// The daemon's working directory is not ours.
			if abs, err := filepath.Abs(value); err == nil && value != "" {
				env = append(env, name+"="+abs)
			}
		case "HOME", "USER", "LOGNAME", "TMPDIR",
			"XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR":
			env = append(env, fmt.Sprintf("%s=%s", name, value))
		default:
			if strings.HasPrefix(name, "BANGER_") {
				env = append(env, entry)
			}
		}
	}
	return env
}
