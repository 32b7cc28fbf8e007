package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"banger.dev/banger/internal/agent/credit"
	"banger.dev/banger/internal/agent/wire"
)

// ErrLost means that the stream ended before the command did: the VM stopped,
// or its agent was restarted. What became of the command is not known.
var ErrLost = errors.New("the connection to the guest was lost before the command ended")

// Streams is what a command is connected to. A nil Stdin is an empty one; nil
// outputs are dropped. The channels may be nil.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Resize         <-chan Size // of the terminal, when the request has one
	Signals        <-chan int  // Linux numbers, for the command's process group
}

// Size is a terminal's.
type Size struct{ Rows, Cols uint16 }

// stdinFrame is how much of stdin goes into one frame.
const stdinFrame = 64 << 10

// Exec runs one command over conn, a stream to wire.PortExec, and closes conn.
// How the command ended, or why it was not run, is in the Exit; the error is
// about everything else: ErrLost, ctx's, or that of writing to Stdout or Stderr,
// which ends the command as a closed pipe would: by SIGHUP, and SIGKILL later.
//
// Exec does not wait for a Read of Stdin that is under way when the command
// ends; what that Read still takes is lost.
func Exec(ctx context.Context, conn net.Conn, req wire.Request, std Streams) (wire.Exit, error) {
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	out := wire.NewFrameWriter(conn)
	in := wire.NewFrameReader(conn)
	// A guest cannot make us send more at a time.
	e := &execution{out: out, done: make(chan struct{}), credit: credit.New(wire.InitialCredit, wire.InitialCredit)}
	defer e.finish()
	if err := wire.WriteRequest(conn, req); err != nil && ctx.Err() == nil {
		// The agent may have answered before it had read it all.
		exit, rerr := e.receive(in, std)
		if rerr == nil {
			return exit, nil
		}
		return wire.Exit{}, fmt.Errorf("%w: %w", ErrLost, err)
	}
	go e.sendStdin(std.Stdin)
	go e.sendEvents(std)
	exit, err := e.receive(in, std)
	if ctx.Err() != nil && err != nil {
		return exit, context.Cause(ctx)
	}
	return exit, err
}

// execution is one command as its client sees it.
type execution struct {
	out    *wire.FrameWriter
	done   chan struct{}
	credit *credit.Credit // for stdin
}

func (e *execution) finish() {
	close(e.done)
	e.credit.End()
}

// receive takes the command's output and how it ended.
func (e *execution) receive(in *wire.FrameReader, std Streams) (wire.Exit, error) {
	for {
		t, payload, err := in.Next()
		if errors.Is(err, wire.ErrFrame) {
			return wire.Exit{}, err
		}
		if err != nil {
			return wire.Exit{}, fmt.Errorf("%w: %w", ErrLost, err)
		}
		switch t {
		case wire.FrameStdout:
			err = write(std.Stdout, payload)
		case wire.FrameStderr:
			err = write(std.Stderr, payload)
		case wire.FrameCredit:
			var n uint32
			if n, err = wire.ParseCredit(payload); err == nil {
				e.credit.Add(int(n))
			}
		case wire.FrameExit:
			return wire.ParseExit(payload)
		default:
			err = fmt.Errorf("%w: frame of type %d from the guest", wire.ErrFrame, t)
		}
		if err != nil {
			return wire.Exit{}, err
		}
	}
}

func write(w io.Writer, p []byte) error {
	if w == nil {
		return nil
	}
	_, err := w.Write(p)
	return err
}

// sendStdin sends stdin as far as the agent has given credit. A stdin that
// cannot be read is one that has ended.
func (e *execution) sendStdin(stdin io.Reader) {
	if stdin != nil {
		buf := make([]byte, wire.FrameHeaderSize+stdinFrame)
		for {
			most := e.credit.Wait(stdinFrame)
			if most == 0 {
				return
			}
			n, err := stdin.Read(buf[wire.FrameHeaderSize : wire.FrameHeaderSize+most])
			if n > 0 {
				e.credit.Spend(n)
				if e.out.WriteInPlace(wire.FrameStdin, buf[:wire.FrameHeaderSize+n]) != nil {
					return
				}
			}
			if err != nil {
				break
			}
		}
	}
	_ = e.out.Write(wire.FrameStdinEnd, nil)
}

func (e *execution) sendEvents(std Streams) {
	resize, signals := std.Resize, std.Signals
	for resize != nil || signals != nil {
		var err error
		select {
		case size, ok := <-resize:
			if !ok {
				resize = nil
				continue
			}
			err = e.out.WriteResize(size.Rows, size.Cols)
		case signal, ok := <-signals:
			if !ok {
				signals = nil
				continue
			}
			err = e.out.Write(wire.FrameSignal, []byte{byte(signal)})
		case <-e.done:
			return
		}
		if err != nil {
			return
		}
	}
}
