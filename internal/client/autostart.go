package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/config"
	"banger.dev/banger/internal/ipc"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/version"
)

const (
	// startTimeout is how long a new daemon may take to answer, the end of the
	// one before it included. One that ends sooner is not waited for.
	startTimeout = time.Minute
	// queueTimeout is how long a client waits for others that start a daemon.
	queueTimeout = 2 * startTimeout
	// startPoll is how often a new daemon is asked whether it answers.
	startPoll = 3 * time.Millisecond
	// busyTimeout is how long an older daemon may be at work before it can be
	// replaced, busyPoll how often it is asked.
	busyTimeout = 2 * time.Minute
	busyPoll    = 200 * time.Millisecond
)

// errBusy says that an older daemon cannot be replaced yet.
var errBusy = errors.New("the daemon is at work")

// errLeft is the cause of the error for a new daemon that ended in good order:
// it had been told to, or its time without work was over, before we came.
var errLeft = errors.New("exit status 0")

// Autostart says how a daemon is started when nobody answers, or an older one
// does. The zero value starts the bangerd that belongs to this program.
type Autostart struct {
	Disabled bool
	Binary   string        // path of bangerd; "": beside this program, else in PATH
	Environ  []string      // what the daemon's environment is chosen from; nil: this process's
	Build    version.Build // what a daemon is compared with; zero: this program's
	Check    func() error  // whether a daemon could start; asked before one is; nil: it could
	Remark   func(string)  // is told why it takes long; nil: nobody is
}

// start starts a daemon unless somebody else has meanwhile, and returns when it
// answers. However many call it at once, one daemon is started: the others wait
// for its starter. An older daemon is told to end first, once it has nothing to
// do.
func (a Autostart) start(ctx context.Context, layout paths.Layout) (*Client, error) {
	if err := ipc.PrivateDir(layout.Run); err != nil {
		return nil, err
	}
	patience, cancel := context.WithTimeout(ctx, busyTimeout)
	defer cancel()
	for waited := false; ; waited = true {
		c, err := a.attempt(ctx, layout)
		if !errors.Is(err, errBusy) {
			return c, err
		}
		if !waited && a.Remark != nil {
			a.Remark("an older daemon is at work and will be replaced when that is done")
		}
		select {
		case <-ctx.Done():
			return nil, banger.Errorf(banger.KindCancelled, "interrupted while an older daemon was at work: %w", ctx.Err())
		case <-patience.Done():
			return nil, banger.Errorf(banger.KindUnavailable, "the daemon is older than this banger (%s) and is still at work after %s", version.String(), busyTimeout).
				WithNext("banger daemon stop")
		case <-time.After(busyPoll):
		}
	}
}

// attempt is one try of start. The lock is not held while others are waited for:
// each of many clients may do the replacing.
func (a Autostart) attempt(ctx context.Context, layout paths.Layout) (*Client, error) {
	queue, cancel := context.WithTimeout(ctx, queueTimeout)
	defer cancel()
	lock, err := ipc.LockWait(queue, layout.StartLock())
	if err != nil {
		return nil, err
	}
	defer lock.Release()

	c, err := a.reach(ctx, layout)
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, errOlder):
		if err := a.retire(ctx, layout); err != nil {
			return nil, err
		}
	case !errors.Is(err, ipc.ErrNobody):
		return nil, err
	}
	if a.Check != nil {
		if err := a.Check(); err != nil {
			return nil, err
		}
	}
	for try := 1; ; try++ {
		child, err := a.spawn(layout)
		if err != nil {
			return nil, err
		}
		c, err := child.await(ctx, a, layout)
		if !errors.Is(err, errLeft) || try == maxTries {
			return c, err
		}
	}
}

// retire has an older daemon end, if it has nothing to do and there is one to
// come after it.
func (a Autostart) retire(ctx context.Context, layout paths.Layout) error {
	if _, err := a.binary(); err != nil {
		return err
	}
	if a.Check != nil {
		if err := a.Check(); err != nil {
			return err
		}
	}
	conn, err := ipc.Dial(ctx, layout.DaemonSocket())
	if errors.Is(err, ipc.ErrNobody) {
		return nil
	}
	if err != nil {
		return err
	}
	c := newClient(layout, conn, Autostart{Disabled: true})
	defer c.Close()
	pid, err := c.tellStop(ctx, url.Values{"when": {"idle"}})
	switch {
	case banger.KindOf(err) == banger.KindConflict:
		return errBusy
	case err != nil && unheard(err):
		return nil // it ends by itself, and the next one waits for that
	case err != nil:
		return err
	}
	return awaitEnd(ctx, layout, pid)
}

