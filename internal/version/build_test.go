package version

import "testing"

func TestCompare(t *testing.T) {
	for _, c := range []struct {
		older, newer Build
		same         bool
	}{
		{older: Build{Release: "1.2.3"}, newer: Build{Release: "1.10.0"}},
		{older: Build{Release: "v1.2.3-rc.2"}, newer: Build{Release: "1.2.3"}},
		{older: Build{Release: "1.2.3-rc.2"}, newer: Build{Release: "1.2.3-rc.10"}},
		{older: Build{Release: "1.2.3-1"}, newer: Build{Release: "1.2.3-alpha"}},
		{older: Build{Release: "1.2.3-rc"}, newer: Build{Release: "1.2.3-rc.1"}},
		{older: Build{Release: "1.2.3", Time: 9}, newer: Build{Release: "1.3.0", Time: 5}},
		{older: Build{Release: "1.2.3", Time: 5}, newer: Build{Release: "1.2.3", Time: 9}},
		{older: Build{Release: "dev", Time: 5}, newer: Build{Release: "dev", Time: 9}},
		{older: Build{Release: "dev", Time: 5}, newer: Build{Release: "1.2.3", Time: 9}},
		{older: Build{Release: "dev"}, newer: Build{Release: "dev", Time: 9}, same: true},
		{older: Build{Release: "dev"}, newer: Build{Release: "9.9.9", Time: 9}, same: true},
		{older: Build{Release: "dev", Commit: "a", Time: 9}, newer: Build{Release: "dev", Commit: "b", Time: 9}, same: true},
		{older: Build{Release: "1.2.3+x"}, newer: Build{Release: "1.2.3+y"}, same: true},
		{older: Build{Release: "1.2"}, newer: Build{Release: "1.2.3"}, same: true},
	} {
		there, back := c.older.Compare(c.newer), c.newer.Compare(c.older)
		if c.same && (there != 0 || back != 0) || !c.same && (there >= 0 || back <= 0) {
			t.Errorf("%+v and %+v: %d, %d", c.older, c.newer, there, back)
		}
	}
}
