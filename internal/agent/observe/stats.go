package observe

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"banger.dev/banger/internal/agent/wire"
)

// Stats is what the guest that has its /proc at root takes.
func Stats(root string) (wire.Stats, error) {
	text, err := os.ReadFile(filepath.Join(root, "meminfo"))
	if err != nil {
		return wire.Stats{}, err
	}
	total, ok1 := kibibytes(string(text), "MemTotal:")
	available, ok2 := kibibytes(string(text), "MemAvailable:")
	if !ok1 || !ok2 {
		return wire.Stats{}, fmt.Errorf("%s/meminfo does not say how much memory there is", root)
	}
	return wire.Stats{MemoryTotal: total, MemoryAvailable: available, Processes: len(processes(root))}, nil
}

// kibibytes is the value of a line of meminfo, in bytes.
func kibibytes(text, key string) (uint64, bool) {
	_, rest, found := strings.Cut(text, key)
	fields := strings.Fields(rest)
	if !found || len(fields) == 0 {
		return 0, false
	}
	n, err := strconv.ParseUint(fields[0], 10, 54)
	return n << 10, err == nil
}
