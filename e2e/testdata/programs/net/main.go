// Net is what a guest does to its network in the stories: it uses it, looks for
// a way round its policy, and floods it.
package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is for what must come, impatience for what must not.
const (
	patience   = time.Minute
	impatience = 2 * time.Second
)

func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

func run(verb string, args []string) error {
	switch verb {
	case "tcp", "udp":
		answer, err := talk(verb, args[0], patience)
		fmt.Println(answer)
		return err
	case "ping":
		return ping(args[0], patience)
	case "noping":
		if ping(args[0], 2*impatience) == nil {
			return errors.New("it answers")
		}
		fmt.Println("silent")
		return nil
	case "lookup":
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		names, err := net.DefaultResolver.LookupHost(ctx, args[0])
		slices.Sort(names)
		fmt.Println(strings.Join(names, " "))
		return err
	case "try":
		try(args[0], args[1:])
		return nil
	case "open":
		return open(args[0], args[1])
	case "syn":
		return flood(args[0], func(i int) []byte { return syn(i) })
	case "frames":
		return flood(args[0], malformed)
	}
	return fmt.Errorf("unknown verb %q", verb)
}

// talk says something, ends its half, and returns what comes back.
func talk(proto, to string, limit time.Duration) (string, error) {
	conn, err := net.DialTimeout(proto, to, limit)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	if _, err := io.WriteString(conn, "hello "+proto); err != nil {
		return "", err
	}
	if c, ok := conn.(*net.TCPConn); ok {
		_ = c.CloseWrite()
		b, err := io.ReadAll(c)
		return string(b), err
	}
	b := make([]byte, 1500)
	n, err := conn.Read(b)
	return string(b[:n]), err
}

// ping says something if it is answered.
func ping(to string, limit time.Duration) error {
	proto, kind := "ip4:icmp", byte(8)
	if strings.Contains(to, ":") {
		proto, kind = "ip6:ipv6-icmp", 128
	}
	conn, err := net.DialTimeout(proto, to, limit)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	request := []byte{kind, 0, 0, 0, 0x12, 0x34, 0, 1, 'p', 'i', 'n', 'g'}
	if kind == 8 {
		binary.BigEndian.PutUint16(request[2:], sum(request))
	}
	if _, err := conn.Write(request); err != nil {
		return err
	}
	for {
		b := make([]byte, 1500)
		n, err := conn.Read(b)
		if err != nil {
			return err
		}
		if b = b[:n]; n >= len(request) && b[n-len(request)+4] == 0x12 && b[n-len(request)] == map[byte]byte{8: 0, 128: 129}[kind] {
			fmt.Println("pong")
			return nil
		}
	}
}

func sum(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

// try says which addresses answer anything at all.
func try(port string, addresses []string) {
	var wg sync.WaitGroup
	for _, a := range addresses {
		for _, proto := range []string{"tcp", "udp"} {
			wg.Go(func() {
				if answer, _ := talk(proto, net.JoinHostPort(a, port), impatience); answer != "" {
					fmt.Println("REACHED", proto, a, answer)
				}
			})
		}
	}
	wg.Wait()
	fmt.Println("tried")
}

// open holds as many connections as it gets until its input ends.
func open(to, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	const dialers = 64
	results := make(chan net.Conn, dialers)
	for d := range dialers {
		go func() {
			for i := d; i < n; i += dialers {
				conn, err := net.DialTimeout("tcp", to, patience)
				if err != nil {
					conn = nil
				}
				results <- conn
			}
		}()
	}
	var held []net.Conn
	refused := 0
	for range n {
		if conn := <-results; conn != nil {
			held = append(held, conn)
		} else {
			refused++
		}
	}
	fmt.Println("open", len(held) > 0, "refused", refused > 0, "all", len(held)+refused)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

// flood sends frames past the guest's own stack.
func flood(count string, frame func(int) []byte) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	nic, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, 0)
	if err != nil {
		return err
	}
	to := &syscall.SockaddrLinklayer{Ifindex: nic.Index, Halen: 6}
	for i := range n {
		if err := syscall.Sendto(fd, frame(i), 0, to); err != nil && err != syscall.ENOBUFS && err != syscall.EINVAL {
			return err
		}
	}
	fmt.Println("sent", n)
	return nil
}

// syn begins a connection from a port and an address that change.
func syn(i int) []byte {
	b := make([]byte, 14+20+20)
	copy(b, "\x02bangr")
	b[12], b[13] = 8, 0
	ip, tcp := b[14:34], b[34:]
	ip[0], ip[3], ip[8], ip[9] = 0x45, 40, 64, 6
	copy(ip[12:], []byte{10, 0, 2, byte(16 + i%200)})
	copy(ip[16:], []byte{192, 0, 2, 1})
	binary.BigEndian.PutUint16(ip[10:], sum(ip))
	binary.BigEndian.PutUint16(tcp, uint16(i))
	tcp[3], tcp[12], tcp[13], tcp[14] = 7, 5<<4, 2, 0xff
	return b
}

// malformed is a frame of noise, most of it behind a beginning that is looked at.
func malformed(i int) []byte {
	b := make([]byte, 14+i%1500)
	_, _ = rand.Read(b)
	copy(b, "\x02bangr")
	switch i % 4 {
	case 0:
		copy(b[12:], []byte{8, 0})
		if len(b) >= 34 {
			b[14] = 0x45
			binary.BigEndian.PutUint16(b[16:], uint16(len(b)-14))
			copy(b[26:], []byte{10, 0, 2, 15})
			b[23] = []byte{1, 6, 17, 0}[i/4%4]
			b[24], b[25] = 0, 0
			binary.BigEndian.PutUint16(b[24:], sum(b[14:34]))
		}
	case 1:
		copy(b[12:], []byte{0x86, 0xdd})
		if len(b) >= 54 {
			b[14] = 0x60
			binary.BigEndian.PutUint16(b[18:], uint16(len(b)-54))
			b[20] = []byte{6, 17, 44, 58, 0}[i/4%5]
			copy(b[22:], net.ParseIP("fd62:6e67:7200::15"))
		}
	case 2:
		copy(b[12:], []byte{8, 6})
	}
	return b
}
