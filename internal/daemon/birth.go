package daemon

import (
	"math"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/config"
)

// Settle makes this process the same whoever started it, the command line, a
// shell or an init: umask 077, the root directory, the fixed short environment,
// and nothing that it was given open goes to its children. It must come before
// anything reads the environment.
func Settle() error {
	unix.Umask(0o077)
	env := config.DaemonEnviron(os.Environ()) // with paths made absolute from where we are
	if err := os.Chdir("/"); err != nil {
		return err
	}
	os.Clearenv()
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	// Kernels before 5.11 cannot; what the command line starts has nothing open.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	return nil
}

// born ends what the client that started this process waits for on its standard
// output; what is written there from now on goes to the log.
func born() { _ = unix.Dup3(2, 1, 0) }
