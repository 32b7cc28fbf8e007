package users

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func db(t *testing.T, passwd, group string) *DB {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"passwd": passwd, "group": group} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &DB{Root: root}
}

const (
	passwdFile = "root:x:0:0:root:/root:/bin/sh\n\n# no user\nshort:x\nbad:x:minus:0::/:\nann:x:1000:1000::/home/ann:/bin/sh\r\n1001:x:7:8::/home/number:\nbob:x:1002:100\nlow:x:1003:1003:::\n"
	groupFile  = "root:x:0:\nann:x:1000:\nusers:x:100:ann,bob\nwheel:x:10:ann,root,ann\nbroken:x\n42:x:99:\nwheel2:x:10:ann\n"
)

func TestNameAndShell(t *testing.T) {
	d := db(t, passwdFile, groupFile)
	for spec, want := range map[string][2]string{
		"root": {"root", "/bin/sh"}, "1000": {"ann", "/bin/sh"}, "bob": {"bob", ""}, "5000": {"", ""},
	} {
		if got, err := d.Lookup(spec); err != nil || got.Name != want[0] || got.Shell != want[1] {
			t.Errorf("%q: %+v, %v, want %q", spec, got, err, want)
		}
	}
	if got, err := db(t, "", "").Lookup("root"); err != nil || got.Name != "root" {
		t.Errorf("root without a passwd: %+v, %v", got, err)
	}
}

func TestLookup(t *testing.T) {
	d := db(t, passwdFile, groupFile)
	for spec, want := range map[string]Identity{
		"root":        {0, 0, []uint32{10}, "/root", "", ""},
		"0":           {0, 0, []uint32{10}, "/root", "", ""},
		"":            {0, 0, nil, "/root", "", ""},
		"ann":         {1000, 1000, []uint32{100, 10}, "/home/ann", "", ""},
		"1000":        {1000, 1000, []uint32{100, 10}, "/home/ann", "", ""},
		"1001":        {7, 8, nil, "/home/number", "", ""}, // a name before a number
		"bob":         {1002, 100, nil, "/", "", ""},
		"low":         {1003, 1003, nil, "/", "", ""},
		"5000":        {5000, 0, nil, "/", "", ""},
		"ann:":        {1000, 1000, []uint32{100, 10}, "/home/ann", "", ""},
		"ann:wheel":   {1000, 10, nil, "/home/ann", "", ""},
		"ann:42":      {1000, 99, nil, "/home/ann", "", ""},
		"ann:43":      {1000, 43, nil, "/home/ann", "", ""},
		"5000:6000":   {5000, 6000, nil, "/", "", ""},
		"4294967294":  {4294967294, 0, nil, "/", "", ""},
		"0:users":     {0, 100, nil, "/root", "", ""},
		"5000:root":   {5000, 0, nil, "/", "", ""},
		"ann:1000":    {1000, 1000, nil, "/home/ann", "", ""},
		"bob:0000100": {1002, 100, nil, "/", "", ""},
	} {
		got, err := d.Lookup(spec)
		if err != nil || got.UID != want.UID || got.GID != want.GID || got.Home != want.Home || !slices.Equal(got.Groups, want.Groups) {
			t.Errorf("%q: %+v, %v, want %+v", spec, got, err, want)
		}
	}
}

func TestUnknownNamesSaySo(t *testing.T) {
	d := db(t, passwdFile, groupFile)
	for spec, what := range map[string]string{"zoe": "user", "bad": "user", "-1": "user", "4294967295": "user", "+5": "user", "ann:zoo": "group", "ann:-1": "group", "zoe:zoo": "user"} {
		_, err := d.Lookup(spec)
		var unknown *NotFoundError
		if !errors.As(err, &unknown) || unknown.What != what {
			t.Errorf("%q: %v", spec, err)
		}
	}
}

func TestAnImageWithoutTheFiles(t *testing.T) {
	d := &DB{Root: t.TempDir()}
	for spec, want := range map[string]Identity{"": {Home: "/root"}, "root": {Home: "/root"}, "root:root": {Home: "/root"}, "12:13": {UID: 12, GID: 13, Home: "/"}} {
		if got, err := d.Lookup(spec); err != nil || got.UID != want.UID || got.GID != want.GID || got.Home != want.Home {
			t.Errorf("%q: %+v, %v", spec, got, err)
		}
	}
}

func TestAChangedFileIsReadAgain(t *testing.T) {
	d := db(t, passwdFile, groupFile)
	if _, err := d.Lookup("ann"); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(d.Root, "etc/passwd")
	if err := os.WriteFile(name, []byte("eve:x:9:9::/eve:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, time.Time{}, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if id, err := d.Lookup("eve"); err != nil || id.UID != 9 {
		t.Errorf("%+v, %v", id, err)
	}
	if _, err := d.Lookup("ann"); err == nil {
		t.Error("ann is still there")
	}
}

// FuzzLookup: no content of the files and no name makes it panic, and the
// uid that means "no change" is never given.
func FuzzLookup(f *testing.F) {
	f.Add(passwdFile, "ann:wheel")
	f.Add("::::::", ":")
	f.Add("a:x:4294967295:4294967295::/:", "a")
	f.Fuzz(func(t *testing.T, content, spec string) {
		id, err := db(t, content, content).Lookup(spec)
		if err == nil && (id.UID == 1<<32-1 || id.GID == 1<<32-1 || id.Home == "" || id.Home[0] != '/') {
			t.Errorf("%+v", id)
		}
	})
}
