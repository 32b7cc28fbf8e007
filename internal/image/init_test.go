package image

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"

	"banger.dev/banger/internal/image/layer"
)

func TestInitIsFound(t *testing.T) {
	program := func(name string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755}
	}
	data := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644} }
	link := func(name, to string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to, Mode: 0o777}
	}
	hard := func(name, to string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to}
	}
	for name, c := range map[string]struct {
		want    string
		members []tar.Header
	}{
		"nothing":                  {"", nil},
		"a shell is no init":       {"", []tar.Header{program("bin/sh")}},
		"merged usr":               {"/sbin/init", []tar.Header{link("./sbin", "usr/sbin"), link("./usr/sbin/init", "../lib/systemd/systemd"), program("./usr/lib/systemd/systemd")}},
		"links before their goal":  {"/sbin/init", []tar.Header{link("sbin/init", "/bin/busybox"), link("bin/busybox", "../usr/bin/busybox"), program("usr/bin/busybox")}},
		"only in usr":              {"/usr/sbin/init", []tar.Header{program("/usr/sbin/init")}},
		"systemd without sysv":     {"/lib/systemd/systemd", []tar.Header{link("lib", "usr/lib"), program("usr/lib/systemd/systemd")}},
		"systemd in usr":           {"/usr/lib/systemd/systemd", []tar.Header{program("usr/lib/systemd/systemd")}},
		"busybox":                  {"/bin/init", []tar.Header{program("bin/busybox"), hard("bin/init", "bin/busybox")}},
		"not executable":           {"/bin/init", []tar.Header{data("sbin/init"), program("bin/init")}},
		"dangling":                 {"", []tar.Header{link("sbin/init", "../lib/systemd/systemd")}},
		"round and round":          {"", []tar.Header{link("sbin/init", "init")}},
		"round over a directory":   {"", []tar.Header{link("sbin", "sbin/x")}},
		"longer and longer":        {"", []tar.Header{link("sbin", "sbin/"+strings.Repeat("sbin/", 100))}},
		"beyond the root":          {"/sbin/init", []tar.Header{link("sbin/init", "../../../../x"), program("x")}},
		"the later member counts":  {"", []tar.Header{program("sbin/init"), data("sbin/init")}},
		"a directory by this name": {"", []tar.Header{{Name: "sbin/init/", Typeflag: tar.TypeDir, Mode: 0o755}}},
	} {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for i := range c.members {
			if err := w.WriteHeader(&c.members[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		tree := layer.New(layer.DefaultLimits())
		if err := tree.Read(&buf, nil); err != nil {
			t.Fatal(name, err)
		}
		if got := initOf(tree); got != c.want {
			t.Errorf("%s: %q, not %q", name, got, c.want)
		}
	}
}
