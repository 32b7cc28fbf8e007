package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// ErrNoAgent means that nothing answered behind a guest socket: the VM is not
// running, is still booting, or its agent does not answer.
var ErrNoAgent = errors.New("the guest's agent does not answer")

// Dial connects to a port of the guest behind a guest socket. ctx bounds the
// dialling alone. A socket that is not there, or that closes before it says
// OK, is ErrNoAgent.
func Dial(ctx context.Context, socket string, port uint32) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: %w", ErrNoAgent, err)
	}
	if err := connect(ctx, conn, port); err != nil {
		_ = conn.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: port %d: %w", ErrNoAgent, port, err)
	}
	return conn, nil
}

func connect(ctx context.Context, conn net.Conn, port uint32) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	if _, err := fmt.Fprintf(conn, "CONNECT %d\n", port); err != nil {
		stop()
		return err
	}
	answer, err := readAnswer(conn)
	if !stop() {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	if !strings.HasPrefix(answer, "OK ") {
		return fmt.Errorf("unexpected answer %q", answer)
	}
	return nil
}

// readAnswer reads up to the newline and not a byte further: what follows is
// the guest's.
func readAnswer(r io.Reader) (string, error) {
	var line [32]byte
	for n := range line {
		if _, err := io.ReadFull(r, line[n:n+1]); err != nil {
			return "", err
		}
		if line[n] == '\n' {
			return string(line[:n]), nil
		}
	}
	return "", fmt.Errorf("unexpected answer %q", line[:])
}
