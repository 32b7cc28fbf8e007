package command

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"banger.dev/banger/internal/agent/wire"
)

// spawn finds name as execvp does and runs it with argv: in a session of its own, on
// std, every signal at its default. Where it cannot, the exit code is 127 if
// there is no such file, else 126, as env has it.
func spawn(name string, argv, env []string, dir string, cred *syscall.Credential, std *stdio) (pid, pidfd int, bad *wire.Error) {
	attr := &syscall.ProcAttr{
		Dir:   dir,
		Env:   env,
		Files: []uintptr{uintptr(std.theirs[0]), uintptr(std.theirs[1]), uintptr(std.theirs[2])},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: std.tty, Ctty: 0, Credential: cred, PidFD: &pidfd},
	}
	candidates, bad := find(name, env, dir)
	if bad != nil {
		return 0, 0, bad
	}
	var first error
	var where string
	for _, file := range candidates {
		pid, err := syscall.ForkExec(file, argv, attr)
		if err == nil {
			return pid, pidfd, nil
		}
		if first == nil {
			first, where = err, file
		}
		if !errors.Is(err, syscall.EACCES) {
			first, where = err, file
			break
		}
	}
	return 0, 0, explain(first, where, dir, attr)
}

// find gives the files that argv[0] may mean, in order. Those that are not
// there are left out of a search in PATH: each costs a fork to try.
func find(name string, env []string, dir string) ([]string, *wire.Error) {
	if strings.Contains(name, "/") {
		return []string{name}, nil
	}
	search, ok := lookupEnv(env, "PATH")
	if !ok {
		search = DefaultPath
	}
	var found []string
	if name != "" {
		for _, place := range strings.Split(search, ":") {
			file := place + "/" + name
			if place == "" {
				file = "./" + name
			}
			if info, err := os.Stat(absolute(file, dir)); err == nil && !info.IsDir() {
				found = append(found, file)
			}
		}
	}
	if len(found) == 0 {
		return nil, problem(127, "%q: not found in the guest's PATH (%s)", name, search)
	}
	return found, nil
}

func absolute(file, dir string) string {
	if path.IsAbs(file) {
		return file
	}
	return path.Join(dir, file)
}

// explain says why file was not run.
func explain(err error, file, dir string, attr *syscall.ProcAttr) *wire.Error {
	if unenterable(attr, err) {
		return problem(126, "working directory %q: %v", dir, err)
	}
	if attr.Sys.Credential != nil && errors.Is(err, syscall.EPERM) {
		return problem(126, "%q: the agent may not run commands as uid %d", file, attr.Sys.Credential.Uid)
	}
	info, statErr := os.Stat(absolute(file, dir))
	switch {
	case errors.Is(err, syscall.ENOENT) && statErr == nil:
		return problem(126, "%q: the file is there, but the interpreter or loader that it names is not", file)
	case errors.Is(err, syscall.ENOENT):
		return problem(127, "%q: no such file", file)
	case errors.Is(err, syscall.EACCES) && statErr == nil && info.IsDir():
		return problem(126, "%q: is a directory", file)
	case errors.Is(err, syscall.EACCES) && statErr == nil && info.Mode()&0o111 == 0:
		return problem(126, "%q: permission denied (the file is not executable)", file)
	case errors.Is(err, syscall.ENOEXEC) && statErr == nil && info.Mode().IsRegular():
		return problem(126, "%q: exec format error%s", file, hint(absolute(file, dir)))
	case errors.Is(err, syscall.E2BIG):
		return problem(126, "%q: argument list too long", file)
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM):
		return problem(125, "%q: the guest could not start a process: %v", file, err)
	}
	return problem(126, "%q: %v", file, err)
}

// hint tells a script without its first line from a program for another machine.
func hint(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	var magic [4]byte
	n, _ := f.Read(magic[:])
	if n == 4 && string(magic[:]) == "\x7fELF" {
		return " (a program for another kind of machine)"
	}
	return " (a script without a #! line? Run it with: sh " + file + ")"
}

// unenterable says whether it was the working directory that failed with err:
// only a process with the command's rights can know.
func unenterable(attr *syscall.ProcAttr, err error) bool {
	if attr.Dir == "/" || attr.Sys.Credential == nil || !errors.Is(err, fs.ErrPermission) {
		return false
	}
	probe := *attr
	sys := *attr.Sys
	sys.PidFD, sys.Setctty = nil, false
	probe.Sys = &sys
	probe.Dir = "/"
	// What exec says of a path that cannot be: it gets there only past chdir.
	const nowhere = "/proc/self/fd/-1"
	_, atRoot := syscall.ForkExec(nowhere, []string{nowhere}, &probe)
	probe.Dir = attr.Dir
	_, there := syscall.ForkExec(nowhere, []string{nowhere}, &probe)
	return !errors.Is(there, atRoot) && errors.Is(there, err)
}
