// Package proctest is for tests of what signals do.
package proctest

import (
	"os"
	"os/signal"
	"syscall"
)

// HearSignals has this process, and those that it starts, take the signals that
// they were born to ignore: a shell has what it runs in the background ignore
// Ctrl-C, and nohup its end. A program that respects that, as banger does, would
// wait in vain for a test's signal.
func HearSignals() {
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} { // Go takes all others anyway
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
}
