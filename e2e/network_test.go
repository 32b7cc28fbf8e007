package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// canNamespaces says whether this host lets us make network namespaces; in CI it
// must.
func canNamespaces() (bool, error) {
	_, err := exec.LookPath("ip")
	if err == nil && os.Getuid() != 0 {
		err = errors.New("network namespaces need root")
	}
	if err != nil && os.Getenv("CI") == "true" {
		return false, err
	}
	return err == nil, nil
}

// outside VARIABLE: from here on banger and all it starts run in a network
// namespace whose only neighbour is another one, with the servers of the story:
// at 192.0.2.1 and 2001:db8::1 an echo at port 7 and a name server, at addresses
// that are closed to guests a trap at the port in VARIABLE. The same trap is at
// every address of banger's own namespace.
func outside(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: outside VARIABLE")
	}
	h := homeOf(ts)
	ours := filepath.Base(h.dir)
	theirs := ours + "-out"
	config := filepath.Join("/etc/netns", ours)
	ts.Defer(func() {
		for _, ns := range []string{ours, theirs} {
			_ = exec.Command("ip", "netns", "delete", ns).Run()
		}
		_ = os.RemoveAll(config)
		_ = os.Remove(filepath.Dir(config)) // if nobody else has one
	})
	for _, command := range []string{
		"netns add " + ours, "netns add " + theirs,
		"-n " + ours + " link set lo up", "-n " + theirs + " link set lo up",
		"-n " + ours + " link add out type veth peer name in netns " + theirs,
		"-n " + ours + " address add 192.0.2.2/24 dev out", "-n " + theirs + " address add 192.0.2.1/24 dev in",
		"-n " + ours + " address add 2001:db8::2/64 dev out nodad", "-n " + theirs + " address add 2001:db8::1/64 dev in nodad",
		"-n " + theirs + " address add 169.254.169.254/32 dev lo", "-n " + theirs + " address add fd00:ec2::254/128 dev lo",
		"-n " + theirs + " address add 100.100.100.200/32 dev lo",
		"-n " + theirs + " address add 10.9.9.9/32 dev lo", "-n " + theirs + " address add fd09::9/128 dev lo",
		"-n " + ours + " link set out up", "-n " + theirs + " link set in up",
		"-n " + ours + " route add default via 192.0.2.1", "-n " + ours + " route add default via 2001:db8::1",
	} {
		if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			ts.Fatalf("ip %s: %v\n%s", command, err, out)
		}
	}
	ts.Check(os.MkdirAll(config, 0o755))
	ts.Check(os.WriteFile(filepath.Join(config, "resolv.conf"), []byte("nameserver 192.0.2.1\n"), 0o644))
	ts.Check(os.WriteFile(filepath.Join(config, "hosts"), []byte("127.0.0.1 localhost\n198.51.100.9 by.hosts\n"), 0o644))
	wrapper := filepath.Join(h.dir, "bin")
	ts.Check(os.Mkdir(wrapper, 0o755))
	script := fmt.Sprintf("#!/bin/sh\nexec ip netns exec %s %s \"$@\"\n", ours, filepath.Join(bin, "banger"))
	ts.Check(os.WriteFile(filepath.Join(wrapper, "banger"), []byte(script), 0o755))
	ts.Setenv("PATH", wrapper+":"+ts.Getenv("PATH"))

	var port int
	ts.Check(inNamespace(theirs, func() error {
		p, err := listen(ts, "[::]:0", "REACHED outside")
		port = p
		if err == nil {
			_, err = listen(ts, "[::]:7", "")
		}
		if err == nil {
			err = nameServer(ts)
		}
		return err
	}))
	ts.Check(inNamespace(ours, func() error {
		_, err := listen(ts, fmt.Sprintf("[::]:%d", port), "REACHED inside")
		return err
	}))
	ts.Setenv(args[0], strconv.Itoa(port))
}

// inNamespace does something on a thread in a network namespace; sockets made
// there stay in it.
func inNamespace(name string, do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		ns, err := os.Open(filepath.Join("/run/netns", name))
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			_ = ns.Close()
		}
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

// listen answers over TCP and UDP with text, or with what it hears.
func listen(ts *testscript.TestScript, at, text string) (port int, err error) {
	l, err := net.Listen("tcp", at)
	if err != nil {
		return 0, err
	}
	ts.Defer(func() { _ = l.Close() })
	p, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		return 0, err
	}
	ts.Defer(func() { _ = p.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go answer(conn, text)
		}
	}()
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			if text != "" {
				n = copy(b, text)
			}
			_, _ = p.WriteTo(b[:n], from)
		}
	}()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func answer(conn net.Conn, text string) {
	defer func() { _ = conn.Close() }()
	if text != "" {
		_, _ = io.WriteString(conn, text)
		return
	}
	b := make([]byte, 1500) // there may be thousands
	for {
		n, err := conn.Read(b)
		if err != nil {
			return
		}
		_, _ = conn.Write(b[:n])
	}
}

// nameServer knows every name: it is the outside.
func nameServer(ts *testscript.TestScript) error {
	l, err := net.Listen("tcp", "192.0.2.1:53")
	if err != nil {
		return err
	}
	p, err := net.ListenPacket("udp", "192.0.2.1:53")
	if err != nil {
		_ = l.Close()
		return err
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		head := dns.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET}
		switch head.Rrtype {
		case dns.TypeA:
			m.Answer = append(m.Answer, &dns.A{Hdr: head, A: net.ParseIP("192.0.2.1")})
		case dns.TypeAAAA:
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: head, AAAA: net.ParseIP("2001:db8::1")})
		}
		_ = w.WriteMsg(m)
	})
	for _, s := range []*dns.Server{{Listener: l, Handler: handler}, {PacketConn: p, Handler: handler}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { _ = s.ActivateAndServe() }()
		<-started
		ts.Defer(func() { _ = s.Shutdown() })
	}
	return nil
}

// rss NAME MIB [peak]: the VM's monitor holds at most that much memory, soon; with
// peak, it never held more.
func rss(ts *testscript.TestScript, neg bool, args []string) {
	field := "VmRSS:"
	if len(args) == 3 && args[2] == "peak" {
		field, args = "VmHWM:", args[:2]
	}
	if neg || len(args) != 2 {
		ts.Fatalf("usage: rss NAME MIB [peak]")
	}
	limit, err := strconv.Atoi(args[1])
	ts.Check(err)
	d, err := homeOf(ts).show(args[0])
	ts.Check(err)
	if d.Handles == nil {
		ts.Fatalf("%s is not alive", args[0])
	}
	ts.Check(eventually(func() error {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.Handles.MonitorPID))
		if err != nil {
			return err
		}
		_, text, _ := strings.Cut(string(status), field)
		kib, err := strconv.Atoi(strings.Fields(text)[0])
		if err == nil && kib > limit<<10 {
			err = fmt.Errorf("the monitor of %s holds %d KiB", args[0], kib)
		}
		return err
	}))
}
