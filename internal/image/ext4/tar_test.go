package ext4_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/image/ext4"
	"banger.dev/banger/internal/image/layer"
	"banger.dev/banger/internal/userns"
)

// needTar skips where FromTar cannot work, and fails there under CI.
func needTar(t *testing.T) {
	t.Helper()
	need(t, "mke2fs", "e2fsck", "debugfs", "tar")
	if err := userns.Check(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// member is one header with its content.
type member struct {
	tar.Header
	content string
}

func archive(t *testing.T, members ...member) io.Reader {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, m := range members {
		m.Size = int64(len(m.content))
		m.Format = tar.FormatPAX
		if m.Typeflag == 0 {
			m.Typeflag = tar.TypeReg
		}
		if m.ModTime.IsZero() {
			m.ModTime = time.Unix(1_700_000_000, 0)
		}
		if err := w.WriteHeader(&m.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &buf
}

// netRaw is the value of security.capability for cap_net_raw+ep.
func netRaw() string {
	words := []uint32{0x02000001, 1 << 13, 0, 0, 0}
	b := make([]byte, 0, 20)
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return string(b)
}

var size = ext4.Options{Size: banger.GiB}

func TestFromTarKeepsEverything(t *testing.T) {
	needTar(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "root.ext4")
	deep := strings.Repeat("deep-directory-name/", 100) + "leaf"
	longest := strings.Repeat("n", 255)
	_, err := ext4.FromTar(t.Context(), path, archive(t,
		member{Header: tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}},
		member{Header: tar.Header{Name: "./sub/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 12, Gid: 34}},
		member{Header: tar.Header{Name: "sub/setuid", Mode: 0o4755}, content: "#!"},
		member{Header: tar.Header{Name: "sub/owned", Mode: 0o640, Uid: 1000, Gid: 65534}, content: "secret\n"},
		member{Header: tar.Header{Name: "sub/closed", Mode: 0, Uid: 7, Gid: 8}, content: "closed\n"},
		member{Header: tar.Header{Name: "sub/hard", Typeflag: tar.TypeLink, Linkname: "sub/owned"}},
		member{Header: tar.Header{Name: "sub/soft", Typeflag: tar.TypeSymlink, Linkname: "/etc/../" + strings.Repeat("x", 100), Uid: 5}},
		member{Header: tar.Header{Name: "sub/fifo", Typeflag: tar.TypeFifo, Mode: 0o600}},
		member{Header: tar.Header{Name: "sub/ping", Mode: 0o755, PAXRecords: map[string]string{
			"SCHILY.xattr.security.capability": netRaw(), "SCHILY.xattr.user.note": "kept"}}, content: "ping"},
		member{Header: tar.Header{Name: "sub/" + longest, Mode: 0o644}},
		member{Header: tar.Header{Name: "sub/two words \"quoted\" \xff", Mode: 0o644}},
		member{Header: tar.Header{Name: deep, Mode: 0o644}, content: "leaf\n"},
		member{Header: tar.Header{Name: "sub/zeros", Mode: 0o644}, content: strings.Repeat("\x00", 32<<20)},
		member{Header: tar.Header{Name: "dev/", Typeflag: tar.TypeDir, Mode: 0o755}},
		member{Header: tar.Header{Name: "./dev/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}},
		member{Header: tar.Header{Name: "dev/zero", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 5}},
		member{Header: tar.Header{Name: "sub/node", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}},
		member{Header: tar.Header{Name: "sub/after", Mode: 0o644}, content: "after\n"},
	), layer.DefaultLimits(), size)
	if err != nil {
		t.Fatal(err)
	}
	only(t, dir, "root.ext4")
	run(t, "e2fsck", "-fn", path)
	for name, want := range map[string][]string{
		"/":           {"Mode:  0755", "User:     0   Group:     0"},
		"/sub":        {"Type: directory    Mode:  01777", "User:    12   Group:    34"},
		"/sub/setuid": {"Type: regular    Mode:  04755", "User:     0   Group:     0"},
		"/sub/owned":  {"Mode:  0640", "User:  1000   Group: 65534", "Links: 2", "mtime: 0x6553f100"},
		"/sub/closed": {"Mode:  0000", "User:     7   Group:     8"},
		"/sub/soft":   {"Type: symlink", "User:     5", "Size: 108"},
		"/sub/fifo":   {"Type: FIFO"},
		"/dev/null":   {"Type: character special    Mode:  0666", "Device major/minor number: 01:03"},
		"/sub/zeros":  {"Size: 33554432", "Blockcount: 0"},
	} {
		got := run(t, "debugfs", "-R", "stat "+name, path)
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s is not %q:\n%s", name, w, got)
			}
		}
	}
	for name, want := range map[string]string{"/sub/hard": "secret\n", "/sub/closed": "closed\n", "/" + deep: "leaf\n", "/sub/after": "after\n"} {
		if got := run(t, "debugfs", "-R", "cat "+name, path); got != want {
			t.Errorf("%.40s holds %q", name, got)
		}
	}
	attributes := run(t, "debugfs", "-R", "ea_list /sub/ping", path)
	if !strings.Contains(attributes, `user.note (4) = "kept"`) || !strings.Contains(attributes, "security.capability (20) = 01 00 00 02 00 20 00 00") {
		t.Errorf("extended attributes:\n%s", attributes)
	}
	list := run(t, "debugfs", "-R", "ls -p /sub", path)
	for _, name := range []string{longest, "two words \"quoted\" "} {
		if !strings.Contains(list, name) {
			t.Errorf("no %.30q in:\n%s", name, list)
		}
	}
}

func TestFromTarKeepsHoles(t *testing.T) {
	needTar(t)
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(src, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("end"), 5<<30); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"gnu", "pax"} {
		packed, err := exec.Command("tar", "--create", "--sparse", "--format="+format, "--directory="+src, ".").Output()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, format+".ext4")
		if _, err := ext4.FromTar(t.Context(), path, bytes.NewReader(packed), layer.DefaultLimits(), size); err != nil {
			t.Fatal(err)
		}
		run(t, "e2fsck", "-fn", path)
		if got := run(t, "debugfs", "-R", "stat /sparse", path); !strings.Contains(got, "Size: 5368709123") || !strings.Contains(got, "Blockcount: 8\n") {
			t.Errorf("%s:\n%s", format, got)
		}
	}
}

// A hostile tar writes nothing outside, whether it is refused or not.
func TestFromTarStaysInside(t *testing.T) {
	needTar(t)
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o644); err != nil {
		t.Fatal(err)
	}
	file := func(name string) member {
		return member{Header: tar.Header{Name: name, Mode: 0o644}, content: "hostile"}
	}
	link := func(name, to string) member {
		return member{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}}
	}
	hard := func(name, to string) member {
		return member{Header: tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to}}
	}
	for name, members := range map[string][]member{
		"parent":                {file("../escaped")},
		"parent in the middle":  {file("a/../../escaped")},
		"absolute":              {file(outside + "/escaped")},
		"link to a parent":      {link("a", "../.."), file("a/escaped")},
		"absolute link":         {link("a", outside), file("a/escaped")},
		"link to a file":        {link("a", victim), file("a")},
		"link over a directory": {{Header: tar.Header{Name: "a/", Typeflag: tar.TypeDir, Mode: 0o755}}, link("a", outside), file("a/escaped")},
		"two links":             {link("a", "."), link("a/b", ".."), link("a/b/c", ".."), file("a/b/c/escaped")},
		"hard link":             {hard("a", victim), file("a")},
		"hard link by parents":  {hard("a", strings.Repeat("../", 20)+strings.TrimPrefix(victim, "/")), file("a")},
		"hard link to a link":   {link("a", victim), hard("b", "a"), file("b")},
		"root is a link":        {link(".", outside), file("escaped")},
		"option as a name":      {file("--to-command=touch " + outside + "/escaped"), file("-C")},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := ext4.FromTar(t.Context(), filepath.Join(dir, "x.ext4"), archive(t, members...), layer.DefaultLimits(), size)
			t.Log(err)
			if err != nil {
				only(t, dir)
			} else {
				only(t, dir, "x.ext4")
			}
			only(t, outside, "victim")
			only(t, filepath.Dir(dir), filepath.Base(dir)) // t.TempDir numbers directories in one of its own
			if got, err := os.ReadFile(victim); err != nil || string(got) != "untouched" {
				t.Errorf("the victim holds %q, %v", got, err)
			}
		})
	}
}

