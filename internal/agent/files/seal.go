package files

import (
	"io"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
)

// Seal answers wire.PathSeal: a read-only mount of the directory on itself,
// against which root's rights do not help.
func (s *Server) Seal(body io.Reader, answer io.Writer) error {
	var req wire.SealRequest
	if err := readAll(body, &req); err != nil {
		return err
	}
	// The place is found with the user's rights, the mount needs the agent's own.
	var name string
	if err := s.at(req.Place, func(at string, _ users.Identity) error { name = at; return nil }); err != nil {
		return err
	}
	do := seal
	if req.Off {
		do = unseal
	}
	if err := do(name); err != nil {
		return failure(err)
	}
	_, err := io.WriteString(answer, "{}\n")
	return err
}

func seal(name string) error {
	if err := unseal(name); err != nil {
		return err
	}
	if err := unix.Mount(name, name, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := unix.Mount("", name, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		_ = unix.Unmount(name, unix.MNT_DETACH)
		return err
	}
	return nil
}

// unseal takes away read-only mounts; a directory that has none is fine.
func unseal(name string) error {
	for {
		var fs unix.Statfs_t
		if err := unix.Statfs(name, &fs); err != nil || fs.Flags&unix.ST_RDONLY == 0 {
			return err
		}
		if err := unix.Unmount(name, unix.MNT_DETACH); err != nil {
			return err
		}
	}
}
