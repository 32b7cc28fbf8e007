package monitor

import (
	"os"
	"sync"
)

// vmmLogMax bounds vmm.log: a VMM that complains without end fills no disk.
const vmmLogMax = 1 << 20

// boundedLog is a file that takes vmmLogMax bytes and then no more.
type boundedLog struct {
	mu   sync.Mutex
	file *os.File
	left int
}

func newBoundedLog(path string) (*boundedLog, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &boundedLog{file: f, left: vmmLogMax}, nil
}

// Write takes p; what does not fit any more is dropped.
func (b *boundedLog) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(p), b.left)
	if n > 0 && b.file != nil {
		_, _ = b.file.Write(p[:n])
		b.left -= n
	}
	return len(p), nil
}

func (b *boundedLog) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.file.Close()
	b.file = nil
}

// What is kept of monitor.log: a guest, or whoever connects to its ports, can have
// the monitor say something again and again. Of a long one the middle is left out.
const (
	ownLogMax   = 1 << 20
	ownLogBegin = 256 << 10
	ownLogGap   = "\n-- what was said here is left out --\n"
)

// OwnLog is monitor.log, which is a monitor's standard error: what the runtime
// writes in a crash goes there too.
type OwnLog struct {
	mu   sync.Mutex
	file *os.File
	size int64
}

// NewOwnLog adds to file.
func NewOwnLog(file *os.File) *OwnLog { return &OwnLog{file: file} }

// Write appends p. A file that cannot be cut, such as a terminal, is not.
func (l *OwnLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+int64(len(p)) > ownLogMax && l.file.Truncate(ownLogBegin) == nil {
		n, _ := l.file.WriteString(ownLogGap)
		l.size = ownLogBegin + int64(n)
	}
	n, err := l.file.Write(p)
	l.size += int64(n)
	return n, err
}
