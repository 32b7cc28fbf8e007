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
