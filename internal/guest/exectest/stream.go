package exectest

import (
	"context"
	"fmt"
	"net"

	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/guest"
)

// Stream is a target that is reached by streams to an exec port.
func Stream(t Target, dial func(ctx context.Context) (net.Conn, error)) Target {
	t.Run = func(ctx context.Context, c Call) (int, error) {
		conn, err := dial(ctx)
		if err != nil {
			return 0, err
		}
		req := wire.Request{Argv: texts(c.Argv), Env: texts(c.Env), Cwd: wire.Text(c.Dir), User: c.User, TTY: c.TTY, Rows: c.Rows, Cols: c.Cols}
		exit, err := guest.Exec(ctx, conn, req, guest.Streams{Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr, Resize: c.Resize, Signals: c.Signals})
		switch {
		case err != nil:
			return 0, err
		case exit.Error != nil:
			_, _ = fmt.Fprintln(c.Stderr, exit.Error.Message)
			return exit.Error.Code, nil
		case exit.Code != nil:
			return *exit.Code, nil
		}
		return 128 + exit.Signal, nil
	}
	return t
}

func texts(list []string) []wire.Text {
	out := make([]wire.Text, len(list))
	for i, s := range list {
		out[i] = wire.Text(s)
	}
	return out
}
