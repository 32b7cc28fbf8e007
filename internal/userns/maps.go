package userns

import (
	"bufio"
	"os"
	"os/user"
	"strconv"
	"strings"

	"banger.dev/banger"
)

// idMaps are the arguments of newuidmap and newgidmap.
type idMaps struct{ uids, gids []string }

// minRange is how many subordinate ids are enough: Debian's own go up to 65534.
const minRange = 65535

// Check says whether Run can work for this user: nil for root, else
// KindUnavailable with what to type.
func Check() error {
	_, err := Command{}.mappings()
	return err
}

// mappings is nil where none are needed: for root, and for Alone.
func (c Command) mappings() (*idMaps, error) {
	if os.Getuid() == 0 || c.Alone {
		return nil, nil
	}
	for _, program := range []string{"newuidmap", "newgidmap"} {
		if _, err := Find(program, "uidmap"); err != nil {
			return nil, err
		}
	}
	name := strconv.Itoa(os.Getuid())
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	uids, err := subordinate("/etc/subuid", name, os.Getuid())
	if err != nil {
		return nil, err
	}
	gids, err := subordinate("/etc/subgid", name, os.Getuid())
	if err != nil {
		return nil, err
	}
	return &idMaps{uids: mapArgs(os.Getuid(), uids), gids: mapArgs(os.Getgid(), gids)}, nil
}

// idRange is count ids from first.
type idRange struct{ first, count int }

// mapArgs maps 0 to the caller and 1 upwards to its subordinate ids.
func mapArgs(self int, r idRange) []string {
	return []string{"0", strconv.Itoa(self), "1", "1", strconv.Itoa(r.first), strconv.Itoa(r.count)}
}

// subordinate is the largest range that path (subuid(5)) gives to a user.
func subordinate(path, name string, uid int) (idRange, error) {
	missing := banger.Errorf(banger.KindUnavailable, "%s has no %d subordinate ids in %s, which files of many owners need", name, minRange, path).
		WithNext("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s", name)
	f, err := os.Open(path)
	if err != nil {
		return idRange{}, missing
	}
	defer func() { _ = f.Close() }()
	var best idRange
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if r, ok := parseRange(lines.Text(), name, uid); ok && r.count > best.count {
			best = r
		}
	}
	if best.count < minRange {
		return idRange{}, missing
	}
	return best, nil
}

// parseRange reads one line "owner:first:count" if it is this user's.
func parseRange(line, name string, uid int) (idRange, bool) {
	fields := strings.Split(strings.TrimSpace(line), ":")
	if len(fields) != 3 || (fields[0] != name && fields[0] != strconv.Itoa(uid)) {
		return idRange{}, false
	}
	first, err1 := strconv.Atoi(fields[1])
	count, err2 := strconv.Atoi(fields[2])
	return idRange{first, count}, err1 == nil && err2 == nil && first > 0 && count > 0
}
