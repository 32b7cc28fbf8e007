package client

import (
	"context"
	"io"
	"testing"
	"time"

	"banger.dev/banger"
)

// still is a stdin of which nothing comes.
type still struct{ asked, end chan struct{} }

func (s still) Read([]byte) (int, error) {
	s.asked <- struct{}{}
	<-s.end
	return 0, io.EOF
}

// An import of what does not come ends with its daemon, and with whoever wanted it.
func TestStreamThatStandsStill(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(t *testing.T, c *Client, interrupt func())
		kind banger.Kind
		says string
	}{
		"interrupted":          {func(_ *testing.T, _ *Client, interrupt func()) { interrupt() }, banger.KindCancelled, "interrupted"},
		"the daemon is killed": {func(t *testing.T, c *Client, _ func()) { kill(t, c) }, banger.KindUnavailable, "the daemon ended"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t, "serve")
			client := h.connect()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := still{make(chan struct{}, 1), make(chan struct{})}
			defer close(s.end)
			done := make(chan error, 1)
			go func() {
				_, err := client.ImportImage(ctx, "mine", s)
				done <- err
			}()
			<-s.asked
			c.end(t, client, cancel)
			select {
			case err := <-done:
				wantError(t, err, c.kind, c.says, "")
			case <-time.After(time.Minute):
				t.Error("it waits for more")
			}
		})
	}
}
