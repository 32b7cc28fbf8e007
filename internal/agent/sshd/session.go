package sshd

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/command"
)

// The PATHs of Debian's sshd.
const (
	userPath = "/usr/local/bin:/usr/bin:/bin:/usr/games"
	rootPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

const (
	maxVariables = 256
	maxVariable  = 64 << 10
)

// session is one session channel: requests that prepare it, then one program.
type session struct {
	conn    *conn
	channel ssh.Channel
	env     []string
	tty     *terminal
	agent   *agentSocket
	started bool
	next    func() // what the last request has begun

	mu   sync.Mutex
	proc *command.Process
}

func (c *conn) serveSession(channel ssh.NewChannel) {
	stream, requests, err := channel.Accept()
	if err != nil {
		return
	}
	s := &session{conn: c, channel: stream}
	var running sync.WaitGroup
	for r := range requests {
		ok := s.request(r)
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
		if s.next != nil { // behind the reply, for it ends the channel
			running.Go(s.next)
			s.next = nil
		}
	}
	s.hangUp()
	running.Wait()
	s.agent.close()
}

func (s *session) request(r *ssh.Request) bool {
	switch r.Type {
	case "env":
		return s.setEnv(r.Payload)
	case "pty-req":
		return s.setTerminal(r.Payload)
	case "window-change":
		return s.resize(r.Payload)
	case "signal":
		var named struct{ Name string }
		signal := unix.SignalNum("SIG" + name(r.Payload, &named.Name))
		if signal == 0 {
			return false
		}
		s.signal(signal)
		return true
	case "auth-agent-req@openssh.com":
		return s.forwardAgent()
	case "shell":
		return s.start(program{login: true})
	case "exec":
		var line string
		name(r.Payload, &line)
		return s.start(program{line: line})
	case "subsystem":
		var subsystem string
		return name(r.Payload, &subsystem) == "sftp" && s.start(program{sftp: true})
	}
	return false // x11-req among them: there is no X here to forward to
}

// name reads a payload that is one string.
func name(payload []byte, into *string) string {
	var one struct{ Value string }
	if ssh.Unmarshal(payload, &one) == nil {
		*into = one.Value
	}
	return *into
}

// setEnv takes what Debian's sshd does, and git's word on its protocol.
func (s *session) setEnv(payload []byte) bool {
	var v struct{ Name, Value string }
	if ssh.Unmarshal(payload, &v) != nil || strings.ContainsRune(v.Name+v.Value, 0) || strings.Contains(v.Name, "=") ||
		len(v.Name)+len(v.Value) > maxVariable || len(s.env) >= maxVariables {
		return false
	}
	switch {
	case v.Name == "LANG", strings.HasPrefix(v.Name, "LC_"), v.Name == "COLORTERM", v.Name == "NO_COLOR", v.Name == "GIT_PROTOCOL":
		s.env = append(s.env, v.Name+"="+v.Value)
		return true
	}
	return false
}

// program is what a session is asked to run.
type program struct {
	login bool
	sftp  bool
	line  string
}

func (s *session) start(p program) bool {
	if s.started {
		return false
	}
	s.started = true
	spec := s.spec(p)
	proc, problem := command.Start(spec)
	if problem != nil {
		// The request has been understood; its failure is told as a shell tells it.
		s.next = func() {
			_, _ = fmt.Fprintf(s.channel.Stderr(), "banger: %s\n", problem.Message)
			s.exit(problem.Code)
		}
		return true
	}
	s.mu.Lock()
	s.proc = proc
	s.mu.Unlock()
	s.next = func() {
		defer caught()
		s.run(proc)
	}
	return true
}

func (s *session) spec(p program) command.Spec {
	as := s.conn.as
	shell := as.Shell
	if shell == "" {
		shell = "/bin/sh"
	}
	spec := command.Spec{File: shell, As: as, Env: s.environment(shell)}
	base := filepath.Base(shell)
	switch {
	case p.sftp:
		spec.File, spec.Argv = s.conn.server.sftp()
		return spec
	case p.login:
		spec.Argv = []string{"-" + base}
	default:
		spec.Argv = []string{base, "-c", p.line}
	}
	if s.tty != nil {
		spec.TTY, spec.Rows, spec.Cols = true, s.tty.rows, s.tty.cols
		spec.TTYVariable, spec.Terminal = "SSH_TTY", s.tty.modes.apply
		spec.Env = append(spec.Env, "TERM="+s.tty.term)
	}
	return spec
}

// environment is sshd's, with the VM's own in it.
func (s *session) environment(shell string) []string {
	as := s.conn.as
	search := userPath
	if as.UID == 0 {
		search = rootPath
	}
	name := as.Name
	if name == "" {
		name = s.conn.ssh.User()
	}
	env := []string{"PATH=" + search}
	env = append(env, s.conn.server.env...)
	env = append(env, "USER="+name, "LOGNAME="+name, "HOME="+as.Home, "SHELL="+shell, "MAIL=/var/mail/"+name,
		// bash reads ~/.bashrc for a command only where it sees one of these. There
		// is no address: the connection comes over the guest channel.
		"SSH_CLIENT=127.0.0.1 0 22", "SSH_CONNECTION=127.0.0.1 0 127.0.0.1 22")
	if s.agent != nil {
		env = append(env, "SSH_AUTH_SOCK="+s.agent.path)
	}
	return command.LastWins(append(env, s.env...))
}

// run carries the program's streams and ends the channel when the program ends.
func (s *session) run(p *command.Process) {
	go func() {
		defer caught()
		_, _ = io.Copy(p.Stdin, s.channel)
		if p.Stderr != nil { // a terminal is its output as well
			_ = p.Stdin.Close()
		}
	}()
	var outputs sync.WaitGroup
	ended := make(chan struct{})
	carry := func(from *os.File, to io.Writer) {
		defer caught()
		_, err := io.Copy(to, from)
		select {
		case <-ended:
			if os.IsTimeout(err) {
				_, _ = to.Write(p.Pending(from))
			}
		default:
			if err == nil || s.tty != nil {
				return
			}
			// The client takes no more: as at a closed pipe.
			_ = from.Close()
		}
	}
	outputs.Go(func() { carry(p.Stdout, s.channel) })
	if p.Stderr != nil {
		outputs.Go(func() { carry(p.Stderr, s.channel.Stderr()) })
	}
	status := p.Wait()
	close(ended)
	p.Drain()
	outputs.Wait()
	p.Release()
	s.finish(status)
	s.leave(p)
}

// leave closes our ends. What the program has left behind goes on with its
// output read and dropped, so that it does not die of SIGPIPE.
func (s *session) leave(p *command.Process) {
	if p.Stderr == nil {
		_ = p.Stdout.Close()
		return
	}
	_ = p.Stdin.Close()
	for _, f := range []*os.File{p.Stdout, p.Stderr} {
		_ = f.SetReadDeadline(time.Time{})
		go func() {
			_, _ = io.Copy(io.Discard, f)
			_ = f.Close()
		}()
	}
}

func (s *session) finish(status syscall.WaitStatus) {
	if !status.Signaled() {
		s.exit(status.ExitStatus())
		return
	}
	_ = s.channel.CloseWrite()
	_, _ = s.channel.SendRequest("exit-signal", false, ssh.Marshal(struct {
		Name       string
		Core       bool
		Text, Lang string
	}{strings.TrimPrefix(unix.SignalName(status.Signal()), "SIG"), status.CoreDump(), "", ""}))
	_ = s.channel.Close()
}

func (s *session) exit(code int) {
	_ = s.channel.CloseWrite()
	_, _ = s.channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(code)}))
	_ = s.channel.Close()
}

// hangUp is for a client that is gone, or has closed the channel: what a
// terminal does when it is closed, and the same for what has none. What ignores
// it, as under nohup, goes on.
func (s *session) hangUp() {
	s.mu.Lock()
	p := s.proc
	s.mu.Unlock()
	if p == nil {
		return
	}
	p.Signal(syscall.SIGHUP)
	if p.Stderr == nil {
		_ = p.Stdout.Close()
	}
}

func (s *session) signal(signal syscall.Signal) {
	s.mu.Lock()
	p := s.proc
	s.mu.Unlock()
	if p != nil {
		p.Signal(signal)
	}
}
