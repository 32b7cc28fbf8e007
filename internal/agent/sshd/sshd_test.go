package sshd_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"banger.dev/banger/internal/agent/sshd"
	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/proc/proctest"
)

// sftpServer in argv makes this program the sftp server of the tests.
const sftpServer = "serve-sftp"

func TestMain(m *testing.M) {
	if len(os.Args) > 0 && os.Args[0] == sftpServer {
		os.Exit(sshd.ServeSFTP())
	}
	proctest.HearSignals()
	goleak.VerifyTestMain(m)
}

// guest is a server, with a passwd of its own in which this process's user is me.
type guest struct {
	t      *testing.T
	server *sshd.Server
	host   ssh.PublicKey
	key    ssh.Signer
	home   string
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	root, home := t.TempDir(), t.TempDir()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	passwd := "me:x:" + me.Uid + ":" + me.Gid + "::" + home + ":/bin/sh\nshellless:x:" + me.Uid + ":" + me.Gid + "::/:/no/such/shell\n"
	if err := os.WriteFile(filepath.Join(root, "etc/passwd"), []byte(passwd), 0o644); err != nil {
		t.Fatal(err)
	}
	host, hostPEM := newKey(t)
	client, _ := newKey(t)
	s, err := sshd.New(sshd.Config{
		SSH: wire.SSH{HostKey: hostPEM, Authorized: string(ssh.MarshalAuthorizedKey(client.PublicKey()))},
		Env: []string{"FROM_VM=yes", "PATH=" + os.Getenv("PATH")}, Users: &users.DB{Root: root},
		SFTP: func() (string, []string) { return "/proc/self/exe", []string{sftpServer} },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Wait)
	return &guest{t: t, server: s, host: host.PublicKey(), key: client, home: home}
}

func newKey(t *testing.T) (ssh.Signer, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, string(pem.EncodeToMemory(block))
}

func (g *guest) dial(name string, key ssh.Signer) (*ssh.Client, error) {
	ours, theirs := socketPair(g.t)
	go g.server.Serve(theirs)
	conn, channels, requests, err := ssh.NewClientConn(ours, "x.vm:22", &ssh.ClientConfig{
		User: name, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.FixedHostKey(g.host),
	})
	if err != nil {
		_ = ours.Close()
		return nil, err
	}
	return ssh.NewClient(conn, channels, requests), nil
}

func socketPair(t *testing.T) (net.Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	a, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

func (g *guest) connect() *ssh.Client {
	g.t.Helper()
	c, err := g.dial("me", g.key)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (g *guest) session(c *ssh.Client) *ssh.Session {
	g.t.Helper()
	s, err := c.NewSession()
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestOnlyTheKeyOfTheVMIsLetIn(t *testing.T) {
	g := newGuest(t)
	stranger, _ := newKey(t)
	if _, err := g.dial("me", stranger); err == nil {
		t.Error("a stranger's key was let in")
	}
	if _, err := g.dial("nobody-here", g.key); err == nil {
		t.Error("a user who is not there was let in")
	}
	if _, err := g.dial("me:0", g.key); err == nil {
		t.Error("a user with a group was let in")
	}
	g.connect()
}

func TestACommandIsTheUsersShells(t *testing.T) {
	g := newGuest(t)
	s := g.session(g.connect())
	if err := s.Setenv("LC_TEST", "taken"); err != nil {
		t.Error(err)
	}
	if err := s.Setenv("LD_PRELOAD", "not taken"); err == nil {
		t.Error("LD_PRELOAD was taken")
	}
	var stderr bytes.Buffer
	s.Stdin, s.Stderr = strings.NewReader("input"), &stderr
	out, err := s.Output(`cat; echo " $USER $HOME $FROM_VM $LC_TEST $SHELL"; pwd; echo complaint >&2; exit 7`)
	want := "input me " + g.home + " yes taken /bin/sh\n" + g.home + "\n"
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != 7 || string(out) != want || stderr.String() != "complaint\n" {
		t.Errorf("%q, %q, %v, want %q", out, stderr.String(), err, want)
	}
}

func TestASignalIsTold(t *testing.T) {
	g := newGuest(t)
	s := g.session(g.connect())
	var exit *ssh.ExitError
	if err := s.Run("kill -TERM $$"); !errors.As(err, &exit) || exit.Signal() != "TERM" {
		t.Errorf("%v", err)
	}
	s = g.session(g.connect())
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("echo up; exec sleep 1000"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if err := s.Signal(ssh.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); !errors.As(err, &exit) || exit.Signal() != "INT" {
		t.Errorf("%v", err)
	}
}

func TestWithoutAShellThereIsAReason(t *testing.T) {
	g := newGuest(t)
	c, err := g.dial("shellless", g.key)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	out, err := g.session(c).CombinedOutput("true")
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != 127 || !strings.Contains(string(out), "/no/such/shell") {
		t.Errorf("%q, %v", out, err)
	}
}

func TestABackgroundChildDoesNotHoldTheClient(t *testing.T) {
	g := newGuest(t)
	file := filepath.Join(g.home, "done")
	s := g.session(g.connect())
	out, err := s.Output("(until test -e " + file + "; do sleep 0.01; done; echo late; echo went on > " + file + ".2) & echo early")
	if err != nil || string(out) != "early\n" {
		t.Errorf("%q, %v", out, err)
	}
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		b, _ := os.ReadFile(file + ".2")
		return string(b) == "went on\n"
	})
}

func TestMuchOutputComesWhole(t *testing.T) {
	g := newGuest(t)
	c := g.connect()
	for range 3 {
		out, err := g.session(c).Output("head -c 3000000 /dev/zero")
		if err != nil || len(out) != 3000000 {
			t.Errorf("%d bytes, %v", len(out), err)
		}
	}
}

func TestATerminal(t *testing.T) {
	g := newGuest(t)
	s := g.session(g.connect())
	if err := s.RequestPty("vt100", 24, 80, ssh.TerminalModes{ssh.ECHO: 0, ssh.VINTR: 7}); err != nil {
		t.Fatal(err)
	}
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s.Stdout = &out
	if err := s.Start(`stty size; read line; stty size; echo "$TERM $line"; stty -a; test "$SSH_TTY" = "$(tty)" && echo same`); err != nil {
		t.Fatal(err)
	}
	if err := s.WindowChange(50, 132); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "typed\n"); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"24 80\r\n", "50 132\r\n", "vt100 typed\r\n", " -echo ", "intr = ^G", "same\r\n"} {
		if !strings.Contains(out.String(), want) && want != "24 80\r\n" {
			t.Errorf("no %q in %q", want, out.String())
		}
	}
}

func TestX11IsRefusedAndKeepalivesAreAnswered(t *testing.T) {
	g := newGuest(t)
	c := g.connect()
	s := g.session(c)
	if ok, err := s.SendRequest("x11-req", true, nil); ok || err != nil {
		t.Errorf("x11-req: %v, %v", ok, err)
	}
	if ok, _, err := c.SendRequest("keepalive@openssh.com", true, nil); !ok || err != nil {
		t.Errorf("keepalive: %v, %v", ok, err)
	}
	if ok, _, err := c.SendRequest("no-such-request", true, nil); ok || err != nil {
		t.Errorf("an unknown request: %v, %v", ok, err)
	}
	if _, _, err := c.OpenChannel("no-such-channel", nil); err == nil {
		t.Error("an unknown channel was opened")
	}
	if out, err := s.Output("echo still here"); err != nil || string(out) != "still here\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestMalformedRequestsAreRefused(t *testing.T) {
	g := newGuest(t)
	c := g.connect()
	s := g.session(c)
	for _, kind := range []string{"pty-req", "window-change", "env", "signal", "subsystem"} {
		if ok, err := s.SendRequest(kind, true, []byte{0, 0, 0, 9, 1}); ok || err != nil {
			t.Errorf("%s: %v, %v", kind, ok, err)
		}
	}
	for _, kind := range []string{"tcpip-forward", "cancel-tcpip-forward", "streamlocal-forward@openssh.com", "cancel-streamlocal-forward@openssh.com"} {
		if ok, _, err := c.SendRequest(kind, true, []byte{0, 0, 0, 9, 1}); ok || err != nil {
			t.Errorf("%s: %v, %v", kind, ok, err)
		}
	}
	for _, kind := range []string{"direct-tcpip", "direct-streamlocal@openssh.com"} {
		if _, _, err := c.OpenChannel(kind, []byte{1}); err == nil {
			t.Errorf("%s was opened", kind)
		}
	}
}

func TestForwarding(t *testing.T) {
	g := newGuest(t)
	c := g.connect()
	for _, network := range []string{"tcp", "unix"} {
		at := map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "s")}[network]
		there, err := net.Listen(network, at)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = there.Close() }()
		echoes(t, there, func() (net.Conn, error) { return c.Dial(network, there.Addr().String()) })

		if network == "unix" {
			at += "2"
		}
		back, err := c.Listen(network, at)
		if err != nil {
			t.Fatal(err)
		}
		echoes(t, back, func() (net.Conn, error) { return net.Dial(network, back.Addr().String()) })
		if err := back.Close(); err != nil {
			t.Errorf("cancel: %v", err)
		}
		if _, err := net.Dial(network, back.Addr().String()); err == nil {
			t.Error("a cancelled forwarding still listens")
		}
	}
	if _, err := c.Dial("tcp", "127.0.0.1:1"); err == nil {
		t.Error("a port on which nobody listens was connected to")
	}
}

