package depmod

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"strings"
)

// module is what one module file says of itself.
type module struct {
	file     string // below the modules directory
	name     string
	depends  []string // names
	aliases  []string
	softdeps []string
	weakdeps []string
	exports  []string // symbols
	vermagic string   // begins with the release of its kernel
	index    int      // place in modules.order
}

// parse reads an unpacked module. The sections are in memory already; debug/elf
// checks every offset against their size.
func parse(file, name string, ko []byte) (*module, error) {
	f, err := elf.NewFile(bytes.NewReader(ko))
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", file, err)
	}
	m := &module{file: file, name: name}
	info := f.Section(".modinfo")
	if info == nil {
		return nil, fmt.Errorf("module %s has no .modinfo", file)
	}
	text, err := io.ReadAll(io.LimitReader(info.Open(), int64(len(ko))))
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", file, err)
	}
	for field := range strings.SplitSeq(string(text), "\x00") {
		m.note(field)
	}
	symbols, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", file, err)
	}
	for _, s := range symbols {
		if name, ok := strings.CutPrefix(s.Name, "__ksymtab_"); ok {
			m.exports = append(m.exports, name)
		}
	}
	return m, nil
}

// note takes one "key=value" of .modinfo.
func (m *module) note(field string) {
	key, value, _ := strings.Cut(field, "=")
	switch {
	case value == "" || strings.ContainsAny(value, "\n\r"):
	case key == "vermagic":
		m.vermagic = value
	case key == "alias":
		m.aliases = append(m.aliases, value)
	case key == "softdep":
		m.softdeps = append(m.softdeps, value)
	case key == "weakdep":
		m.weakdeps = append(m.weakdeps, value)
	case key == "depends":
		for need := range strings.SplitSeq(value, ",") {
			m.depends = append(m.depends, strings.ReplaceAll(need, "-", "_"))
		}
	}
}

// isFor says whether the module can be loaded by a kernel of this release.
func (m *module) isFor(release string) error {
	if of, _, _ := strings.Cut(m.vermagic, " "); of != "" && of != release {
		return fmt.Errorf("module %s is for the kernel %s, not for %s", m.file, of, release)
	}
	return nil
}

// normal is an alias with '_' for '-' except inside [...], as modprobe looks it up.
func normal(alias string) string {
	b := []byte(alias)
	inside := false
	for i, c := range b {
		switch {
		case c == '[':
			inside = true
		case c == ']':
			inside = false
		case c == '-' && !inside:
			b[i] = '_'
		}
	}
	return string(b)
}
