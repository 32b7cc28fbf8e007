// Netguest is what the benchmark of the network runs in a guest. It prints
// seconds, one figure a line.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "netguest:", err)
		os.Exit(1)
	}
}

// run does VERB ADDRESS N.
func run() error {
	if len(os.Args) != 4 {
		return errors.New("usage: netguest rtt|connect|up|down|hold ADDRESS N")
	}
	n, err := strconv.Atoi(os.Args[3])
	if err != nil {
		return err
	}
	address := os.Args[2]
	switch os.Args[1] {
	case "rtt":
		return rtt(address, n)
	case "connect":
		return connect(address, n)
	case "up":
		return up(address, n)
	case "down":
		return down(address, n)
	case "hold":
		return hold(address, n)
	}
	return fmt.Errorf("there is no %q", os.Args[1])
}

// rtt prints the median of n requests and their answers on one connection.
func rtt(address string, n int) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	var message [64]byte
	return medianOf(n, func() error {
		if _, err := conn.Write(message[:]); err != nil {
			return err
		}
		_, err := io.ReadFull(conn, message[:])
		return err
	})
}

// connect prints the median of n connections made, one after another.
func connect(address string, n int) error {
	return medianOf(n, func() error {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

func medianOf(n int, do func() error) error {
	all := make([]float64, n)
	for i := range all {
		start := time.Now()
		if err := do(); err != nil {
			return err
		}
		all[i] = time.Since(start).Seconds()
	}
	slices.Sort(all)
	fmt.Println(all[n/2])
	return nil
}

// up prints how long n bytes take, until the other side has them all.
func up(address string, n int) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	start := time.Now()
	block := make([]byte, 64<<10)
	for left := n; left > 0; {
		wrote, err := conn.Write(block[:min(left, len(block))])
		if err != nil {
			return err
		}
		left -= wrote
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	var count [8]byte
	if _, err := io.ReadFull(conn, count[:]); err != nil {
		return err
	}
	if got := binary.BigEndian.Uint64(count[:]); got != uint64(n) {
		return fmt.Errorf("%d bytes came, not %d", got, n)
	}
	fmt.Println(time.Since(start).Seconds())
	return nil
}

// down asks for n bytes and prints how long they take.
func down(address string, n int) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	start := time.Now()
	if _, err := conn.Write(binary.BigEndian.AppendUint64(nil, uint64(n))); err != nil {
		return err
	}
	block, got := make([]byte, 64<<10), 0
	for {
		m, err := conn.Read(block)
		got += m
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if got != n {
		return fmt.Errorf("%d bytes came, not %d", got, n)
	}
	fmt.Println(time.Since(start).Seconds())
	return nil
}

// hold keeps n connections open, each used once, until stdin ends.
func hold(address string, n int) error {
	for range n {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		var message [64]byte
		if _, err := conn.Write(message[:]); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, message[:]); err != nil {
			return err
		}
	}
	fmt.Println(n)
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}
