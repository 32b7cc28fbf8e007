package depmod

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger.dev/banger/internal/kernel/kerneltest"
)

func plain(_ string, data []byte) ([]byte, error) { return data, nil }

// modulesDir writes files below a new directory and indexes it.
func modulesDir(t *testing.T, files map[string][]byte) (string, error) {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Generate(t.Context(), dir, plain)
	return dir, err
}

func TestGenerate(t *testing.T) {
	dir, err := modulesDir(t, map[string][]byte{
		"kernel/a/top-most.ko":    kerneltest.Module([]string{"alias=pci:v0001-x[a-z]*", "depends=middle,base", "softdep=pre: crc"}, nil),
		"kernel/b/middle.ko":      kerneltest.Module([]string{"depends=base,builtin_one", "alias=char-major-10-235", "alias=devname:autofs"}, []string{"middle_do"}),
		"kernel/b/base.ko":        kerneltest.Module([]string{"depends=", "alias=pci:v0001-x[a-z]*"}, []string{"base_do"}),
		"modules.order":           []byte("kernel/b/base.ko\nkernel/b/middle.ko\nkernel/a/top-most.ko\n"),
		"modules.builtin":         []byte("kernel/c/builtin-one.ko\n"),
		"modules.builtin.modinfo": []byte("builtin-one.alias=fs-one\x00builtin-one.license=GPL\x00"),
		"build":                   []byte("not a module"),
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"modules.dep": "kernel/b/base.ko:\nkernel/b/middle.ko: kernel/b/base.ko\nkernel/a/top-most.ko: kernel/b/middle.ko kernel/b/base.ko\n",
		"modules.alias": "# Aliases extracted from modules themselves.\nalias pci:v0001-x[a-z]* base\n" +
			"alias char-major-10-235 middle\nalias devname:autofs middle\nalias pci:v0001-x[a-z]* top_most\n",
		"modules.symbols": "# Aliases for symbols, used by symbol_request().\nalias symbol:base_do base\nalias symbol:middle_do middle\n",
		"modules.softdep": "# Dependencies extracted from modules themselves.\nsoftdep top_most pre: crc\n",
		"modules.devname": "# Device nodes to trigger on-demand module loading.\nmiddle autofs c10:235\n",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s, %v:\n%s", name, err, got)
		}
	}
	for name, want := range map[string][]pair{
		"modules.dep.bin": {
			{"base", "kernel/b/base.ko:", 0}, {"middle", "kernel/b/middle.ko: kernel/b/base.ko", 1},
			{"top_most", "kernel/a/top-most.ko: kernel/b/middle.ko kernel/b/base.ko", 2},
		},
		// '-' is '_' but in brackets; modules.order decides between two.
		"modules.alias.bin": {
			{"char_major_10_235", "middle", 1}, {"devname:autofs", "middle", 1},
			{"pci:v0001_x[a-z]*", "base", 0}, {"pci:v0001_x[a-z]*", "top_most", 2},
		},
		"modules.symbols.bin":       {{"symbol:base_do", "base", 0}, {"symbol:middle_do", "middle", 1}},
		"modules.builtin.bin":       {{"builtin_one", "", 0}},
		"modules.builtin.alias.bin": {{"fs_one", "builtin_one", 0}},
	} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := readIndex(t, data); !slices.Equal(got, want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// readIndex reads an index as libkmod does.
func readIndex(t *testing.T, data []byte) []pair {
	t.Helper()
	be := binary.BigEndian
	if be.Uint32(data) != indexMagic || be.Uint32(data[4:]) != indexVersion {
		t.Fatalf("not an index: % x", data[:8])
	}
	var pairs []pair
	var node func(offset uint32, key string)
	node = func(offset uint32, key string) {
		at := data[offset&0x0fffffff:]
		text := func() string {
			end := bytes.IndexByte(at, 0)
			s := string(at[:end])
			at = at[end+1:]
			return s
		}
		number := func() uint32 {
			n := be.Uint32(at)
			at = at[4:]
			return n
		}
		if offset&indexPrefix != 0 {
			key += text()
		}
		type child struct {
			offset uint32
			key    string
		}
		var children []child
		if offset&indexChildren != 0 {
			first, last := at[0], at[1]
			at = at[2:]
			for c := int(first); c <= int(last); c++ {
				if o := number(); o != 0 {
					children = append(children, child{o, key + string(rune(c))})
				}
			}
		}
		if offset&indexValues != 0 {
			for range number() {
				priority := number()
				pairs = append(pairs, pair{key, text(), priority})
			}
		}
		for _, c := range children {
			node(c.offset, c.key)
		}
	}
	node(be.Uint32(data[8:]), "")
	return pairs
}

func FuzzIndex(f *testing.F) {
	f.Add("a\nab\nabc\nb\nab")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		var pairs []pair
		for i, key := range strings.Split(text, "\n") {
			if strings.ContainsFunc(key, func(c rune) bool { return c == 0 || c >= 0x80 }) {
				continue
			}
			pairs = append(pairs, pair{key, "v", uint32(i)})
		}
		slices.SortStableFunc(pairs, func(a, b pair) int { return strings.Compare(a.key, b.key) })
		if got := readIndex(t, writeIndex(pairs)); !slices.Equal(got, pairs) {
			t.Errorf("got %+v, want %+v", got, pairs)
		}
	})
}

func TestGenerateRefuses(t *testing.T) {
	for name, files := range map[string]map[string][]byte{
		"a circle":       {"a.ko": kerneltest.Module([]string{"depends=b"}, nil), "b.ko": kerneltest.Module([]string{"depends=a"}, nil)},
		"not an ELF":     {"a.ko": []byte("no")},
		"no .modinfo":    {"a.ko": kerneltest.VMLinux(120)},
		"truncated file": {"a.ko": kerneltest.Module([]string{"depends="}, nil)[:100]},
	} {
		if _, err := modulesDir(t, files); err == nil || !strings.Contains(err.Error(), "module a") {
			t.Errorf("%s: %v, want an error that names the module", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(kerneltest.Module([]string{"depends=a,b", "alias=x"}, []string{"y"}))
	f.Fuzz(func(_ *testing.T, ko []byte) { _, _ = parse("x.ko", "x", ko) })
}
