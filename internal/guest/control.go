package guest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"banger.dev/banger/internal/agent/wire"
)

// Control speaks to the control port of one guest. Each call is a connection
// of its own, so that nothing is left open to a VM that may be paused or end.
type Control struct {
	// Dial opens a stream to wire.PortControl.
	Dial func(ctx context.Context) (net.Conn, error)
	// Name is the VM's, for the errors; "" is fine.
	Name string
}

// maxAnswer bounds what is read of a guest's answer.
const maxAnswer = 1 << 20

// Hello asks the agent who it is. An agent with which this program cannot speak
// is an error that says what to do.
func (c Control) Hello(ctx context.Context) (wire.Hello, error) {
	var h wire.Hello
	if err := c.call(ctx, http.MethodGet, wire.PathHello, nil, &h); err != nil {
		return h, err
	}
	if !h.Plausible() {
		return wire.Hello{}, errImplausible
	}
	if h.Protocol < 1 || h.Protocol > wire.Version {
		return h, &ProtocolError{Name: c.Name, Protocol: h.Protocol}
	}
	return h, nil
}

// InitStatus asks how far the image's own init has got.
func (c Control) InitStatus(ctx context.Context) (wire.InitStatus, error) {
	var s wire.InitStatus
	return s, c.call(ctx, http.MethodGet, wire.PathInit, nil, &s)
}

// Sockets asks which sockets servers wait on in the guest. An agent of before
// this question is ErrOldAgent.
func (c Control) Sockets(ctx context.Context) (wire.Sockets, error) {
	var all wire.Sockets
	err := c.call(ctx, http.MethodGet, wire.PathSockets, nil, &all)
	return all.Tidied(), err
}

// Stats asks what the guest takes. An agent of before this question is ErrOldAgent.
func (c Control) Stats(ctx context.Context) (wire.Stats, error) {
	var s wire.Stats
	err := c.call(ctx, http.MethodGet, wire.PathStats, nil, &s)
	if err == nil && !s.Plausible() {
		err = errImplausible
	}
	return s, err
}

// Shutdown asks the guest to power off. That it has agreed does not mean that it will.
func (c Control) Shutdown(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, wire.PathShutdown, nil, nil)
}

// Clock asks what time it is in the guest, in nanoseconds since 1970; the guest
// may say anything. An agent of before this question is an error.
func (c Control) Clock(ctx context.Context) (time.Time, error) {
	var now wire.Clock
	err := c.call(ctx, http.MethodGet, wire.PathClock, nil, &now)
	return time.Unix(0, now.UnixNano), err
}

// SetClock sets the guest's clock.
func (c Control) SetClock(ctx context.Context, now time.Time) error {
	return c.call(ctx, http.MethodPost, wire.PathClock, wire.Clock{UnixNano: now.UnixNano()}, nil)
}

// Grow has the root file system fill its disk, which the host has made so large.
// An agent of before this request is an error.
func (c Control) Grow(ctx context.Context, size uint64) error {
	return c.call(ctx, http.MethodPost, wire.PathGrow, wire.Grow{Bytes: size}, nil)
}

var errImplausible = errors.New("guest agent: it says what cannot be")

// ErrOldAgent means that a guest's agent does not know what it is asked: the VM
// was started before an update.
var ErrOldAgent = errors.New("the agent is of an older banger")

// ProtocolError means that a guest's agent speaks a protocol of another version
// of banger: it was started before an update, or after a downgrade.
type ProtocolError struct {
	Name     string
	Protocol int
}

func (e *ProtocolError) Error() string {
	name := e.Name
	if name == "" {
		name = "NAME"
	}
	return fmt.Sprintf("the agent in the VM speaks protocol %d, this program up to %d: banger vm restart %s", e.Protocol, wire.Version, name)
}

func (c Control) call(ctx context.Context, method, path string, body, answer any) error {
	conn, err := c.Dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	// Not by Close, which a yamux stream's reads outlive.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := exchange(ctx, conn, method, path, body, answer); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("guest agent: %s %s: %w", method, path, err)
	}
	return nil
}

func exchange(ctx context.Context, conn net.Conn, method, path string, body, answer any) error {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://guest"+path, bytes.NewReader(content))
	if err != nil {
		return err
	}
	req.Close = true
	if err := req.Write(conn); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxAnswer)), req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusNotFound {
		return ErrOldAgent
	}
	if resp.StatusCode >= 300 {
		return refusal(resp.Status, b)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(b, answer)
}

// refusal quotes the guest's own words: they may hold anything.
func refusal(status string, body []byte) error {
	var e struct{ Error string }
	if json.Unmarshal(body, &e) == nil && e.Error != "" {
		return fmt.Errorf("%.100q: %.500q", status, e.Error)
	}
	return fmt.Errorf("%.100q", status)
}
