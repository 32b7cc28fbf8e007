package daemon

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/paths"
)

// logMax is how long the log grows before it is put aside; the one put aside
// before is gone then, so that both together are at most twice that.
const logMax = 4 << 20

// Log is standard error, bounded if that is the daemon's own log file: what the
// runtime writes in a crash goes there too.
type Log struct {
	layout paths.Layout
	max    int64

	mu   sync.Mutex
	size int64
	own  bool // standard error is the log file
}

// NewLog looks at what standard error is.
func NewLog(l paths.Layout) *Log {
	log := &Log{layout: l, max: logMax}
	var open, named unix.Stat_t
	if unix.Fstat(2, &open) == nil && unix.Lstat(l.DaemonLog(), &named) == nil {
		log.own = open.Dev == named.Dev && open.Ino == named.Ino
		log.size = open.Size
	}
	return log
}

// Write appends p, after it has put a full log aside.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.own && l.size+int64(len(p)) > l.max && l.size > 0 {
		l.rotate()
	}
	n, err := os.Stderr.Write(p)
	l.size += int64(n)
	return n, err
}

// rotate begins a new file. If it cannot, the log is cut instead: it is bounded
// whatever happens.
func (l *Log) rotate() {
	l.size = 0
	if os.Rename(l.layout.DaemonLog(), l.layout.DaemonLogBefore()) == nil {
		fd, err := unix.Open(l.layout.DaemonLog(), unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
		if err == nil {
			defer unix.Close(fd)
			if unix.Dup3(fd, 1, 0) == nil && unix.Dup3(fd, 2, 0) == nil {
				return
			}
		}
	}
	_ = unix.Ftruncate(2, 0)
}
