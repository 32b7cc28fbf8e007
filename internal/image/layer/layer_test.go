package layer_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/image/layer"
)

// pack makes a tar. A header without a type is a file, whose content is its link name.
func pack(t testing.TB, members ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range members {
		h.Format, h.ModTime = tar.FormatPAX, time.Unix(1, 0)
		content := ""
		if h.Typeflag == 0 {
			h.Typeflag, content, h.Linkname = tar.TypeReg, h.Linkname, ""
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func file(name, content string) tar.Header { return tar.Header{Name: name, Linkname: content} }
func dir(name string) tar.Header           { return tar.Header{Name: name + "/", Typeflag: tar.TypeDir} }
func soft(name, to string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
}
func hard(name, to string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to}
}

// list is every path of a tree with what is there: a file's content, as the
// second reading gives it.
func list(t *testing.T, layers [][]byte) (string, error) {
	t.Helper()
	tree := layer.New(layer.DefaultLimits())
	for _, l := range layers {
		if err := tree.Read(bytes.NewReader(l), nil); err != nil {
			return "", err
		}
	}
	contents := map[*layer.Node]string{}
	c := tree.Contents()
	for _, l := range layers {
		if !c.Needs() {
			c.Skip()
			continue
		}
		err := c.Read(bytes.NewReader(l), func(n *layer.Node, r io.Reader) error {
			p, err := io.ReadAll(r)
			contents[n] = string(p)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	var lines []string
	var walk func(path string, n *layer.Node)
	walk = func(path string, n *layer.Node) {
		for name, child := range n.Children {
			at := path + name
			switch {
			case child.Is(unix.S_IFDIR):
				lines = append(lines, at+"/")
				walk(at+"/", child)
			case child.Is(unix.S_IFLNK):
				lines = append(lines, at+" -> "+child.Target)
			default:
				lines = append(lines, fmt.Sprintf("%s %d %s", at, child.Links, contents[child]))
			}
		}
	}
	walk("", tree.Root)
	slices.Sort(lines)
	return strings.Join(lines, ", "), nil
}

func TestWhatIsVisible(t *testing.T) {
	low := []tar.Header{dir("d"), file("d/f", "low"), dir("d/e"), file("d/e/g", "low"), file("x", "low"), hard("y", "x"), soft("l", "d")}
	for name, c := range map[string]struct {
		upper []tar.Header
		want  string
	}{
		"nothing":                  {nil, "d/, d/e/, d/e/g 1 low, d/f 1 low, l -> d, x 2 low, y 2 low"},
		"whiteout":                 {[]tar.Header{file(".wh.x", ""), file("d/.wh.e", "")}, "d/, d/f 1 low, l -> d, y 1 low"},
		"whiteout by a link":       {[]tar.Header{file("l/.wh.f", "")}, "d/, d/e/, d/e/g 1 low, l -> d, x 2 low, y 2 low"},
		"whiteout before":          {[]tar.Header{file(".wh.d", ""), file("d/new", "up")}, "d/, d/new 1 up, l -> d, x 2 low, y 2 low"},
		"whiteout after":           {[]tar.Header{file("d/e/new", "up"), file(".wh.d", "")}, "d/, d/e/, d/e/new 1 up, l -> d, x 2 low, y 2 low"},
		"opaque before":            {[]tar.Header{file("d/.wh..wh..opq", ""), file("d/new", "up")}, "d/, d/new 1 up, l -> d, x 2 low, y 2 low"},
		"opaque after":             {[]tar.Header{file("d/f", "up"), file("d/.wh..wh..opq", "")}, "d/, d/f 1 up, l -> d, x 2 low, y 2 low"},
		"whiteout of nothing":      {[]tar.Header{file(".wh.no", ""), file("no/.wh.no", "")}, "d/, d/e/, d/e/g 1 low, d/f 1 low, l -> d, x 2 low, y 2 low"},
		"AUFS's own":               {[]tar.Header{dir(".wh..wh.plnk"), file(".wh..wh.plnk/1", ""), file(".wh..wh.aufs", "")}, "d/, d/e/, d/e/g 1 low, d/f 1 low, l -> d, x 2 low, y 2 low"},
		"replaced, the link stays": {[]tar.Header{file("x", "up")}, "d/, d/e/, d/e/g 1 low, d/f 1 low, l -> d, x 1 up, y 1 low"},
		"link across layers":       {[]tar.Header{hard("z", "d/e/g"), file(".wh.d", "")}, "l -> d, x 2 low, y 2 low, z 1 low"},
		"link to itself":           {[]tar.Header{hard("x", "x")}, "d/, d/e/, d/e/g 1 low, d/f 1 low, l -> d, x 2 low, y 2 low"},
		"file over directory":      {[]tar.Header{file("d", "up")}, "d 1 up, l -> d, x 2 low, y 2 low"},
		"link over directory":      {[]tar.Header{soft("d", "/"), file("d/new", "up")}, "d -> /, l -> d, new 1 up, x 2 low, y 2 low"},
		"directory over file":      {[]tar.Header{dir("x"), file("x/in", "up")}, "d/, d/e/, d/e/g 1 low, d/f 1 low, l -> d, x/, x/in 1 up, y 1 low"},
		"directory over link":      {[]tar.Header{dir("l")}, "d/, d/e/, d/e/g 1 low, d/f 1 low, l/, x 2 low, y 2 low"},
		"through a link":           {[]tar.Header{file("l/new", "up"), soft("out", "/../.."), file("out/in", "up")}, "d/, d/e/, d/e/g 1 low, d/f 1 low, d/new 1 up, in 1 up, l -> d, out -> /../.., x 2 low, y 2 low"},
		"duplicates":               {[]tar.Header{file("x", "1"), file("x", "2"), file(".wh.d", "")}, "l -> d, x 1 2, y 1 low"},
		"link to its own parent":   {[]tar.Header{hard("d", "d/f")}, "d 1 low, l -> d, x 2 low, y 2 low"},
	} {
		got, err := list(t, [][]byte{pack(t, low...), pack(t, c.upper...)})
		if err != nil || got != c.want {
			t.Errorf("%s: %v\n  %s, not\n  %s", name, err, got, c.want)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	many := make([]tar.Header, 101)
	for i := range many {
		many[i] = file(fmt.Sprint(i), "")
	}
	var shared []tar.Header
	for i := range 65001 {
		shared = append(shared, hard(fmt.Sprint(i), "f"))
	}
	small := layer.Limits{Entries: 100, Size: banger.KiB}
	for name, c := range map[string]struct {
		limits  layer.Limits
		members []tar.Header
		says    string
	}{
		"up":                      {small, []tar.Header{file("../x", "")}, "leads out"},
		"up in the middle":        {small, []tar.Header{file("a/../../x", "")}, "leads out"},
		"hard link up":            {small, []tar.Header{hard("a", "../../etc/shadow")}, "leads out"},
		"hard link to nothing":    {small, []tar.Header{hard("a", "/etc/shadow")}, "not there"},
		"hard link to directory":  {small, []tar.Header{dir("d"), hard("a", "d")}, "directory"},
		"hard link to the root":   {small, []tar.Header{hard("a", "/")}, "not there"},
		"below a file":            {small, []tar.Header{file("a", ""), file("a/b", "")}, "no directory"},
		"round and round":         {small, []tar.Header{soft("a", "b"), soft("b", "a"), file("a/x", "")}, "symbolic links"},
		"longer and longer":       {small, []tar.Header{soft("a", "a/a"), file("a/x", "")}, "symbolic links"},
		"root is a file":          {small, []tar.Header{file(".", "")}, "root"},
		"whiteout of the parent":  {small, []tar.Header{file(".wh...", "")}, "names nothing"},
		"whiteout of all":         {small, []tar.Header{file(".wh.", "")}, "names nothing"},
		"many":                    {small, many, "more than 100 entries"},
		"many by implication":     {small, []tar.Header{file(strings.Repeat("d/", 200)+"f", "")}, "more than 100 entries"},
		"much":                    {small, []tar.Header{file("a", strings.Repeat("x", 1000)), file("a", strings.Repeat("x", 1000))}, "more than 1KiB"},
		"long path":               {small, []tar.Header{file(strings.Repeat("d/", 3000)+"f", "")}, "at most 4095"},
		"long name":               {small, []tar.Header{file(strings.Repeat("n", 256), "")}, "at most 255"},
		"long name behind a link": {small, []tar.Header{soft("l", strings.Repeat("n", 256)), file("l/x", "")}, "at most 255"},
		"65001 links":             {layer.DefaultLimits(), append([]tar.Header{file("f", "")}, shared...), "hard links"},
		"large attributes":        {small, []tar.Header{{Name: "a", PAXRecords: map[string]string{"SCHILY.xattr.user.x": strings.Repeat("x", 5000)}}}, "4096"},
		"odd device":              {small, []tar.Header{{Name: "a", Typeflag: tar.TypeChar, Devmajor: 1 << 13}}, "cannot be"},
		"odd type":                {small, []tar.Header{{Name: "a", Typeflag: 'V'}}, "type"},
		"odd owner":               {small, []tar.Header{{Name: "a", Uid: 1 << 40}}, "cannot be"},
	} {
		err := layer.New(c.limits).Read(bytes.NewReader(pack(t, c.members...)), nil)
		if banger.KindOf(err) != banger.KindInvalid || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %.300v", name, err)
		}
	}
}

func TestBrokenTars(t *testing.T) {
	whole := pack(t, file("a", strings.Repeat("x", 4096)))
	for name, r := range map[string]io.Reader{
		"half":    bytes.NewReader(whole[:2000]),
		"none":    strings.NewReader(strings.Repeat("nonsense", 1000)),
		"endless": io.MultiReader(bytes.NewReader(whole), bytes.NewReader(make([]byte, 17<<20))),
	} {
		tree := layer.New(layer.DefaultLimits())
		if err := tree.Read(r, nil); banger.KindOf(err) != banger.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := errors.New("the disk is gone")
	if err := layer.New(layer.DefaultLimits()).Read(io.MultiReader(bytes.NewReader(whole[:2000]), failing{broken}), nil); !errors.Is(err, broken) {
		t.Error(err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// FuzzRead gives two layers of anything to a tree: it may refuse, and must end
// within its limits.
func FuzzRead(f *testing.F) {
	f.Add(pack(f, dir("d"), file("d/f", "x"), soft("l", "d"), hard("h", "d/f")), pack(f, file("l/.wh.f", ""), file("d/.wh..wh..opq", ""), file("h", "y")))
	f.Add(pack(f, file("../x", "")), []byte("nonsense"))
	f.Fuzz(func(t *testing.T, low, up []byte) {
		tree := layer.New(layer.Limits{Entries: 1000, Size: banger.MiB})
		for _, p := range [][]byte{low, up} {
			if tree.Read(bytes.NewReader(summed(p)), nil) != nil {
				return
			}
		}
		names := map[*layer.Node]int{}
		count(tree.Root, names)
		for n, seen := range names {
			if !n.Is(unix.S_IFDIR) && n.Links != seen {
				t.Errorf("%+v has %d names", n, seen)
			}
		}
		tree.Contents()
	})
}

// summed gives every header of a tar its checksum, or else no change of the
// fuzzer's would get past that.
func summed(p []byte) []byte {
	p = bytes.Clone(p)
	const block = 512
	for at := 0; at+block <= len(p); {
		header := p[at : at+block]
		if bytes.Count(header, []byte{0}) == block {
			break
		}
		copy(header[148:156], "        ")
		sum := 0
		for _, b := range header {
			sum += int(b)
		}
		copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))
		size, err := strconv.ParseUint(strings.Trim(string(header[124:136]), "\x00 "), 8, 32)
		if err != nil {
			size = 0
		}
		at += block + (int(size)+block-1)/block*block
	}
	return p
}

func count(dir *layer.Node, names map[*layer.Node]int) {
	for _, child := range dir.Children {
		names[child]++
		if child.Is(unix.S_IFDIR) {
			count(child, names)
		}
	}
}
