package proc

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// User is a process that has a file open.
type User struct {
	PID     int
	Start   uint64 // see StartTime
	Command string // its arguments, shortened; they may hold anything
	File    string // its path; of a removed file, that which it had
}

// UsersBelow are the processes, without this one, that have files below dir
// open, once for each file. Other users' processes are seen by root alone.
func UsersBelow(dir string) ([]User, error) {
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return nil, err
	}
	self := strconv.Itoa(os.Getpid())
	seen := map[[2]string]bool{}
	var users []User
	for _, link := range links {
		id := strings.Split(link, "/")[2]
		target, err := os.Readlink(link)
		file := strings.TrimSuffix(target, " (deleted)")
		if err != nil || id == self || !strings.HasPrefix(file, dir+"/") || seen[[2]string{id, file}] {
			continue
		}
		seen[[2]string{id, file}] = true
		if user, ok := userOf(id, file); ok {
			users = append(users, user)
		}
	}
	return users, nil
}

func userOf(id, file string) (User, bool) {
	pid, err := strconv.Atoi(id)
	if err != nil {
		return User{}, false
	}
	start, err := StartTime(pid)
	return User{PID: pid, Start: start, Command: command(pid), File: file}, err == nil
}
