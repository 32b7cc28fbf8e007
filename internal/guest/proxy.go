package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy serves a guest to local clients in the manner of Firecracker's vsock: a
// client sends "CONNECT <port>\n", is answered "OK <n>\n", and from then on
// speaks with the guest. A port that cannot be opened is a closed connection.
//
// There is no half-close: when either side ends, both are closed. The protocols
// of the guest channel mark their ends themselves.
type Proxy struct {
	// Open opens a stream to a port of the guest.
	Open func(ctx context.Context, port uint32) (net.Conn, error)
	Log  *slog.Logger
	// Idle, if set, is called each time the last client has left.
	Idle func()

	buffers sync.Pool
	clients atomic.Int64
	last    atomic.Uint32 // the number of the last OK
}

const (
	maxProxied     = 512              // clients at a time; further ones are turned away
	connectTimeout = 10 * time.Second // from accept to the end of the CONNECT line
	maxConnectLine = 32               // "CONNECT 4294967295\n" and some slack
	proxyBuffer    = 256 << 10
)

// Serve accepts clients from ln until ctx ends or ln is closed; it closes ln,
// ends every client it still has, and returns when they are gone. The error is
// nil when it ended because it was told to.
func (p *Proxy) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	defer stop()
	slots := make(chan struct{}, maxProxied)
	for {
		conn, err := ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			// Out of descriptors, most likely: the clients at hand will free some.
			p.Log.Warn("guest socket: accept", "err", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = conn.Close()
			continue
		}
		clients.Go(func() {
			p.clients.Add(1)
			defer func() {
				<-slots
				if p.clients.Add(-1) == 0 && p.Idle != nil {
					p.Idle()
				}
			}()
			if err := p.serve(ctx, conn); err != nil {
				p.Log.Debug("guest socket: client", "err", err)
			}
		})
	}
}

func (p *Proxy) serve(ctx context.Context, client net.Conn) error {
	defer func() { _ = client.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = client.Close() })
	defer stop()
	port, rest, err := readConnect(client)
	if err != nil {
		return err
	}
	stream, err := p.Open(ctx, port)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	n := p.last.Add(1)
	if _, err := client.Write(fmt.Appendf(nil, "OK %d\n", n)); err != nil {
		return err
	}
	if _, err := stream.Write(rest); err != nil {
		return err
	}
	var up sync.WaitGroup
	up.Go(func() {
		p.copy(stream, client)
		_ = stream.Close()
		_ = client.Close()
	})
	p.copy(client, stream)
	_ = client.Close()
	_ = stream.Close()
	up.Wait()
	return nil
}

// copy copies until either end fails; both are closed afterwards, so that the
// reason is of no interest.
func (p *Proxy) copy(dst io.Writer, src io.Reader) {
	buf, _ := p.buffers.Get().(*[]byte)
	if buf == nil {
		b := make([]byte, proxyBuffer)
		buf = &b
	}
	defer p.buffers.Put(buf)
	for {
		n, err := src.Read(*buf)
		if n > 0 {
			if _, werr := dst.Write((*buf)[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// readConnect reads the CONNECT line and gives what came behind it.
func readConnect(client net.Conn) (port uint32, rest []byte, err error) {
	if err := client.SetReadDeadline(time.Now().Add(connectTimeout)); err != nil {
		return 0, nil, err
	}
	var line []byte
	buf := make([]byte, maxConnectLine)
	for {
		n, err := client.Read(buf[:maxConnectLine-len(line)])
		line = append(line, buf[:n]...)
		if before, after, ok := bytes.Cut(line, []byte("\n")); ok {
			port, err := parseConnect(string(before))
			if err != nil {
				return 0, nil, err
			}
			return port, after, client.SetReadDeadline(time.Time{})
		}
		if err != nil {
			return 0, nil, fmt.Errorf("CONNECT line: %w", err)
		}
		if len(line) == maxConnectLine {
			return 0, nil, fmt.Errorf("CONNECT line: longer than %d bytes", maxConnectLine)
		}
	}
}

func parseConnect(line string) (uint32, error) {
	number, ok := strings.CutPrefix(line, "CONNECT ")
	if !ok {
		return 0, fmt.Errorf("CONNECT line: %q", line)
	}
	port, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("CONNECT line: %q", line)
	}
	return uint32(port), nil
}
