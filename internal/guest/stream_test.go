package guest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/guest"
)

// still is a stdin of which nothing comes.
type still struct{ asked, end chan struct{} }

func newStill(t *testing.T) still {
	s := still{make(chan struct{}, 1), make(chan struct{})}
	t.Cleanup(func() { close(s.end) })
	return s
}

func (s still) Read([]byte) (int, error) {
	s.asked <- struct{}{}
	<-s.end
	return 0, io.EOF
}

// A copy of what does not come ends with its guest, and with whoever wanted it.
func TestStreamThatStandsStill(t *testing.T) {
	dir := t.TempDir()
	write := func(ctx context.Context, f guest.Files, tar io.Reader) <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := f.WriteStream(ctx, wire.WriteFiles{Place: at(dir)}, tar)
			done <- err
		}()
		return done
	}
	ended := func(t *testing.T, done <-chan error) error {
		t.Helper()
		select {
		case err := <-done:
			return err
		case <-time.After(time.Minute):
			t.Fatal("it waits for more")
			return nil
		}
	}
	t.Run("interrupted", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := newStill(t)
		done := write(ctx, filesOver(t, filesPort()), s)
		<-s.asked
		cancel()
		if err := ended(t, done); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("the guest ends", func(t *testing.T) {
		s := newStill(t)
		done := write(t.Context(), filesOver(t, map[uint32]func(net.Conn){wire.PortControl: func(c net.Conn) {
			<-s.asked
			_ = c.Close()
		}}), s)
		wantError(t, ended(t, done), banger.KindUnavailable, "web stopped, or its agent did")
	})
}