// daemon is a bangerd that has been started and does not answer yet.
type daemon struct {
	process *os.Process
	binary  string
	log     string
	offset  int64      // where in the log it begins
	exited  chan error // gets how it ended, if it does
	// words gets what it wrote to its standard output: an api.ErrorReply if it
	// could not start. Not by way of the log, whose disk may be full.
	words chan []byte
}

// spawn starts bangerd on its own: in a session of its own, at the root of the
// file system, with nothing of ours open and a short environment.
func (a Autostart) spawn(layout paths.Layout) (*daemon, error) {
	binary, err := a.binary()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(layout.State, 0o700); err != nil {
		return nil, banger.Errorf(banger.KindUnavailable, "make the directory %s: %w", layout.State, cause(err)).WithNext("ls -ld %s", filepath.Dir(layout.State))
	}
	log, err := os.OpenFile(layout.DaemonLog(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, banger.Errorf(banger.KindUnavailable, "open the daemon's log %s: %w", layout.DaemonLog(), cause(err)).WithNext("ls -ld %s", layout.DaemonLog())
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
	read, write, err := os.Pipe()
	if err != nil {
		return nil, banger.Errorf(banger.KindInternal, "make a pipe: %w", err)
	}
	defer func() { _ = write.Close() }() // the child has its own
	cmd.Stdout, cmd.Stderr = write, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		_ = read.Close()
		return nil, banger.Errorf(banger.KindUnavailable, "start the daemon %s: %w", binary, cause(err)).WithNext("make build")
	}
	d := &daemon{process: cmd.Process, binary: binary, log: layout.DaemonLog(), offset: offset, exited: make(chan error, 1), words: make(chan []byte, 1)}
	go func() { d.exited <- cmd.Wait() }()
	go func() {
		defer func() { _ = read.Close() }()
		said, _ := io.ReadAll(io.LimitReader(read, maxErrorBody)) // ends when it serves, or ends
		d.words <- said
	}()
	return d, nil
}

// await returns when the daemon answers, or has ended, or takes too long. It is
// left alone in the last case: it may have many VMs to look after first.
func (d *daemon) await(ctx context.Context, a Autostart, layout paths.Layout) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(startPoll)
	defer tick.Stop()
	for {
		c, err := a.reach(ctx, layout)
		switch {
		case err == nil:
			return c, nil
		case errors.Is(err, errOlder):
			return nil, banger.Errorf(banger.KindUnavailable, "%s is of an older build than this banger (%s), so it cannot serve it", d.binary, version.String()).
				WithNext("make build")
		case !errors.Is(err, ipc.ErrNobody) && ctx.Err() == nil:
			return nil, err
		}
		select {
		case err := <-d.exited:
			// It ends too when it finds another at work.
			if c, err := a.reach(ctx, layout); err == nil {
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

// failure is why the daemon ended: in its own words, if it has left any.
func (d *daemon) failure(err error) error {
	how := err
	if err == nil {
		how = errLeft
	}
	var reply api.ErrorReply
	if json.Unmarshal(<-d.words, &reply) == nil && reply.Error.Message != "" {
		known := reply.Error
		known.Message = "the daemon cannot start: " + known.Message
		if known.Next == "" {
			known.Next = "banger daemon logs"
		}
		return &known
	}
	return banger.Errorf(banger.KindUnavailable, "the daemon ended before it answered (%w)%s", how, d.said()).WithNext("banger daemon logs")
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

func (a Autostart) environment() []string {
	if a.Environ == nil {
		return config.DaemonEnviron(os.Environ())
	}
	return config.DaemonEnviron(a.Environ)
}

// cause is err without the path, which the message names already.
func cause(err error) error {
	var place *fs.PathError
	if errors.As(err, &place) {
		return place.Err
	}
	return err
}
