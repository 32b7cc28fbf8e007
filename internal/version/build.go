package version

import (
	"cmp"
	"strconv"
	"strings"
)

// Build is what can be compared of two builds.
type Build struct {
	Release string `json:"release"` // as 1.2.3; anything else, such as dev, cannot be compared
	Commit  string `json:"commit"`
	Time    int64  `json:"time"` // of the commit, in seconds since 1970; 0 if it is not known
}

// This is the running program's.
func This() Build {
	seconds, _ := strconv.ParseInt(Time, 10, 64) // 0 in a build without git
	return Build{Release: Version, Commit: Commit, Time: seconds}
}

// Compare is less than 0 if b is older than other, more than 0 if it is newer,
// and 0 if they are the same or nothing is known that tells them apart: first
// the releases, where both are releases, then the times of their commits.
func (b Build) Compare(other Build) int {
	mine, ok := parse(b.Release)
	theirs, comparable := parse(other.Release)
	if ok && comparable {
		if c := mine.compare(theirs); c != 0 {
			return c
		}
	}
	if b.Time == 0 || other.Time == 0 {
		return 0
	}
	return cmp.Compare(b.Time, other.Time)
}

// release is a semantic version.
type release struct {
	numbers [3]uint64
	pre     []string // none: a release proper
}

func parse(s string) (release, bool) {
	var r release
	s, _, _ = strings.Cut(strings.TrimPrefix(s, "v"), "+")
	core, pre, isPre := strings.Cut(s, "-")
	if isPre {
		r.pre = strings.Split(pre, ".")
	}
	parts := strings.Split(core, ".")
	if len(parts) != len(r.numbers) {
		return r, false
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 32)
		if err != nil {
			return r, false
		}
		r.numbers[i] = n
	}
	return r, true
}

func (r release) compare(other release) int {
	for i := range r.numbers {
		if c := cmp.Compare(r.numbers[i], other.numbers[i]); c != 0 {
			return c
		}
	}
	if len(r.pre) == 0 || len(other.pre) == 0 {
		return cmp.Compare(len(other.pre), len(r.pre)) // a release is above what led to it
	}
	for i := range min(len(r.pre), len(other.pre)) {
		if c := comparePart(r.pre[i], other.pre[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(r.pre), len(other.pre))
}

// comparePart: numbers by value and below words, words as text.
func comparePart(a, b string) int {
	m, errA := strconv.ParseUint(a, 10, 32)
	n, errB := strconv.ParseUint(b, 10, 32)
	switch {
	case errA == nil && errB == nil:
		return cmp.Compare(m, n)
	case errA == nil:
		return -1
	case errB == nil:
		return 1
	}
	return cmp.Compare(a, b)
}
