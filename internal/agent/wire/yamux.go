package wire

import (
	"io"
	"time"

	"github.com/hashicorp/yamux"
)

// StreamWindow is how much of one stream may be on its way unread. It also
// bounds what a stopped reader costs the other processes in memory.
const StreamWindow = 1 << 20

// YamuxConfig is how both sides of the serial port multiplex it: the guest as
// yamux server, the host as client. Nothing in it measures time, because a VM
// may be paused for a week and must find its streams as it left them.
func YamuxConfig() *yamux.Config {
	const never = 10 * 365 * 24 * time.Hour
	c := yamux.DefaultConfig()
	c.EnableKeepAlive = false
	c.ConnectionWriteTimeout = never
	c.StreamOpenTimeout = 0
	c.StreamCloseTimeout = never
	c.MaxStreamWindowSize = StreamWindow
	c.LogOutput = io.Discard
	return c
}
