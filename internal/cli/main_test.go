package cli

import (
	"os"
	"testing"
	"time"

	"banger.dev/banger/internal/proc/proctest"
)

func TestMain(m *testing.M) {
	proctest.HearSignals()
	os.Exit(m.Run())
}

// soon waits until something is so, but not for ever.
func soon(is func() bool) bool {
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}
