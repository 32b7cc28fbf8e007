// Package depmod writes the indexes that modprobe needs (modules.dep and its
// kin, text and binary) for a directory of kernel modules, as depmod(8) does
// when a kernel package is installed. It is here so that a kernel package can be
// unpacked on a host without kmod, and so that equal packages give equal files.
// It does not load modules, nor decide which ones a guest needs.
package depmod

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Unpack gives the ELF object in a module file called name.
type Unpack func(name string, data []byte) ([]byte, error)

// Generate writes the indexes into dir, which is lib/modules/<release> of an
// unpacked kernel package. What modules need is taken from their own
// "depends", which the kernel's build computed from the symbols. It gives how
// many modules there are, each of which must be for a kernel of that release.
func Generate(ctx context.Context, dir string, unpack Unpack) (count int, err error) {
	files, err := moduleFiles(dir)
	if err != nil {
		return 0, err
	}
	modules := make([]*module, len(files))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, file := range files {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			data, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				return err
			}
			ko, err := unpack(file, data)
			if err != nil {
				return err
			}
			if modules[i], err = parse(file, moduleName(file), ko); err != nil {
				return err
			}
			return modules[i].isFor(filepath.Base(dir))
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	for i, m := range modules {
		m.index = i
	}
	return len(modules), write(dir, modules)
}

// moduleName is the name in a module's path, '_' for '-'.
func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func isModule(name string) bool {
	for _, ext := range []string{".ko", ".ko.xz", ".ko.zst", ".ko.gz"} {
		if strings.HasSuffix(name, ext) {
			return true
		}
	}
	return false
}

