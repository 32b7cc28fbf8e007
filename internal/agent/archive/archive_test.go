package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func write(t *testing.T, name, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, name string) *os.File {
	t.Helper()
	dir, err := OpenDir(name)
	must(t, err)
	t.Cleanup(func() { _ = dir.Close() })
	return dir
}

func pack(t *testing.T, dir, base, as string) *bytes.Buffer {
	t.Helper()
	var out bytes.Buffer
	p := NewPacker(&out)
	p.Xattrs = true
	must(t, p.Add(open(t, dir), base, as))
	must(t, p.Close())
	return &out
}

// tree is a directory with every kind of entry that a user may have.
func tree(t *testing.T) string {
	dir := t.TempDir()
	write(t, dir+"/plain", "hello\n", 0o640)
	write(t, dir+"/run me", "#!/bin/sh\n", 0o755)
	write(t, dir+"/odd\n\xff\xfe", "odd", 0o600)
	write(t, dir+"/"+strings.Repeat("long", 60), "", 0o600)
	write(t, dir+"/deep/"+strings.Repeat("d/", 5)+"f", "deep", 0o600)
	write(t, dir+"/locked/inside", "in", 0o400)
	must(t, os.Mkdir(dir+"/empty", 0o700))
	must(t, os.Symlink("plain", dir+"/link"))
	must(t, os.Symlink("/nowhere/at/all", dir+"/broken"))
	must(t, os.Link(dir+"/plain", dir+"/same"))
	must(t, os.Chmod(dir+"/locked", 0o500))
	t.Cleanup(func() { _ = os.Chmod(dir+"/locked", 0o700) })
	_ = unix.Setxattr(dir+"/plain", "user.note", []byte("kept"), 0)
	old := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	must(t, os.Chtimes(dir+"/plain", old, old))
	must(t, os.Chtimes(dir+"/empty", old, old))
	return dir
}

// describe is what a user could notice of a tree.
func describe(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	must(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		out.WriteString(strings.TrimPrefix(name, dir) + " " + info.Mode().String())
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			out.WriteString(" -> " + target)
		case info.Mode().IsRegular():
			content, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			out.WriteString(" " + info.ModTime().UTC().Format(time.RFC3339) + " " + string(content))
			if st.Nlink > 1 {
				out.WriteString(" linked")
			}
		default:
			out.WriteString(" " + info.ModTime().UTC().Format(time.RFC3339))
		}
		out.WriteString("\n")
		return nil
	}))
	return out.String()
}

