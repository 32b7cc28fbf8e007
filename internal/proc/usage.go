package proc

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process takes.
type Usage struct {
	CPU time.Duration // of all its threads, since it began
	RSS int64         // bytes of memory that are resident
}

// ticks is how many clock ticks a second has in /proc on every Linux (USER_HZ).
const ticks = 100

// More fields of /proc/<pid>/stat after the command name, and of statm.
const (
	fieldUserTime   = 11
	fieldSystemTime = 12
	statmResident   = 1
)

// UsageOf is what pid takes. Whether it is the process that is meant is for the
// caller to know, see Alive.
func UsageOf(pid int) (Usage, error) {
	var u Usage
	fields, err := stat(pid)
	if err != nil {
		return u, err
	}
	user, err := strconv.ParseInt(fields[fieldUserTime], 10, 64)
	if err != nil {
		return u, err
	}
	system, err := strconv.ParseInt(fields[fieldSystemTime], 10, 64)
	if err != nil {
		return u, err
	}
	u.CPU = time.Duration(user+system) * (time.Second / ticks)
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return u, err
	}
	pages := strings.Fields(string(b))
	if len(pages) <= statmResident {
		return u, fmt.Errorf("/proc/%d/statm: %d fields", pid, len(pages))
	}
	resident, err := strconv.ParseInt(pages[statmResident], 10, 64)
	u.RSS = resident * int64(os.Getpagesize())
	return u, err
}
