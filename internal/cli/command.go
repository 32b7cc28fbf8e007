package cli

import (
	"context"
	"errors"
	"strings"
	"syscall"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/guest"
)

// signalQueue is how many signals may wait for the guest to take them; more
// are dropped, as the kernel merges those that a process does not take.
const signalQueue = 64

// guestCommand is one command in a running VM.
type guestCommand struct {
	vm        banger.Detail
	argv, env []string
	cwd, user string
	tty       bool
}

// runCommand runs c with this process's streams, signals and terminal. Its
// error carries the exit code of the command unless that is 0.
func (a *app) runCommand(ctx context.Context, c guestCommand) error {
	conn, err := guest.Dial(ctx, c.vm.Paths["guest_socket"], wire.PortExec)
	if err != nil {
		return c.failed(err)
	}
	streams := guest.Streams{Stdin: a.Stdin, Stdout: a.Stdout, Stderr: a.Stderr}
	end := a.forwardSignals(&streams, c.tty)
	defer end()
	restore := func() {}
	if c.tty {
		if restore, err = rawTerminal(a.Stdin); err != nil {
			_ = conn.Close()
			return banger.Errorf(banger.KindInternal, "the terminal cannot be made raw: %w", err)
		}
	}
	defer restore()
	exit, err := guest.Exec(ctx, conn, a.request(c), streams)
	if err != nil {
		return c.failed(err)
	}
	return exitOf(exit)
}

// request is c in the words of the agent. On a terminal the command learns
// which kind it is, unless it was told otherwise.
func (a *app) request(c guestCommand) wire.Request {
	req := wire.Request{Argv: texts(c.argv), Env: texts(c.env), Cwd: wire.Text(c.cwd), User: c.user, TTY: c.tty}
	if !c.tty {
		return req
	}
	req.Rows, req.Cols = a.terminalSize()
	told := func(pair wire.Text) bool { return strings.HasPrefix(string(pair), "TERM=") }
	for _, pair := range req.Env {
		if told(pair) {
			return req
		}
	}
	if kind, ok := a.LookupEnv("TERM"); ok && kind != "" {
		req.Env = append(req.Env, wire.Text("TERM="+kind))
	}
	return req
}

// forwardSignals has the signals of this process go to streams until end is called.
func (a *app) forwardSignals(streams *guest.Streams, tty bool) (end func()) {
	sent := make(chan int, signalQueue)
	resized := make(chan guest.Size, 1)
	streams.Signals, streams.Resize = sent, resized
	return a.signals.forward(func(sig syscall.Signal) {
		switch {
		case sig != syscall.SIGWINCH:
			select {
			case sent <- int(sig):
			default:
			}
		case tty:
			rows, cols := a.terminalSize()
			select {
			case <-resized: // only the last size matters
			default:
			}
			resized <- guest.Size{Rows: rows, Cols: cols}
		}
	})
}

func (a *app) terminalSize() (rows, cols uint16) {
	return terminalSize(a.Stdout, a.Stdin, a.Stderr)
}

// exitOf is how a command ended, as the end of this process. What no command
// can end with is the guest's doing, and no exit code.
func exitOf(exit wire.Exit) error {
	switch {
	case exit.Error != nil:
		return notRun(*exit.Error)
	case exit.Signal > 0 && exit.Signal <= 64:
		return &exitError{code: exitSignal + exit.Signal}
	case exit.Signal != 0 || exit.Code == nil || *exit.Code < 0 || *exit.Code > 255:
		return &exitError{code: exitOurs, err: errors.New("the guest's agent does not say how the command ended")}
	case *exit.Code != 0:
		return &exitError{code: *exit.Code}
	}
	return nil
}

// notRun is why the agent did not run a command, on one line: another would look as
// if it were ours.
func notRun(e wire.Error) error {
	kind, code := banger.KindInternal, exitOurs
	switch e.Code {
	case exitNotFound:
		kind, code = banger.KindNotFound, exitNotFound
	case exitCannotRun:
		kind, code = banger.KindInvalid, exitCannotRun
	}
	return &exitError{code: code, err: banger.Errorf(kind, "%s", escape(e.Message))}
}

// failed is the error of a command of which it is not known how it ended.
func (c guestCommand) failed(err error) error {
	name := c.vm.Name
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, guest.ErrLost):
		return banger.Errorf(banger.KindUnavailable, "%s stopped, or its agent did, before the command ended", name).WithNext("banger vm show %s", name)
	case errors.Is(err, guest.ErrNoAgent):
		return banger.Errorf(banger.KindUnavailable, "the agent in %s does not answer", name).WithNext("banger vm show %s", name)
	case errors.Is(err, syscall.EPIPE):
		// Nobody reads our output any more: a local command would have died of it.
		return &exitError{code: exitSIGPIPE}
	}
	return banger.Errorf(banger.KindUnavailable, "%s: %w", name, err)
}

func texts(args []string) []wire.Text {
	var out []wire.Text
	for _, arg := range args {
		out = append(out, wire.Text(arg))
	}
	return out
}
