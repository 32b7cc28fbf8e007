package cli

import (
	"os"

	"golang.org/x/term"
)

// terminal is the descriptor of stream if that is a terminal.
func terminal(stream any) (fd int, ok bool) {
	f, isFile := stream.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return -1, false
	}
	return int(f.Fd()), true
}

func isTerminal(stream any) bool {
	_, ok := terminal(stream)
	return ok
}

// rawTerminal lets every key of the terminal that is stdin through to the guest
// until restore is called, which may be more than once. Without a terminal it
// does nothing.
func rawTerminal(stdin any) (restore func(), err error) {
	fd, ok := terminal(stdin)
	if !ok {
		return func() {}, nil
	}
	before, err := term.MakeRaw(fd)
	if err != nil {
		return nil, err
	}
	return func() { _ = term.Restore(fd, before) }, nil
}

// terminalSize is the size of the first of streams that is a terminal, or 0.
func terminalSize(streams ...any) (rows, cols uint16) {
	for _, stream := range streams {
		if fd, ok := terminal(stream); ok {
			if width, height, err := term.GetSize(fd); err == nil {
				return uint16(height), uint16(width)
			}
		}
	}
	return 0, 0
}
