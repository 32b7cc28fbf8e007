package guest_test

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/guest"
)

// Those who read a stream and those who close it, when the guest has closed it too,
// do not lock each other out, nor all other streams.
func TestStreamThatIsReadAndClosedAtOnce(t *testing.T) {
	host, inside := serialPair(t)
	said := make(chan struct{})
	go aGuest(inside, map[uint32]func(net.Conn){
		7: func(c net.Conn) {
			_, _ = c.Write(make([]byte, wire.StreamWindow/2)) // as much as nobody has to make room for
			_ = c.Close()
			said <- struct{}{}
		},
		8: func(c net.Conn) { // closes behind the other
			<-said
			_ = c.Close()
		},
	})
	if err := wire.SyncHost(host); err != nil {
		t.Fatal(err)
	}
	session, err := guest.NewSession(host)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Close() }()
	open := func(port uint32) net.Conn {
		conn, err := session.Open(t.Context(), port)
		if err != nil {
			t.Error(err)
		}
		return conn
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 30 {
			conn, behind := open(7), open(8)
			_, _ = io.Copy(io.Discard, behind)
			_ = behind.Close()
			var all sync.WaitGroup
			all.Go(func() { _, _ = io.Copy(io.Discard, conn) })
			all.Go(func() { _ = conn.Close() })
			all.Go(func() { _ = conn.Close() })
			all.Wait()
		}
	}()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		t.Error("the session stands still")
	}
}
