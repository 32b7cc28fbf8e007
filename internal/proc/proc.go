// Package proc tells processes apart by what the kernel says of them. A pid
// alone names nothing: pids are reused, so a process is a pid and a start time
// on one boot of the host. Whether a VM is alive is not decided here, see
// lifecycle.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// BootID identifies this boot of the host.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// stat fields after the command name, see proc_pid_stat(5); state is field 3.
const (
	fieldState     = 0
	fieldStartTime = 19
)

func stat(pid int) ([]string, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil, err
	}
	// The name is in parentheses and may hold spaces and parentheses itself.
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return nil, fmt.Errorf("/proc/%d/stat: no command name", pid)
	}
	fields := strings.Fields(string(b[end+1:]))
	if len(fields) <= fieldStartTime {
		return nil, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(fields))
	}
	return fields, nil
}

// StartTime is when pid began, in clock ticks since boot.
func StartTime(pid int) (uint64, error) {
	fields, err := stat(pid)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(fields[fieldStartTime], 10, 64)
}

// Alive says whether pid with this start time runs. A zombie does not.
func Alive(pid int, start uint64) bool {
	if pid <= 0 {
		return false
	}
	fields, err := stat(pid)
	if err != nil || fields[fieldState] == "Z" || fields[fieldState] == "X" {
		return false
	}
	got, err := strconv.ParseUint(fields[fieldStartTime], 10, 64)
	return err == nil && got == start
}

// Kill ends the process that is pid with this start time and returns when it is
// gone, or after timeout. It never signals another process that has got the
// pid since: the pidfd is opened first and the start time compared after.
func Kill(pid int, start uint64, timeout time.Duration) error {
	if pid <= 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if !Alive(pid, start) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return waitPidfd(fd, pid, timeout)
}

func waitPidfd(fd, pid int, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("process %d did not end within %s of SIGKILL", pid, timeout)
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for process %d: %w", pid, err)
		}
		if n > 0 {
			return nil
		}
	}
}
