// Package users looks people up in a guest's /etc/passwd and /etc/group. It is
// a small parser of its own because the C library's and Go's know only the
// system they run on at the time they are first asked, and read more than two
// files. It changes neither file.
package users

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxFile bounds what is read of either file.
const maxFile = 16 << 20

// maxID is the largest uid or gid; one more means "no change" to the kernel.
const maxID = 1<<32 - 2

// Identity is whom a command runs as.
type Identity struct {
	UID, GID uint32
	Groups   []uint32 // supplementary, without GID
	Home     string   // "/" where nothing is known; /root for uid 0
	Name     string   // "" where the user is not in the file
	Shell    string   // "" where the file has none
}

// NotFoundError means that a name is in neither file.
type NotFoundError struct {
	What string // user or group
	Name string
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("unable to find %s %q: it is not in the guest's /etc/%s", e.What, e.Name,
		map[string]string{"user": "passwd", "group": "group"}[e.What])
}

// DB is the two files of one root. Its methods may be called from any goroutine.
type DB struct {
	Root string // "" is /

	mu     sync.Mutex
	passwd cached[user]
	group  cached[group]
}

type user struct {
	name     string
	uid, gid uint32
	home     string
	shell    string
}

type group struct {
	name    string
	gid     uint32
	members []string
}

// Lookup reads a name, uid, name:group or uid:gid: a name may be a number, a
// number need not be in the file, and a group given outright is the only one.
func (d *DB) Lookup(spec string) (Identity, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	passwd, err := d.passwd.read(filepath.Join("/", d.Root, "etc/passwd"), parseUser)
	if err != nil {
		return Identity{}, err
	}
	groups, err := d.group.read(filepath.Join("/", d.Root, "etc/group"), parseGroup)
	if err != nil {
		return Identity{}, err
	}
	who, which, explicit := strings.Cut(spec, ":")
	u, err := findUser(passwd, who)
	if err != nil {
		return Identity{}, err
	}
	id := Identity{UID: u.uid, GID: u.gid, Home: u.home, Name: u.name, Shell: u.shell}
	if explicit && which != "" {
		id.GID, err = findGroup(groups, which)
		return id, err
	}
	for _, g := range groups {
		if u.name != "" && g.gid != id.GID && slices.Contains(g.members, u.name) && !slices.Contains(id.Groups, g.gid) {
			id.Groups = append(id.Groups, g.gid)
		}
	}
	return id, nil
}

func findUser(all []user, who string) (user, error) {
	number, numeric := parseID(who)
	for _, u := range all {
		if u.name == who {
			return u.withHome(), nil
		}
	}
	for _, u := range all {
		if numeric && u.uid == number {
			return u.withHome(), nil
		}
	}
	if numeric {
		return user{uid: number}.withHome(), nil
	}
	if who == "root" || who == "" {
		return user{name: who}.withHome(), nil // an image without /etc/passwd
	}
	return user{}, &NotFoundError{What: "user", Name: who}
}

func (u user) withHome() user {
	if u.home == "" {
		u.home = "/"
		if u.uid == 0 {
			u.home = "/root"
		}
	}
	return u
}

func findGroup(all []group, which string) (uint32, error) {
	for _, g := range all {
		if g.name == which {
			return g.gid, nil
		}
	}
	if number, ok := parseID(which); ok {
		return number, nil
	}
	if which == "root" {
		return 0, nil
	}
	return 0, &NotFoundError{What: "group", Name: which}
}

func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n <= maxID && s[0] != '+'
}

func parseUser(line string) (user, bool) {
	f := strings.Split(line, ":")
	if len(f) < 4 {
		return user{}, false
	}
	uid, ok := parseID(f[2])
	if !ok {
		return user{}, false
	}
	gid, ok := parseID(f[3])
	u := user{name: f[0], uid: uid, gid: gid}
	if len(f) > 5 && strings.HasPrefix(f[5], "/") {
		u.home = f[5]
	}
	if len(f) > 6 {
		u.shell = f[6]
	}
	return u, ok
}

func parseGroup(line string) (group, bool) {
	f := strings.Split(line, ":")
	if len(f) < 3 {
		return group{}, false
	}
	gid, ok := parseID(f[2])
	g := group{name: f[0], gid: gid}
	if len(f) > 3 && f[3] != "" {
		g.members = strings.Split(f[3], ",")
	}
	return g, ok
}

// cached is one file as it was when its size and time were last seen to change.
type cached[T any] struct {
	lines []T
	size  int64
	mtime time.Time
}

// read gives the file's lines; none if there is no such file.
func (c *cached[T]) read(path string, parse func(string) (T, bool)) ([]T, error) {
	info, err := os.Stat(path)
	if os.IsNotExist(err) {
		*c = cached[T]{}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if info.Size() == c.size && info.ModTime().Equal(c.mtime) {
		return c.lines, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	var lines []T
	scan := bufio.NewScanner(io.LimitReader(file, maxFile))
	scan.Buffer(nil, maxFile)
	for scan.Scan() {
		if v, ok := parse(strings.TrimSuffix(scan.Text(), "\r")); ok {
			lines = append(lines, v)
		}
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	*c = cached[T]{lines: lines, size: info.Size(), mtime: info.ModTime()}
	return lines, nil
}