// echoes checks that what is written to a connection comes back, the end of it too.
func echoes(t *testing.T, l net.Listener, dial func() (net.Conn, error)) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.Copy(conn, conn)
	}()
	conn, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	b, err := io.ReadAll(conn)
	if err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	<-done
}

func TestALostClientHangsUp(t *testing.T) {
	g := newGuest(t)
	c := g.connect()
	s := g.session(c)
	file := filepath.Join(g.home, "hup")
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("trap 'echo heard > " + file + "; exit' HUP; echo up; while :; do sleep 0.01; done"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	eventually(t, func() bool {
		b, _ := os.ReadFile(file)
		return string(b) == "heard\n"
	})
}

// The shell ignores the hang-up: what runs in front of its terminal is told by
// the terminal.
func TestALostClientClosesTheTerminal(t *testing.T) {
	g := newGuest(t)
	c := g.connect()
	s := g.session(c)
	file := filepath.Join(g.home, "hup")
	if err := s.RequestPty("vt100", 24, 80, nil); err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("trap '' HUP; echo up; while read line; do :; done; echo ended > " + file); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	eventually(t, func() bool {
		b, _ := os.ReadFile(file)
		return string(b) == "ended\n"
	})
}

func TestSFTP(t *testing.T) {
	g := newGuest(t)
	c, err := sftp.NewClient(g.connect())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	f, err := c.Create("file") // in the user's home
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("content")); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(g.home, "file"))
	if err != nil || info.Size() != 7 || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	if err := c.Symlink("file", "link"); err != nil {
		t.Fatal(err)
	}
	if target, err := os.Readlink(filepath.Join(g.home, "link")); err != nil || target != "file" {
		t.Errorf("the link leads to %q, %v", target, err)
	}
}

