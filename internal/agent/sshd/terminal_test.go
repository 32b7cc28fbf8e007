package sshd

import (
	"testing"

	"golang.org/x/sys/unix"
)

func FuzzModes(f *testing.F) {
	f.Add([]byte{53, 0, 0, 0, 1, 1, 0, 0, 0, 3, 0})
	f.Add([]byte{53, 0, 0})
	f.Add([]byte{3, 255, 255, 255, 255, 200, 1})
	f.Fuzz(func(_ *testing.T, b []byte) {
		var t unix.Termios
		parseModes(b).apply(&t)
	})
}

func TestModes(t *testing.T) {
	modes := parseModes([]byte{53, 0, 0, 0, 0, 51, 0, 0, 0, 1, 1, 0, 0, 0, 7, 2, 0, 0, 0, 255, 0, 50, 0, 0, 0, 0})
	termios := unix.Termios{Lflag: unix.ECHO | unix.ISIG}
	termios.Cc[unix.VQUIT] = 28
	modes.apply(&termios)
	if termios.Lflag != unix.ICANON|unix.ISIG || termios.Cc[unix.VINTR] != 7 || termios.Cc[unix.VQUIT] != 0 {
		t.Errorf("%+v", termios)
	}
}