func TestATreeComesBackAsItWas(t *testing.T) {
	from, to := tree(t), t.TempDir()
	u := &Unpacker{}
	must(t, u.Unpack(open(t, to), pack(t, from, ".", "copy")))
	if got, want := describe(t, to+"/copy"), describe(t, from); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	value := make([]byte, 16)
	if _, err := unix.Getxattr(from+"/plain", "user.note", value); err == nil {
		if n, err := unix.Getxattr(to+"/copy/plain", "user.note", value); err != nil || string(value[:n]) != "kept" {
			t.Errorf("the extended attribute is %q, %v", value[:max(n, 0)], err)
		}
	}
	t.Run("again over itself", func(t *testing.T) {
		_ = os.Chmod(to+"/copy/locked", 0o700) // merged directories stay as they are
		must(t, (&Unpacker{}).Unpack(open(t, to), pack(t, from, ".", "copy")))
		must(t, os.Chmod(to+"/copy/locked", 0o500))
		// The times of directories that were there are their own.
		for _, dir := range []string{"/copy/locked", "/copy/empty"} {
			info, err := os.Stat(from + strings.TrimPrefix(dir, "/copy"))
			must(t, err)
			must(t, os.Chtimes(to+dir, info.ModTime(), info.ModTime()))
		}
		if got, want := describe(t, to+"/copy"), describe(t, from); withoutDirTimes(got) != withoutDirTimes(want) {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
	_ = os.Chmod(to+"/copy/locked", 0o700)
}

func withoutDirTimes(s string) string {
	var out []string
	for line := range strings.SplitSeq(s, "\n") {
		if name, _, found := strings.Cut(line, " d"); found {
			line = name
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

func TestGNUTarReadsWhatIsPacked(t *testing.T) {
	// Of another implementation, so that the sparse form is not only our own.
	from, to := tree(t), t.TempDir()
	must(t, sparseFile(from+"/sparse"))
	archive := filepath.Join(t.TempDir(), "a.tar")
	must(t, os.WriteFile(archive, pack(t, from, ".", "copy").Bytes(), 0o600))
	run(t, "tar", "-x", "-p", "-f", archive, "-C", to)
	if got, want := describe(t, to+"/copy"), describe(t, from); withoutDirTimes(got) != withoutDirTimes(want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	_ = os.Chmod(to+"/copy/locked", 0o700)
}

func sparseFile(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	for _, at := range []int64{0, 1 << 20, 5 << 20} {
		if _, err := f.WriteAt([]byte("data here"), at); err != nil {
			return err
		}
	}
	return errors.Join(f.Truncate(9<<20+1), f.Close())
}

func TestSparseFilesStaySparse(t *testing.T) {
	dir, to := t.TempDir(), t.TempDir()
	must(t, sparseFile(dir+"/holes"))
	f, err := os.Create(dir + "/nothing but a hole")
	must(t, err)
	must(t, errors.Join(f.Truncate(3<<20), f.Close()))
	archive := pack(t, dir, ".", ".")
	if archive.Len() > 1<<20 {
		t.Errorf("the archive has %d bytes", archive.Len())
	}
	must(t, (&Unpacker{}).Unpack(open(t, to), archive))
	for _, name := range []string{"/holes", "/nothing but a hole"} {
		want, err := os.ReadFile(dir + name)
		must(t, err)
		got, err := os.ReadFile(to + name)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes differ from %d", name, len(got), len(want))
		}
		var st unix.Stat_t
		must(t, unix.Stat(to+name, &st))
		if st.Blocks*512 > 1<<20 {
			t.Errorf("%s takes %d bytes", name, st.Blocks*512)
		}
	}
}

// The holes of a file are no work, however long they are, and what follows it in the
// archive comes all the same.
func TestLongHolesAreNoWork(t *testing.T) {
	dir, to := t.TempDir(), t.TempDir()
	const size, last = 1 << 40, 1<<39 + 1
	f, err := os.Create(dir + "/a long one")
	must(t, err)
	for at, text := range map[int64]string{0: "begins", last: "is there too"} {
		_, err = f.WriteAt([]byte(text), at)
		must(t, err)
	}
	must(t, errors.Join(f.Truncate(size), f.Close()))
	must(t, os.WriteFile(dir+"/b short", []byte("after it"), 0o600))
	must(t, (&Unpacker{}).Unpack(open(t, to), pack(t, dir, ".", ".")))
	f, err = os.Open(to + "/a long one")
	must(t, err)
	defer func() { _ = f.Close() }()
	var st unix.Stat_t
	must(t, unix.Fstat(int(f.Fd()), &st))
	text := make([]byte, len("is there too"))
	if _, err := f.ReadAt(text, last); err != nil || string(text) != "is there too" || st.Size != size || st.Blocks*512 > 1<<20 {
		t.Errorf("%q, %v, %d bytes on %d blocks", text, err, st.Size, st.Blocks)
	}
	if after, err := os.ReadFile(to + "/b short"); err != nil || string(after) != "after it" {
		t.Errorf("what follows: %q, %v", after, err)
	}
}

// A file that is said to be longer than a file can be, or to have more than it has,
// is an error or a hole, and none of it is left half.
func TestHolesThatAreLies(t *testing.T) {
	for name, test := range map[string]struct {
		size  int64
		parts []segment
	}{
		"exabytes":               {1 << 62, []segment{{0, 4}}},
		"data behind exabytes":   {1 << 62, []segment{{1 << 61, 4}}},
		"more than there is":     {1 << 20, []segment{{0, 64}}},
		"behind the end":         {16, []segment{{64, 4}}},
		"before the beginning":   {16, []segment{{-4, 4}}},
		"a length below nothing": {16, []segment{{0, -4}}},
		"twice the same":         {16, []segment{{0, 2}, {0, 2}}},
	} {
		t.Run(name, func(t *testing.T) {
			to := t.TempDir()
			var b bytes.Buffer
			write(t, to+"/true", "data", 0o600)
			f, err := os.Open(to + "/true")
			must(t, err)
			defer func() { _ = f.Close() }()
			_ = NewPacker(&b).sparse(f, &tar.Header{Name: "lie", Size: test.size, Mode: 0o600}, test.parts, io.Discard)
			err = (&Unpacker{}).Unpack(open(t, to), &b)
			var st unix.Stat_t
			there := unix.Stat(to+"/lie", &st) == nil
			if err != nil && there || err == nil && (!there || st.Blocks*512 > 1<<20) {
				t.Errorf("%v; there: %v, %d blocks", err, there, st.Blocks)
			}
			if left, _ := filepath.Glob(to + "/.banger-*"); len(left) > 0 {
				t.Errorf("left over: %q", left)
			}
		})
	}
}

func TestATeeGetsHolesAsZeros(t *testing.T) {
	dir := t.TempDir()
	must(t, sparseFile(dir+"/holes"))
	want, err := os.ReadFile(dir + "/holes")
	must(t, err)
	var tee, archive bytes.Buffer
	p := NewPacker(&archive)
	p.Tee = func(_ string, size int64) io.Writer {
		if size != int64(len(want)) {
			t.Errorf("told of %d bytes", size)
		}
		return &tee
	}
	must(t, p.AddOne(open(t, dir), "holes", "holes"))
	must(t, p.Close())
	if !bytes.Equal(tee.Bytes(), want) || archive.Len() > 1<<20 {
		t.Errorf("%d bytes of %d, in an archive of %d", tee.Len(), len(want), archive.Len())
	}
}

// A file whose end does not come leaves nothing, short or long.
func TestAFileThatIsCutShortLeavesNothing(t *testing.T) {
	for _, size := range []int64{1 << 10, 1 << 20} {
		dir := t.TempDir()
		reader, w := io.Pipe()
		done := make(chan error, 1)
		go func() { done <- (&Unpacker{}).Unpack(open(t, dir), reader) }()
		tw := tar.NewWriter(w)
		must(t, tw.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, Size: size, Mode: 0o600}))
		_, err := tw.Write(make([]byte, size/2))
		must(t, err)
		if _, err := os.Lstat(dir + "/f"); size > copyBuffer && err == nil {
			t.Error("half a file has its name already")
		}
		_ = w.Close()
		if err := <-done; !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v", err)
		}
		if all, _ := os.ReadDir(dir); len(all) != 0 {
			t.Errorf("left: %v", all)
		}
	}
}

// One name is no way to make directories without end.
func TestANameThatIsTooLongMakesNothing(t *testing.T) {
	for _, hdr := range []tar.Header{
		{Name: strings.Repeat("d/", 10_000) + "file", Typeflag: tar.TypeReg},
		{Name: "link", Linkname: strings.Repeat("d/", 10_000) + "file", Typeflag: tar.TypeLink},
	} {
		dir := t.TempDir()
		if err := (&Unpacker{}).Unpack(open(t, dir), evil(t, hdr)); err == nil || len(err.Error()) > 1000 {
			t.Errorf("got %v", err)
		}
		if all, _ := os.ReadDir(dir); len(all) != 0 {
			t.Errorf("it made %v", all)
		}
	}
}

// evil is an archive of these entries, with "x" in every file.
func evil(t *testing.T, entries ...tar.Header) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, hdr := range entries {
		if hdr.Typeflag == tar.TypeReg {
			hdr.Size = 1
		}
		if hdr.Mode == 0 {
			hdr.Mode = 0o777
		}
		must(t, w.WriteHeader(&hdr))
		if hdr.Typeflag == tar.TypeReg {
			_, err := w.Write([]byte("x"))
			must(t, err)
		}
	}
	must(t, w.Close())
	return &b
}

// TestNothingGetsOut unpacks what would write outside of the directory if it
// could. Whether that fails or makes something harmless, what is outside stays.
func TestNothingGetsOut(t *testing.T) {
	file := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg} }
	dir := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir} }
	link := func(name, to string) tar.Header {
		return tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeSymlink}
	}
	hard := func(name, to string) tar.Header {
		return tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeLink}
	}
	for name, entries := range map[string][]tar.Header{
		"dots":                      {file("../victim")},
		"dots inside":               {dir("a"), file("a/../../victim")},
		"dots at the end":           {file("a/..")},
		"absolute":                  {file("/victim")},
		"through a link":            {link("a", ".."), file("a/victim")},
		"through an absolute link":  {link("a", "OUTSIDE"), file("a/victim")},
		"through two links":         {link("b", ".."), link("a", "b"), file("a/victim")},
		"over a link":               {link("victim", "../victim"), file("victim")},
		"directory over a link":     {link("a", ".."), dir("a"), file("a/victim")},
		"hard link out":             {hard("a", "../victim"), file("a")},
		"hard link through a link":  {link("b", ".."), hard("a", "b/victim"), file("a")},
		"hard link to a link":       {link("b", "../victim"), hard("a", "b"), file("a")},
		"link that was there":       {file("there/victim")},
		"a directory that is there": {dir("there"), file("there/victim")},
		"nothing":                   {file("")},
		"device":                    {{Name: "victim", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}},
		"pipe":                      {{Name: "pipe", Typeflag: tar.TypeFifo}},
		"set-id":                    {{Name: "su", Typeflag: tar.TypeReg, Mode: 0o6755}},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			write(t, top+"/victim", "untouched", 0o600)
			inside := top + "/inside"
			must(t, os.Mkdir(inside, 0o755))
			must(t, os.Symlink("..", inside+"/there"))
			for i := range entries {
				entries[i].Linkname = strings.ReplaceAll(entries[i].Linkname, "OUTSIDE", top)
			}
			err := (&Unpacker{}).Unpack(open(t, inside), evil(t, entries...))
			t.Logf("%v", err)
			if content, err := os.ReadFile(top + "/victim"); err != nil || string(content) != "untouched" {
				t.Errorf("the file outside is %q, %v", content, err)
			}
			var st unix.Stat_t
			must(t, unix.Stat(top+"/victim", &st))
			if st.Nlink != 1 || st.Mode&0o777 != 0o600 {
				t.Errorf("the file outside has %d names and the mode %o", st.Nlink, st.Mode)
			}
			if all, _ := os.ReadDir(top); len(all) != 2 {
				t.Errorf("outside are %v", all)
			}
			_ = filepath.WalkDir(inside, func(name string, d fs.DirEntry, err error) error {
				if err == nil && (d.Type()&(fs.ModeDevice|fs.ModeNamedPipe) != 0) {
					t.Errorf("%s was made", name)
				}
				if info, err := d.Info(); err == nil && info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
					t.Errorf("%s is %s", name, info.Mode())
				}
				return nil
			})
		})
	}
}

