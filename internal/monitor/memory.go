package monitor

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// releaseAfter is how long nobody must have used the guest before the memory of
// the transfers goes back to the host; soon again it would only be fetched anew.
const releaseAfter = 2 * time.Second

// releaseMemory gives memory back a while after it was made and after each call.
func releaseMemory() func() {
	timer := time.AfterFunc(releaseAfter, release)
	return func() { timer.Reset(releaseAfter) }
}

// release gives back what the heap does not need, and the pages of the program
// itself: most of them only its start has touched, and the few that are wanted
// again come from the page cache. There is a monitor for every running VM, so
// this is worth it.
func release() {
	debug.FreeOSMemory()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(maps)) {
		if from, to, ok := readOnlyPart(line, program); ok {
			_, _, _ = unix.RawSyscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED)
		}
	}
}

// readOnlyPart reads a line of /proc/self/maps (proc(5)): the addresses of a
// mapping of program that cannot have been written to.
func readOnlyPart(line, program string) (from, to uintptr, ok bool) {
	fields := strings.Fields(line)
	if len(fields) != 6 || fields[5] != program || (fields[1] != "r-xp" && fields[1] != "r--p") {
		return 0, 0, false
	}
	first, last, _ := strings.Cut(fields[0], "-")
	from, ok1 := address(first)
	to, ok2 := address(last)
	return from, to, ok1 && ok2 && from < to
}

func address(hex string) (uintptr, bool) {
	n, err := strconv.ParseUint(hex, 16, 64)
	return uintptr(n), err == nil
}
