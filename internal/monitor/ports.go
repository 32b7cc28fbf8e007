package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/relay"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/guest"
	"banger.dev/banger/internal/publish"
)

// routePorts: PUT []banger.Port → portsReply. The whole list of published ports,
// idempotent; when one of them cannot be listened on, nothing changes.
const routePorts = "/ports"

// portsReply says whether the ports are as they were asked to be.
type portsReply struct {
	Refused *banger.Error `json:"refused,omitempty"`
}

// newPorts listens on the order's ports, or says which cannot be.
func newPorts(m *monitor) (*publish.Set, error) {
	set := publish.New(m.dialPort, m.log)
	if err := set.Sync(m.order.Publish); err != nil {
		set.Close()
		return nil, err
	}
	return set, nil
}

// dialPort connects to a server in the guest once that is up.
func (m *monitor) dialPort(ctx context.Context, req wire.DialRequest) (relay.Stream, error) {
	return guest.DialPort(ctx, func(ctx context.Context, port uint32) (net.Conn, error) {
		return m.currentChannel().open(ctx, port)
	}, req)
}

func (s *server) putPorts(w http.ResponseWriter, r *http.Request) {
	var ports []banger.Port
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxOrder)).Decode(&ports); err != nil {
		http.Error(w, fmt.Sprintf("the list of ports: %v", err), http.StatusBadRequest)
		return
	}
	err := banger.ValidatePorts(ports)
	if err == nil && len(ports) > 0 {
		err = s.m.canDial()
	}
	if err == nil {
		err = s.m.ports.Sync(ports)
	}
	reply(w, portsReply{Refused: asRefusal(err)})
}

// canDial says so if the guest's agent is known to be too old to be asked.
func (m *monitor) canDial() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.st.Hello == nil || slices.Contains(m.st.Hello.Ports, wire.PortDial) {
		return nil
	}
	return banger.Errorf(banger.KindUnavailable, "the agent in VM %s is of an older banger, which cannot publish ports", m.order.Name).
		WithNext("banger vm stop %s, then banger vm start %s", m.order.Name, m.order.Name)
}

// asRefusal is err as it travels to the daemon; nil for nil.
func asRefusal(err error) *banger.Error {
	if err == nil {
		return nil
	}
	return &banger.Error{Kind: banger.KindOf(err), Message: err.Error(), Next: banger.NextOf(err)}
}

// ErrOld means that a monitor is of a build that does not know what it is asked:
// the VM must be stopped and started.
var ErrOld = errors.New("the VM's monitor is of an older banger")

// SyncPorts makes ports the published ones: all of them, or the error says which
// could not be and nothing has changed.
func (c *Client) SyncPorts(ctx context.Context, ports []banger.Port) error {
	if ports == nil {
		ports = []banger.Port{}
	}
	b, err := json.Marshal(ports)
	if err != nil {
		return err
	}
	resp, err := c.send(ctx, http.MethodPut, routePorts, bytes.NewReader(b))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var r portsReply
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		return fmt.Errorf("the VM's monitor: %w", err)
	}
	if r.Refused != nil {
		return r.Refused
	}
	return nil
}
