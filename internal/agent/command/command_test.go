package command

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
)

// What a command must be like is in internal/guest/exectest. Here is what a
// well-behaved client never does, and what only the server's own settings say.

// client is one raw stream to a server.
type client struct {
	*testing.T
	net.Conn
	in  *wire.FrameReader
	out *wire.FrameWriter
}

func serve(t *testing.T, s *Server) *client {
	t.Helper()
	if s.Users == nil {
		s.Users = &users.DB{}
	}
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	conn, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	inside, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	go s.Serve(inside)
	return &client{t, conn, wire.NewFrameReader(conn), wire.NewFrameWriter(conn)}
}

func (c *client) request(argv ...string) {
	var req wire.Request
	for _, a := range argv {
		req.Argv = append(req.Argv, wire.Text(a))
	}
	if err := wire.WriteRequest(c, req); err != nil {
		c.Fatal(err)
	}
}

// end reads to the exit frame, or to the end of the stream.
func (c *client) end() (stdout string, exit *wire.Exit) {
	var b bytes.Buffer
	for {
		t, p, err := c.in.Next()
		switch {
		case err != nil:
			return b.String(), nil
		case t == wire.FrameStdout:
			b.Write(p)
		case t == wire.FrameExit:
			e, err := wire.ParseExit(p)
			if err != nil {
				c.Fatal(err)
			}
			if _, _, err := c.in.Next(); err == nil {
				c.Error("a frame after the last")
			}
			return b.String(), &e
		}
	}
}

func TestBadRequests(t *testing.T) {
	for name, line := range map[string]string{
		"no JSON": "hello\n", "another type": "[1]\n", "no command": "{}\n", "an empty command": `{"argv":[]}` + "\n", "cut short": `{"argv":["true"]`,
	} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, &Server{})
			_, _ = io.WriteString(c, line)
			_ = c.Conn.(*net.UnixConn).CloseWrite()
			if _, exit := c.end(); exit == nil || exit.Error == nil || exit.Error.Code != 125 {
				t.Errorf("%+v", exit)
			}
		})
	}
}

func TestNULIsRefused(t *testing.T) {
	c := serve(t, &Server{})
	c.request("echo", "a\x00b")
	if _, exit := c.end(); exit == nil || exit.Error == nil || exit.Error.Code != 126 {
		t.Errorf("%+v", exit)
	}
}

// A client that breaks the protocol is one that is gone.
func TestBrokenProtocolEndsTheCommand(t *testing.T) {
	for name, send := range map[string]func(c *client) error{
		"more stdin than credit": func(c *client) error {
			for range 8 { // of which a pipe takes two
				if err := c.out.Write(wire.FrameStdin, make([]byte, wire.InitialCredit/2)); err != nil {
					return nil // it was noticed
				}
			}
			return nil
		},
		"stdin after its end": func(c *client) error {
			_ = c.out.Write(wire.FrameStdinEnd, nil)
			return c.out.Write(wire.FrameStdin, []byte("x"))
		},
		"a frame of the agent's": func(c *client) error { return c.out.Write(wire.FrameStdout, []byte("x")) },
		"a signal that is none":  func(c *client) error { return c.out.Write(wire.FrameSignal, []byte{0}) },
		"half a size":            func(c *client) error { return c.out.Write(wire.FrameResize, []byte{0, 1}) },
		"a type that is none":    func(c *client) error { _, err := c.Write([]byte{99, 0, 0, 0, 0}); return err },
		"too long a frame":       func(c *client) error { _, err := c.Write([]byte{0, 0xff, 0, 0, 0}); return err },
	} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, &Server{})
			mark := filepath.Join(t.TempDir(), "hup")
			c.request("sh", "-c", `trap 'echo > "$0"; exit' HUP; echo ready; while :; do sleep 0.02; done`, mark)
			if _, p, err := c.in.Next(); err != nil || string(p) != "ready\n" {
				t.Fatalf("%q, %v", p, err)
			}
			if err := send(c); err != nil {
				t.Fatal(err)
			}
			if _, exit := c.end(); exit != nil {
				t.Errorf("it was answered: %+v", exit)
			}
			await(t, func() bool { _, err := os.Stat(mark); return err == nil })
		})
	}
}

func await(t *testing.T, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never was so")
		}
	}
}

// Credit comes as stdin is taken, also by a command that has closed it.
func TestCreditIsGivenForWhatIsTaken(t *testing.T) {
	for name, script := range map[string]string{"read": "cat > /dev/null", "dropped": "exec <&-; echo closed; sleep 600"} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, &Server{})
			c.request("sh", "-c", script)
			if name == "dropped" {
				if _, p, err := c.in.Next(); err != nil || string(p) != "closed\n" {
					t.Fatalf("%q, %v", p, err)
				}
			}
			const total = 8 * wire.InitialCredit
			credit := wire.InitialCredit
			for sent := 0; sent < total; {
				for credit >= 64<<10 && sent < total {
					if err := c.out.Write(wire.FrameStdin, make([]byte, 64<<10)); err != nil {
						t.Fatal(err)
					}
					sent, credit = sent+64<<10, credit-64<<10
				}
				if sent == total {
					break
				}
				typ, p, err := c.in.Next()
				if err != nil || typ != wire.FrameCredit {
					t.Fatalf("after %d bytes: frame %d, %v", sent, typ, err)
				}
				n, err := wire.ParseCredit(p)
				if err != nil {
					t.Fatal(err)
				}
				credit += int(n)
			}
		})
	}
}

func TestTheServersDefaults(t *testing.T) {
	dir := t.TempDir()
	s := &Server{Env: []string{"FROM=vm", "PATH=/usr/bin:/bin:/vm", "HOME=/vm"}, Workdir: dir}
	c := serve(t, s)
	c.request("sh", "-c", `echo "$FROM $PATH $HOME $PWD"`)
	if out, _ := c.end(); out != "vm /usr/bin:/bin:/vm /vm "+dir+"\n" {
		t.Errorf("%q", out)
	}
	if os.Getuid() != 0 {
		return
	}
	s = &Server{User: "1:2"}
	c = serve(t, s)
	c.request("sh", "-c", "id -u; id -g")
	if out, _ := c.end(); out != "1\n2\n" {
		t.Errorf("as the VM's user: %q", out)
	}
}

func TestLastWins(t *testing.T) {
	got := strings.Join(LastWins([]string{"A=1", "B=2", "A=3", "C", "B=", "=x"}), " ")
	if got != "A=3 B= C =x" {
		t.Errorf("%q", got)
	}
}

func TestRing(t *testing.T) {
	var r ring
	var want []byte
	for i := range 2000 {
		piece := bytes.Repeat([]byte{byte(i)}, 1+i*7919%5000)
		if r.len()+len(piece) <= ringSize {
			r.push(piece)
			want = append(want, piece...)
		}
		if r.len() > 3*ringSize/4 {
			for r.len() > ringSize/3 {
				p := r.peek()
				p = p[:min(len(p), 1+i)]
				if !bytes.Equal(p, want[:len(p)]) {
					t.Fatalf("step %d: the bytes differ", i)
				}
				r.drop(len(p))
				want = want[len(p):]
			}
		}
		if r.len() != len(want) {
			t.Fatalf("step %d: %d bytes, want %d", i, r.len(), len(want))
		}
	}
}
