// Package testguest is what runs inside the machines of the driver suite: a
// guest that does what the kernel command line says, and then what it is told
// over its port, a line at a time. It runs as a goroutine in the fake's machines
// and as /init in real ones. It is no agent and speaks nothing of banger's.
package testguest

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Word begins the word of the kernel command line that says what to do.
const Word = "banger.test="

// Up is the line that the guest prints first.
const Up = "test: up"

// How is what a guest does. All but Serve are also lines that Serve takes.
type How string

// What a guest can do.
const (
	Serve    How = "serve" // open the port and do as told there; without a word
	Poweroff How = "poweroff"
	Reset    How = "reset"
	Panic    How = "panic"
	Hang     How = "hang" // nothing, whatever anybody asks
)

// Machine is what the guest runs in.
type Machine interface {
	Console() io.Writer
	// OpenPort opens the guest's end of the channel; closing it can be seen by
	// the host, and it can be opened again.
	OpenPort() (io.ReadWriteCloser, error)
	// Call answers a line that this package does not know, with one line.
	Call(words []string) string
}

// Run is the guest's life. It returns how the guest is to end; its caller does
// it. An end of ctx is Hang.
func Run(ctx context.Context, m Machine, cmdline string) How {
	printf(m, "%s\n", Up)
	how := Wanted(cmdline)
	if how == Serve {
		how = serve(ctx, m)
	}
	if how == Panic {
		printf(m, "test: panic\n")
		return how
	}
	printf(m, "test: %s\n", how)
	return how
}

// Wanted is what a kernel command line asks for.
func Wanted(cmdline string) How {
	how := Serve
	for word := range strings.FieldsSeq(cmdline) {
		if value, ok := strings.CutPrefix(word, Word); ok {
			how = How(value)
		}
	}
	return how
}

func serve(ctx context.Context, m Machine) How {
	for ctx.Err() == nil {
		port, err := m.OpenPort()
		if err != nil {
			printf(m, "test: open the port: %v\n", err)
			return Poweroff
		}
		how := session(m, port)
		_ = port.Close()
		if how != Serve {
			return how
		}
	}
	return Hang
}

// session does what is asked over one opening of the port. Serve means that the
// port is to be opened anew.
func session(m Machine, port io.ReadWriter) How {
	in := bufio.NewReader(port)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			printf(m, "test: read the port: %v\n", err)
			return Serve
		}
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		answer := "ok"
		switch words[0] {
		case "reopen":
			return Serve
		case string(Poweroff), string(Reset), string(Panic), string(Hang):
			return How(words[0])
		case "echo":
			answer = strings.Join(words[1:], " ")
		case "console":
			number(m, words[1:])
		default:
			answer = m.Call(words)
		}
		if _, err := fmt.Fprintln(port, answer); err != nil {
			return Serve
		}
	}
}

// NumberedLine is line n of what "console N" prints; n counts from 1.
func NumberedLine(n int) string {
	return fmt.Sprintf("line %06d abcdefghijklmnopqrstuvwxyz", n)
}

func number(m Machine, words []string) {
	if len(words) != 1 {
		return
	}
	lines, _ := strconv.Atoi(words[0])
	for n := range lines {
		printf(m, "%s\n", NumberedLine(n+1))
	}
}

func printf(m Machine, format string, args ...any) {
	_, _ = fmt.Fprintf(m.Console(), format, args...)
}

// Lines for the network card: Listen makes ready to receive, and "frames N" sends
// back N frames of FrameType as they come.
const (
	Listen = "listen"
	Frames = "frames"
)

// FrameType is the EtherType of the suite's frames, one for local experiments.
const FrameType = 0x88b5

// Reflect sends back n frames of those that a fake card's stream gives.
func Reflect(card io.ReadWriter, n int) error {
	for range n {
		var length [4]byte
		if _, err := io.ReadFull(card, length[:]); err != nil {
			return err
		}
		frame := make([]byte, binary.BigEndian.Uint32(length[:]))
		if _, err := io.ReadFull(card, frame); err != nil {
			return err
		}
		if _, err := card.Write(append(length[:], frame...)); err != nil {
			return err
		}
	}
	return nil
}
