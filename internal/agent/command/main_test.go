package command

import (
	"os"
	"testing"

	"banger.dev/banger/internal/proc/proctest"
)

func TestMain(m *testing.M) {
	proctest.HearSignals()
	os.Exit(m.Run())
}
