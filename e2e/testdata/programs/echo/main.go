// Echo serves the address it is given, tcp or udp: a connection is answered with
// all that it said once it has said all, a datagram with itself. With http it
// answers a request with an empty page.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
)

func main() {
	network, address := os.Args[1], os.Args[2]
	if network == "udp" {
		pc, err := net.ListenPacket(network, address)
		check(err)
		ready()
		buf := make([]byte, 1<<16)
		for {
			n, from, err := pc.ReadFrom(buf)
			check(err)
			_, _ = pc.WriteTo(buf[:n], from)
		}
	}
	ln, err := net.Listen("tcp", address)
	check(err)
	ready()
	for {
		conn, err := ln.Accept()
		check(err)
		go func() {
			defer conn.Close()
			if network == "http" {
				_, _ = bufio.NewReader(conn).ReadString('\n')
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
				return
			}
			if all, err := io.ReadAll(conn); err == nil {
				_, _ = conn.Write(all)
			}
		}()
	}
}

func ready() { fmt.Println("ready") }

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