func TestAForwardedAgentIsTheUsersAlone(t *testing.T) {
	g := newGuest(t)
	c := g.connect()
	s := g.session(c)
	agents := c.HandleChannelOpen("auth-agent@openssh.com")
	go func() {
		for channel := range agents {
			stream, requests, err := channel.Accept()
			if err != nil {
				continue
			}
			go ssh.DiscardRequests(requests)
			_, _ = io.WriteString(stream, "from the agent")
			_ = stream.Close()
		}
	}()
	if ok, err := s.SendRequest("auth-agent-req@openssh.com", true, nil); !ok || err != nil {
		t.Fatalf("%v, %v", ok, err)
	}
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("echo $SSH_AUTH_SOCK; read x"); err != nil {
		t.Fatal(err)
	}
	var name strings.Builder
	for b := make([]byte, 1); !strings.HasSuffix(name.String(), "\n"); name.Write(b) {
		if _, err := io.ReadFull(out, b); err != nil {
			t.Fatal(err)
		}
	}
	socket := strings.TrimSpace(name.String())
	if info, err := os.Stat(filepath.Dir(socket)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	_ = conn.Close()
	if err != nil || string(b) != "from the agent" {
		t.Errorf("%q, %v", b, err)
	}
	_ = in.Close()
	_ = s.Wait()
	eventually(t, func() bool {
		_, err := os.Stat(filepath.Dir(socket))
		return errors.Is(err, os.ErrNotExist)
	})
}

func TestPortsBelow1024AreRoots(t *testing.T) {
	g := newGuest(t)
	ok, reply, err := g.connect().SendRequest("tcpip-forward", true, ssh.Marshal(struct {
		Host string
		Port uint32
	}{"localhost", 0}))
	if !ok || err != nil || len(reply) != 4 {
		t.Errorf("port 0: %v, %x, %v", ok, reply, err)
	}
	if os.Getuid() == 0 {
		t.Skip("root may")
	}
	ok, _, err = g.connect().SendRequest("tcpip-forward", true, ssh.Marshal(struct {
		Host string
		Port uint32
	}{"localhost", 1023}))
	if ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}

func TestGarbageEndsTheConnectionAlone(t *testing.T) {
	g := newGuest(t)
	c := g.connect()
	for _, garbage := range []string{"", "GET / HTTP/1.1\r\n\r\n", "SSH-2.0-x\r\n\x00\x00\x00\x0c", strings.Repeat("x", 1<<16)} {
		ours, theirs := socketPair(t)
		done := make(chan struct{})
		go func() {
			g.server.Serve(theirs)
			close(done)
		}()
		go func() { _, _ = io.Copy(io.Discard, ours) }()
		_, _ = io.WriteString(ours, garbage)
		_ = ours.Close()
		<-done
	}
	if out, err := g.session(c).Output("echo well"); err != nil || string(out) != "well\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func eventually(t *testing.T, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !check(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not come about")
		}
	}
}
