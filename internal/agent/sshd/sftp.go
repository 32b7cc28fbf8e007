package sshd

import (
	"errors"
	"io"
	"os"

	"github.com/pkg/sftp"
	"golang.org/x/sys/unix"
)

// ServeSFTP serves sftp on this process's stdin and stdout, with the rights and
// in the working directory that it has, and returns the exit code.
func ServeSFTP() int {
	unix.Umask(0o022)
	// Told of a directory, the server would make the targets of links absolute.
	server, err := sftp.NewServer(stdio{})
	if err != nil {
		return 1
	}
	if err := server.Serve(); err != nil && !errors.Is(err, io.EOF) {
		return 1
	}
	return 0
}

type stdio struct{}

func (stdio) Read(p []byte) (int, error)  { return os.Stdin.Read(p) }
func (stdio) Write(p []byte) (int, error) { return os.Stdout.Write(p) }
func (stdio) Close() error                { return os.Stdout.Close() }
