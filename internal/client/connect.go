package client

import (
	"context"
	"errors"

	"banger.dev/banger/internal/ipc"
	"banger.dev/banger/internal/paths"
)

// Connect reaches the daemon of this layout, and starts it if nobody answers and
// auto allows it: with Disabled set the error then has ErrNotRunning for a cause.
// In the common case it costs one dial, whose connection the first request uses.
func Connect(ctx context.Context, layout paths.Layout, auto Autostart) (*Client, error) {
	conn, err := ipc.Dial(ctx, layout.DaemonSocket())
	switch {
	case err == nil:
		return newClient(layout, conn), nil
	case !errors.Is(err, ipc.ErrNobody):
		return nil, err
	case auto.Disabled:
		return nil, notRunning()
	}
	return auto.start(ctx, layout)
}
