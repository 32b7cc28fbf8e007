package vmmtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"testing"
	"time"

	"banger.dev/banger/internal/vmm"
	"banger.dev/banger/internal/vmm/vmmtest/testguest"
)

// guestMAC is the address of the suite's network card.
const guestMAC = "\x52\x54\x00\x00\x00\x01"

// testNetwork: frames of every size go both ways, whole and in order, and a
// machine without a card gives no stream.
func testNetwork(t *testing.T, s Subject) {
	if s.Driver.Features().Vsock {
		t.Skip("this part speaks with the guest over the Channel, which a VMM with vsock has not")
	}
	s.Config.NIC = &vmm.NIC{MAC: "52:54:00:00:00:01"}
	r := start(t, s, testguest.Serve)
	networker, ok := r.m.(vmm.Networker)
	if !ok {
		t.Fatal("the machine gives no network")
	}
	stream := networker.Network()
	if err := stream.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	r.expect(vmm.Event{Type: vmm.EventChannel, Open: true})
	if got := r.ask(testguest.Listen); got != "ok" {
		t.Fatalf("the guest answered %q", got)
	}
	sizes := []int{60, 61, 1514, 9014, 65534}
	r.tell(fmt.Sprintf("%s %d", testguest.Frames, len(sizes)))
	for n, size := range sizes {
		sent := frame(size, byte(n))
		if _, err := stream.Write(append(binary.BigEndian.AppendUint32(nil, uint32(size)), sent...)); err != nil {
			t.Fatal(err)
		}
		if got := nextFrame(t, stream); !bytes.Equal(got, sent) {
			t.Errorf("a frame of %d bytes came back as one of %d", size, len(got))
		}
	}
	if got := r.answer(); got != "ok" {
		t.Errorf("the guest answered %q", got)
	}
	if err := r.m.Kill(); err != nil {
		t.Errorf("Kill: %v", err)
	}
	if _, err := stream.Read(make([]byte, 1)); err == nil {
		t.Error("the stream of a dead machine gives something")
	}

	s.Config.NIC = nil
	if without := start(t, s, testguest.Hang).m.(vmm.Networker).Network(); without != nil {
		t.Error("a machine without a card has a network")
	}
}

// frame is one of the suite's, for the guest's card.
func frame(size int, fill byte) []byte {
	f := bytes.Repeat([]byte{fill}, size)
	copy(f, guestMAC)
	binary.BigEndian.PutUint16(f[12:], testguest.FrameType)
	return f
}

// nextFrame is the guest's next frame of the suite; its kernel has others.
func nextFrame(t *testing.T, stream io.Reader) []byte {
	t.Helper()
	for {
		var length [4]byte
		if _, err := io.ReadFull(stream, length[:]); err != nil {
			t.Fatal(err)
		}
		f := make([]byte, binary.BigEndian.Uint32(length[:]))
		if _, err := io.ReadFull(stream, f); err != nil {
			t.Fatal(err)
		}
		if len(f) > 14 && binary.BigEndian.Uint16(f[12:]) == testguest.FrameType {
			return f
		}
	}
}