func TestADirectoryAndAFileDoNotReplaceEachOther(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/d/f", "kept", 0o600)
	write(t, dir+"/f", "kept", 0o600)
	for _, hdr := range []tar.Header{
		{Name: "d", Typeflag: tar.TypeReg},
		{Name: "d", Typeflag: tar.TypeSymlink, Linkname: "/"},
		{Name: "f", Typeflag: tar.TypeDir},
		{Name: "f/g", Typeflag: tar.TypeReg},
	} {
		if err := (&Unpacker{}).Unpack(open(t, dir), evil(t, hdr)); err == nil || !strings.Contains(err.Error(), "it is there already") {
			t.Errorf("%s as %c: %v", hdr.Name, hdr.Typeflag, err)
		}
	}
	if content, _ := os.ReadFile(dir + "/d/f"); string(content) != "kept" {
		t.Error("the file in the directory has gone")
	}
}

func TestAFileThatIsCutShortLeavesTheOldOne(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/f", "old", 0o600)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, Size: 1 << 20, Mode: 0o600}))
	err := (&Unpacker{}).Unpack(open(t, dir), &b)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	if content, _ := os.ReadFile(dir + "/f"); string(content) != "old" {
		t.Errorf("the file is %q", content)
	}
	if all, _ := os.ReadDir(dir); len(all) != 1 {
		t.Errorf("left: %v", all)
	}
}