// moduleFiles is every module below dir, in the order of modules.order, which
// decides between modules that answer to the same alias; others behind, by name.
func moduleFiles(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type().IsRegular() && isModule(d.Name()) {
			rel, err := filepath.Rel(dir, p)
			if err != nil {
				return err
			}
			files = append(files, rel)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	place := map[string]int{}
	if order, err := os.ReadFile(filepath.Join(dir, "modules.order")); err == nil {
		for line := range strings.Lines(string(order)) {
			place[moduleName(strings.TrimSpace(line))] = len(place) + 1
		}
	}
	rank := func(file string) int {
		if n := place[moduleName(file)]; n > 0 {
			return n
		}
		return len(place) + 1
	}
	slices.SortFunc(files, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return files, nil
}

// write makes all the indexes.
func write(dir string, modules []*module) error {
	needs, err := closure(modules)
	if err != nil {
		return err
	}
	builtin, builtinAliases, err := readBuiltin(dir)
	if err != nil {
		return err
	}
	out := map[string][]byte{
		"modules.builtin.bin":       writeIndex(builtin),
		"modules.builtin.alias.bin": writeIndex(builtinAliases),
		"modules.devname":           devnames(modules),
		"modules.softdep":           softdeps(modules, "softdep", func(m *module) []string { return m.softdeps }),
		"modules.weakdep":           softdeps(modules, "weakdep", func(m *module) []string { return m.weakdeps }),
	}
	out["modules.dep"], out["modules.dep.bin"] = depFiles(modules, needs)
	out["modules.alias"], out["modules.alias.bin"] = aliasFiles("# Aliases extracted from modules themselves.\n", modules, func(m *module) []string { return m.aliases })
	out["modules.symbols"], out["modules.symbols.bin"] = aliasFiles("# Aliases for symbols, used by symbol_request().\n", modules, func(m *module) []string {
		var aliases []string
		for _, s := range m.exports {
			aliases = append(aliases, "symbol:"+s)
		}
		return aliases
	})
	for name, content := range out {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// closure is, for each module, everything it needs, users before what they use:
// modprobe loads the list from its end.
func closure(modules []*module) (map[string][]*module, error) {
	byName := map[string]*module{}
	for _, m := range modules {
		if byName[m.name] == nil {
			byName[m.name] = m
		}
	}
	needs := map[string][]*module{}
	for _, m := range modules {
		var order []*module // what is used before its users
		if err := visit(m, byName, map[string]bool{}, map[string]bool{}, &order); err != nil {
			return nil, err
		}
		order = order[:len(order)-1] // m itself
		slices.Reverse(order)
		needs[m.file] = order
	}
	return needs, nil
}

func visit(m *module, byName map[string]*module, done, open map[string]bool, order *[]*module) error {
	if open[m.name] {
		return fmt.Errorf("module %s needs itself", m.name)
	}
	if done[m.name] {
		return nil
	}
	open[m.name] = true
	for _, need := range m.depends {
		// A name that is no module is built in, or was left out of the package.
		if n := byName[need]; n != nil {
			if err := visit(n, byName, done, open, order); err != nil {
				return err
			}
		}
	}
	open[m.name], done[m.name] = false, true
	*order = append(*order, m)
	return nil
}

func depFiles(modules []*module, needs map[string][]*module) (text, bin []byte) {
	var b bytes.Buffer
	var pairs []pair
	for _, m := range modules {
		line := m.file + ":"
		for _, n := range needs[m.file] {
			line += " " + n.file
		}
		b.WriteString(line + "\n")
		pairs = append(pairs, pair{m.name, line, uint32(m.index)})
	}
	return b.Bytes(), writeIndex(pairs)
}

func aliasFiles(title string, modules []*module, aliases func(*module) []string) (text, bin []byte) {
	b := bytes.NewBufferString(title)
	var pairs []pair
	for _, m := range modules {
		for _, a := range aliases(m) {
			fmt.Fprintf(b, "alias %s %s\n", a, m.name)
			pairs = append(pairs, pair{normal(a), m.name, uint32(m.index)})
		}
	}
	return b.Bytes(), writeIndex(pairs)
}

func softdeps(modules []*module, keyword string, of func(*module) []string) []byte {
	b := bytes.NewBufferString("# Dependencies extracted from modules themselves.\n")
	for _, m := range modules {
		for _, s := range of(m) {
			fmt.Fprintf(b, "%s %s %s\n", keyword, m.name, s)
		}
	}
	return b.Bytes()
}

// devnames lists the device nodes that load a module when they are opened.
func devnames(modules []*module) []byte {
	b := bytes.NewBufferString("# Device nodes to trigger on-demand module loading.\n")
	for _, m := range modules {
		name, number := "", ""
		for _, a := range m.aliases {
			var major, minor int
			if n, ok := strings.CutPrefix(a, "devname:"); ok {
				name = n
			} else if n, _ := fmt.Sscanf(a, "char-major-%d-%d", &major, &minor); n == 2 {
				number = fmt.Sprintf("c%d:%d", major, minor)
			} else if n, _ := fmt.Sscanf(a, "block-major-%d-%d", &major, &minor); n == 2 {
				number = fmt.Sprintf("b%d:%d", major, minor)
			}
		}
		if name != "" && number != "" {
			fmt.Fprintf(b, "%s %s %s\n", m.name, name, number)
		}
	}
	return b.Bytes()
}

// readBuiltin reads what the kernel's build says of modules that are not files.
func readBuiltin(dir string) (names, aliases []pair, err error) {
	list, err := readOptional(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, nil, err
	}
	for line := range strings.Lines(string(list)) {
		if line = strings.TrimSpace(line); line != "" {
			names = append(names, pair{key: moduleName(line)})
		}
	}
	info, err := readOptional(filepath.Join(dir, "modules.builtin.modinfo"))
	if err != nil {
		return nil, nil, err
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		name, rest, _ := strings.Cut(field, ".")
		if alias, ok := strings.CutPrefix(rest, "alias="); ok && alias != "" {
			aliases = append(aliases, pair{key: normal(alias), value: strings.ReplaceAll(name, "-", "_")})
		}
	}
	return names, aliases, nil
}

func readOptional(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil, nil
	}
	return b, err
}