func TestFromTarRefuses(t *testing.T) {
	needTar(t)
	whole, err := io.ReadAll(archive(t, member{Header: tar.Header{Name: "f", Mode: 0o644}, content: strings.Repeat("x", 12<<20)}))
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the source broke")
	tooLong := strings.Repeat("d/", 32<<10) + "f"
	for name, c := range map[string]struct {
		r    io.Reader
		opts ext4.Options
		kind banger.Kind
		says string
	}{
		"no tar":       {strings.NewReader(strings.Repeat("nonsense", 1000)), size, banger.KindInvalid, "not a whole tar"},
		"nothing":      {strings.NewReader(""), size, banger.KindInvalid, "empty"},
		"half":         {bytes.NewReader(whole[:len(whole)/2]), size, banger.KindInvalid, "not a whole tar"},
		"too large":    {bytes.NewReader(whole), ext4.Options{Size: 8 * banger.MiB}, banger.KindInvalid, "do not fit"},
		"broken":       {io.MultiReader(bytes.NewReader(whole[:len(whole)/2]), failing{broken}), size, banger.KindInternal, "the source broke"},
		"64 KiB path":  {archive(t, member{Header: tar.Header{Name: tooLong, Mode: 0o644}}), size, banger.KindInvalid, "at most 4095"},
		"256 bytes":    {archive(t, member{Header: tar.Header{Name: strings.Repeat("n", 256), Mode: 0o644}}), size, banger.KindInvalid, "at most 255"},
		"long trailer": {io.MultiReader(bytes.NewReader(whole), bytes.NewReader(make([]byte, 32<<20))), size, banger.KindInvalid, "follow the end"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := ext4.FromTar(t.Context(), filepath.Join(dir, "x.ext4"), c.r, layer.DefaultLimits(), c.opts)
			if banger.KindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("%s: %.500v", banger.KindOf(err), err)
			}
			only(t, dir)
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestFromTarEndsWithItsContext(t *testing.T) {
	needTar(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	defer context.AfterFunc(ctx, func() { _ = w.CloseWithError(ctx.Err()) })()
	go func() {
		head, _ := io.ReadAll(archive(t, member{Header: tar.Header{Name: "f", Mode: 0o644}, content: strings.Repeat("x", 1<<20)}))
		_, _ = w.Write(head[:512<<10])
		cancel()
	}()
	if _, err := ext4.FromTar(ctx, filepath.Join(dir, "x.ext4"), r, layer.DefaultLimits(), size); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	only(t, dir)
}