func TestRoomEndsAStream(t *testing.T) {
	full := errors.New("full")
	asked := 0
	u := &Unpacker{Room: func() error {
		if asked++; asked > 3 {
			return full
		}
		return nil
	}}
	endless, feed := io.Pipe()
	go func() {
		w := tar.NewWriter(feed)
		_ = w.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, Size: 1 << 50, Mode: 0o600})
		for {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	}()
	err := u.Unpack(open(t, t.TempDir()), endless)
	_ = endless.Close()
	if !errors.Is(err, full) || u.Bytes > 10*roomEvery {
		t.Errorf("after %d bytes: %v", u.Bytes, err)
	}
}

// FuzzUnpack: whatever an archive is, nothing outside of the directory changes.
func FuzzUnpack(f *testing.F) {
	seed := func(entries ...tar.Header) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, hdr := range entries {
			_ = w.WriteHeader(&hdr)
		}
		_ = w.Close()
		f.Add(b.Bytes())
	}
	seed(tar.Header{Name: "a/b", Typeflag: tar.TypeDir, Mode: 0o755}, tar.Header{Name: "a/c", Typeflag: tar.TypeReg, Mode: 0o644})
	seed(tar.Header{Name: "l", Linkname: "..", Typeflag: tar.TypeSymlink}, tar.Header{Name: "l/victim", Typeflag: tar.TypeReg, Mode: 0o644})
	seed(tar.Header{Name: "h", Linkname: "../victim", Typeflag: tar.TypeLink}, tar.Header{Name: "../victim", Typeflag: tar.TypeReg, Mode: 0o644})
	f.Fuzz(func(t *testing.T, archive []byte) {
		top := t.TempDir()
		write(t, top+"/victim", "untouched", 0o600)
		must(t, os.Mkdir(top+"/inside", 0o755))
		room := 0
		u := &Unpacker{Room: func() error {
			if room++; room > 20 {
				return errors.New("enough")
			}
			return nil
		}}
		_ = u.Unpack(open(t, top+"/inside"), bytes.NewReader(archive))
		if content, err := os.ReadFile(top + "/victim"); err != nil || string(content) != "untouched" {
			t.Fatalf("the file outside is %q, %v", content, err)
		}
		if all, _ := os.ReadDir(top); len(all) != 2 {
			t.Fatalf("outside are %v", all)
		}
		_ = filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
			if d != nil && d.IsDir() {
				_ = os.Chmod(name, 0o700) // so that it can be removed
			}
			return nil
		})
	})
}
