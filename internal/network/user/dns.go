package user

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	dnsPort = 53
	// questionTimeout bounds how long one server is waited for.
	questionTimeout = 3 * time.Second
	// idleTimeout ends a connection to the resolver on which nobody asks.
	idleTimeout = 10 * time.Second
	// hostsTTL is how long, in seconds, the guest may keep a name of the hosts file.
	hostsTTL = 10
)

// resolver answers the guest's questions: by the host's hosts file, and by the
// servers that the host itself asks. Those are often on the host's loopback or
// behind a VPN, where the guest reaches nothing.
type resolver struct {
	fixed  []netip.AddrPort // of the settings
	allows func(netip.Addr) bool
	count  func()
	turns  chan struct{} // has a value for each question under way
	resolv *watched[[]netip.AddrPort]
	hosts  *watched[map[string][]netip.Addr]
}

func newResolver(cfg Config, allows func(netip.Addr) bool, count func()) *resolver {
	r := &resolver{
		allows: allows, count: count, turns: make(chan struct{}, maxQuestions),
		resolv: watch(cmp.Or(cfg.Resolv, "/etc/resolv.conf"), parseResolv),
		hosts:  watch(cmp.Or(cfg.Hosts, "/etc/hosts"), parseHosts),
	}
	for _, text := range cfg.Settings.DNS {
		if server, err := parseServer(text); err == nil {
			r.fixed = append(r.fixed, server)
		} else {
			cfg.Log.Warn("a DNS server of the settings is left out", "server", text, "err", err)
		}
	}
	return r
}

func (r *resolver) servers() []netip.AddrPort {
	if len(r.fixed) > 0 {
		return r.fixed
	}
	return r.resolv.get()
}

// serveUDP answers one datagram. Beyond maxQuestions it is lost, and asked again.
func (r *resolver) serveUDP(b *boot, src, dst netip.AddrPort, question []byte) {
	select {
	case r.turns <- struct{}{}:
	default:
		b.counters.dropped.Add(1)
		return
	}
	b.wg.Go(func() {
		defer func() { <-r.turns }()
		if answer := r.answer(b.ctx, "udp", question); answer != nil {
			b.sendUDP(dst, src, answer)
		}
	})
}

// serveTCP answers one connection until the guest ends it or asks no more.
func (r *resolver) serveTCP(ctx context.Context, queue *waiter.Queue, ep tcpip.Endpoint) {
	conn := gonet.NewTCPConn(queue, ep)
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	for ctx.Err() == nil {
		_ = conn.SetDeadline(time.Now().Add(idleTimeout))
		question, err := readMessage(conn)
		if err != nil {
			return
		}
		select {
		case r.turns <- struct{}{}:
		case <-ctx.Done():
			return
		}
		answer := r.answer(ctx, "tcp", question)
		<-r.turns
		_ = conn.SetDeadline(time.Now().Add(idleTimeout))
		if answer == nil || writeMessage(conn, answer) != nil {
			return
		}
	}
}

// answer is the answer to a message, or nil to one that is none.
func (r *resolver) answer(ctx context.Context, proto string, question []byte) []byte {
	var q dns.Msg
	if q.Unpack(question) != nil || q.Response {
		return nil
	}
	r.count()
	switch {
	case q.Opcode != dns.OpcodeQuery:
		return packed(new(dns.Msg).SetRcode(&q, dns.RcodeNotImplemented))
	case len(q.Question) != 1:
		return packed(new(dns.Msg).SetRcode(&q, dns.RcodeFormatError))
	}
	if known := r.known(&q); known != nil {
		return packed(known)
	}
	for _, server := range r.servers() {
		if answer, err := exchange(ctx, proto, server, &q, question); err == nil {
			return answer
		}
	}
	return packed(new(dns.Msg).SetRcode(&q, dns.RcodeServerFailure))
}

func packed(m *dns.Msg) []byte {
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

// known is the answer of the hosts file, or nil when the name is not in it.
// Addresses that the guest may not reach are left out: on the host they are often
// its loopback.
func (r *resolver) known(q *dns.Msg) *dns.Msg {
	ask := q.Question[0]
	if ask.Qclass != dns.ClassINET || ask.Qtype != dns.TypeA && ask.Qtype != dns.TypeAAAA {
		return nil
	}
	var reply *dns.Msg
	for _, a := range r.hosts.get()[lower(ask.Name)] {
		if !r.allows(a) {
			continue
		}
		if reply == nil {
			reply = new(dns.Msg).SetReply(q)
			reply.RecursionAvailable = true
		}
		head := dns.RR_Header{Name: ask.Name, Rrtype: ask.Qtype, Class: dns.ClassINET, Ttl: hostsTTL}
		switch {
		case a.Is4() && ask.Qtype == dns.TypeA:
			reply.Answer = append(reply.Answer, &dns.A{Hdr: head, A: a.AsSlice()})
		case a.Is6() && ask.Qtype == dns.TypeAAAA:
			reply.Answer = append(reply.Answer, &dns.AAAA{Hdr: head, AAAA: a.AsSlice()})
		}
	}
	return reply
}

var errOtherAnswer = errors.New("that is no answer to the question")

// exchange asks one server under an identifier of ours and gives its answer, as
// it is, under the guest's.
func exchange(ctx context.Context, proto string, server netip.AddrPort, q *dns.Msg, question []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, proto, server.String())
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	ident := uint16(rand.Uint32()) //nolint:gosec // math/rand/v2 is ChaCha8, seeded by the system
	ours := append(binary.BigEndian.AppendUint16(nil, ident), question[2:]...)
	if err := send(conn, proto, ours); err != nil {
		return nil, err
	}
	for {
		answer, err := receive(conn, proto)
		if err != nil {
			return nil, err
		}
		if !answers(answer, ident, q) {
			if proto == "tcp" {
				return nil, errOtherAnswer
			}
			continue // somebody guesses
		}
		binary.BigEndian.PutUint16(answer, q.Id)
		return answer, nil
	}
}

// answers says whether a message answers our question.
func answers(message []byte, ident uint16, q *dns.Msg) bool {
	var m dns.Msg
	if m.Unpack(message) != nil || m.Id != ident || !m.Response {
		return false
	}
	return len(m.Question) == 0 || len(m.Question) == 1 && m.Question[0].Qtype == q.Question[0].Qtype &&
		lower(m.Question[0].Name) == lower(q.Question[0].Name)
}

func send(conn net.Conn, proto string, message []byte) error {
	if proto == "tcp" {
		return writeMessage(conn, message)
	}
	_, err := conn.Write(message)
	return err
}

func receive(conn net.Conn, proto string) ([]byte, error) {
	if proto == "tcp" {
		return readMessage(conn)
	}
	b := make([]byte, dns.MaxMsgSize) // a guest may have asked for more than is usual
	n, err := conn.Read(b)
	return b[:n], err
}

// readMessage reads a message after its length, as RFC 1035 4.2.2 has it.
func readMessage(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeMessage(w io.Writer, message []byte) error {
	if len(message) > 0xffff {
		return fmt.Errorf("a message of %d bytes", len(message))
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...))
	return err
}
