package command

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
)

// start runs what req asks for. The error is for the person who typed it.
func (s *Server) start(req wire.Request) (*process, *wire.Error) {
	if len(req.Argv) == 0 {
		return nil, problem(125, "no command was given")
	}
	spec := req.User
	if spec == "" {
		spec = s.User
	}
	if spec == "" {
		spec = "0"
	}
	id, err := s.Users.Lookup(spec)
	if err != nil {
		var unknown *users.NotFoundError
		if errors.As(err, &unknown) {
			return nil, problem(126, "%v", err)
		}
		return nil, problem(125, "looking up user %q: %v", spec, err)
	}
	argv, env, bad := s.words(req, id)
	if bad != nil {
		return nil, bad
	}
	dir, bad := s.workdir(req, id)
	if bad != nil {
		return nil, bad
	}
	std, err := openStdio(req, id)
	if err != nil {
		return nil, problem(125, "the agent could not open the command's stdin and stdout: %v", err)
	}
	pid, pidfd, bad := spawn(argv[0], argv, env, dir, credential(id), std)
	std.closeTheirs()
	if bad != nil {
		std.closeAll()
		return nil, bad
	}
	_ = unix.SetNonblock(pidfd, true)
	std.ours.pid, std.ours.pidfd = pid, os.NewFile(uintptr(pidfd), "pidfd")
	return &std.ours, nil
}

func openStdio(req wire.Request, id users.Identity) (*stdio, error) {
	if req.TTY {
		return openTerminal(req.Rows, req.Cols, id.UID)
	}
	return openPipes()
}

// words gives the arguments and the environment.
func (s *Server) words(req wire.Request, id users.Identity) (argv, env []string, bad *wire.Error) {
	for _, a := range req.Argv {
		argv = append(argv, string(a))
	}
	base := []string{"PATH=" + DefaultPath, "HOME=" + id.Home}
	if req.TTY {
		base = append(base, "TERM=xterm")
	}
	env = append(base, s.Env...)
	for _, e := range req.Env {
		env = append(env, string(e))
	}
	env = LastWins(env)
	for _, word := range slices.Concat(argv, env) {
		if strings.IndexByte(word, 0) >= 0 {
			return nil, nil, problem(126, "an argument or a variable holds a NUL byte, which no program can be given")
		}
	}
	return argv, env, nil
}

// LastWins removes all but the last setting of each variable.
func LastWins(env []string) []string {
	at := make(map[string]int, len(env))
	kept := env[:0]
	for _, e := range env {
		key, _, _ := strings.Cut(e, "=")
		if i, ok := at[key]; ok {
			kept[i] = e
			continue
		}
		at[key] = len(kept)
		kept = append(kept, e)
	}
	return kept
}

func lookupEnv(env []string, key string) (string, bool) {
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, key+"="); ok {
			return v, true
		}
	}
	return "", false
}

// workdir is the directory that was asked for, or else the user's home where
// there is one.
func (s *Server) workdir(req wire.Request, id users.Identity) (string, *wire.Error) {
	dir := string(req.Cwd)
	if dir == "" {
		dir = s.Workdir
	}
	if dir == "" {
		return homeOf(id), nil
	}
	if !path.IsAbs(dir) {
		return "", problem(126, "working directory %q: it must be an absolute path", dir)
	}
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return "", problem(126, "working directory %q: %v", dir, cause(err))
	case !info.IsDir():
		return "", problem(126, "working directory %q: not a directory", dir)
	}
	return dir, nil
}

// homeOf is the user's home where there is one that can be entered, else /.
func homeOf(id users.Identity) string {
	if info, err := os.Stat(id.Home); err != nil || !info.IsDir() || !mayEnter(info, id) {
		return "/"
	}
	return id.Home
}

// mayEnter says whether the mode of a directory itself lets id in.
func mayEnter(info fs.FileInfo, id users.Identity) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || id.UID == 0:
		return true
	case st.Uid == id.UID:
		return info.Mode()&0o100 != 0
	case st.Gid == id.GID || slices.Contains(id.Groups, st.Gid):
		return info.Mode()&0o010 != 0
	}
	return info.Mode()&0o001 != 0
}

// credential is nil where the agent already is who the command shall be.
func credential(id users.Identity) *syscall.Credential {
	same := id.UID == uint32(os.Getuid()) && id.GID == uint32(os.Getgid())
	if same && (id.UID != 0 || len(id.Groups) == 0) {
		return nil
	}
	return &syscall.Credential{Uid: id.UID, Gid: id.GID, Groups: append([]uint32{id.GID}, id.Groups...)}
}

func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
