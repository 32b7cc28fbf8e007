package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"banger.dev/banger/internal/agent/relay"
	"banger.dev/banger/internal/agent/wire"
)

// ErrNoDial means that a guest's agent is too old to dial servers in its guest:
// the VM must be started anew.
var ErrNoDial = errors.New("the guest's agent cannot dial; stop the VM and start it")

// RefusedError means that no server in the guest could be connected to.
type RefusedError struct {
	Network string
	Port    int
	Reason  string // the guest's words; they may hold anything
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s port %d in the guest: %.500q", e.Network, e.Port, e.Reason)
}

// DialPort connects to a server in the guest by way of the agent; open opens a
// stream to a port of the guest channel. What is then read and written are the
// pieces of package relay. ctx bounds the dialling alone.
func DialPort(ctx context.Context, open func(ctx context.Context, port uint32) (net.Conn, error), req wire.DialRequest) (relay.Stream, error) {
	stream, err := open(ctx, wire.PortDial)
	if err != nil {
		return relay.Stream{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = stream.SetDeadline(time.Unix(1, 0)) })
	answer, err := askDial(stream, req)
	if !stop() {
		relay.Close(stream)
		return relay.Stream{}, context.Cause(ctx)
	}
	if err == nil && answer.Error != "" {
		err = &RefusedError{Network: req.Network, Port: int(req.Port), Reason: answer.Error}
	}
	if errors.Is(err, io.EOF) { // the stream of a port that nobody serves just ends
		err = ErrNoDial
	}
	if err != nil {
		relay.Close(stream)
		return relay.Stream{}, err
	}
	return relay.Stream{Conn: stream, Window: max(answer.Window, 0)}, nil
}

func askDial(stream net.Conn, req wire.DialRequest) (wire.DialAnswer, error) {
	if err := wire.WriteDial(stream, req); err != nil {
		return wire.DialAnswer{}, err
	}
	return wire.ReadDial[wire.DialAnswer](stream)
}
