// Package command is the exec port: it runs one command for each stream, by the
// protocol of wire.Request, as if the person at the other end had typed it here.
// It knows nothing of virtual machines: it serves any net.Conn on any Linux,
// which is how it is tested.
package command

import (
	"net"
	"sync"
	"time"

	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
)

// DefaultPath is the PATH of a command whose VM and caller set none.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// killAfter is how long a command that lost its client may go on after SIGHUP.
const killAfter = 5 * time.Second

// Server runs commands. Its fields are set before the first Serve.
type Server struct {
	Env     []string // K=V, over the base environment of every command
	Workdir string   // where commands run that do not say; "" is the user's home
	User    string   // as whom commands run that do not say; "" is root
	Users   *users.DB

	buffers sync.Pool
}

// Serve runs the one command that conn asks for, and closes conn. It returns
// when the client has its answer. What the command left behind holding its
// pipes is served on in the background until it ends.
func (s *Server) Serve(conn net.Conn) {
	in, out := wire.NewFrameReader(conn), wire.NewFrameWriter(conn)
	req, err := in.Request()
	if err != nil {
		_ = out.WriteExit(failed(125, "the agent could not read the request: %v", err))
		_ = conn.Close()
		return
	}
	proc, problem := s.start(req)
	if problem != nil {
		_ = out.WriteExit(wire.Exit{Error: problem})
		_ = conn.Close()
		return
	}
	c := &call{server: s, conn: conn, in: in, out: out, proc: proc}
	c.run()
}

const (
	smallBuffer = 32 << 10
	bulkBuffer  = 256 << 10
)

// buffer gives a bulk buffer with room for a frame's header.
func (s *Server) buffer() *[]byte {
	if b, ok := s.buffers.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, wire.FrameHeaderSize+bulkBuffer)
	return &b
}
