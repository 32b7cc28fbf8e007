package monitor

import (
	"os"
	"strings"
	"testing"
)

func TestOnlyUnwrittenPartsOfTheProgramAreGivenBack(t *testing.T) {
	const program = "/usr/bin/bangerd"
	for line, want := range map[string]bool{
		"00400000-00a00000 r-xp 00000000 08:01 1 /usr/bin/bangerd": true,
		"00a00000-01400000 r--p 00600000 08:01 1 /usr/bin/bangerd": true,
		"01400000-01500000 rw-p 01000000 08:01 1 /usr/bin/bangerd": false,
		"00400000-00a00000 r-xp 00000000 08:01 1 /usr/bin/other":   false,
		"01500000-03600000 rw-p 00000000 00:00 0":                  false,
		"ffff-0000 r-xp 00000000 08:01 1 /usr/bin/bangerd":         false,
		"zz-zz r-xp 00000000 08:01 1 /usr/bin/bangerd":             false,
		"": false,
	} {
		if _, _, got := readOnlyPart(line, program); got != want {
			t.Errorf("%q: %t", line, got)
		}
	}
}

// The program goes on from the page cache, its data as they were.
func TestReleaseChangesNothing(t *testing.T) {
	before := strings.Repeat("kept", 1000)
	release()
	if before != strings.Repeat("kept", 1000) || os.Getpid() == 0 {
		t.Error("something was lost")
	}
}
