package kernel

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"banger.dev/banger"
)

// wantedModule is a module that a guest must have before it has a root.
type wantedModule struct {
	name     string
	optional bool // a kernel may do without
}

// bootModules are what a guest needs to reach its disks, its channel to the
// host and its network. Everything else comes from the modules disk.
func bootModules() []wantedModule {
	return []wantedModule{
		{name: "virtio_pci"},
		{name: "virtio_blk"},
		{name: "virtio_console"},
		{name: "crc32c_generic", optional: true}, // asked for by ext4 by alias, where both are modules
		{name: "ext4"},
		{name: "virtio_net"},
		{name: "virtio_rng", optional: true},
	}
}

// moduleIndex is what modules.dep and modules.builtin say of a kernel's modules.
type moduleIndex struct {
	release string
	files   map[string]string   // name → path below lib/modules/<release>
	deps    map[string][]string // name → names it needs
	builtin map[string]bool     // names
}

// moduleName is a module's name: no directory, no extension, and '_' for '-',
// which the kernel takes for the same.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// readModuleIndex parses the two files.
func readModuleIndex(release string, dep, builtin io.Reader) (*moduleIndex, error) {
	x := &moduleIndex{release: release, files: map[string]string{}, deps: map[string][]string{}, builtin: map[string]bool{}}
	err := eachLine(dep, func(line string) error {
		file, needs, ok := strings.Cut(line, ":")
		if !ok || !cleanModulePath(file) {
			return fmt.Errorf("modules.dep: %.100q is not a module and what it needs", line)
		}
		name := moduleName(file)
		x.files[name] = file
		x.deps[name] = nil
		for _, need := range strings.Fields(needs) {
			x.deps[name] = append(x.deps[name], moduleName(need))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = eachLine(builtin, func(line string) error {
		x.builtin[moduleName(line)] = true
		return nil
	})
	return x, err
}

// cleanModulePath keeps a path of modules.dep inside its directory.
func cleanModulePath(file string) bool {
	return file != "" && file == path.Clean(file) && !path.IsAbs(file) && file != ".." && !strings.HasPrefix(file, "../") &&
		strings.Contains(path.Base(file), ".ko")
}

// maxModuleLine bounds a line of modules.dep; Debian's longest is 2 KB.
const maxModuleLine = 1 << 20

func eachLine(r io.Reader, do func(string) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxModuleLine)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := do(line); err != nil {
			return err
		}
	}
	return lines.Err()
}

// loadOrder is the files to load for wanted, each after all that it needs, none
// twice. Built-in modules are left out; a missing one is an error unless it is
// optional.
func (x *moduleIndex) loadOrder(wanted []wantedModule) ([]string, error) {
	var order []string
	loaded := map[string]bool{}
	for _, w := range wanted {
		name := moduleName(w.name)
		if _, ok := x.files[name]; !ok && w.optional {
			continue
		}
		if err := x.visit(name, nil, loaded, &order); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// maxModuleChain bounds how deep modules need each other; Debian's deepest is 7.
const maxModuleChain = 64

// visit appends name's file after those it needs. chain is who needs it.
func (x *moduleIndex) visit(name string, chain []string, loaded map[string]bool, order *[]string) error {
	if loaded[name] || x.builtin[name] {
		return nil
	}
	file, ok := x.files[name]
	if !ok {
		by := ""
		if len(chain) > 0 {
			by = " (needed by " + strings.Join(chain, ", needed by ") + ")"
		}
		return banger.Errorf(banger.KindInvalid, "kernel %s has no module %s%s, which a guest needs to boot", x.release, name, by)
	}
	if slices.Contains(chain, name) || len(chain) > maxModuleChain {
		return banger.Errorf(banger.KindInvalid, "kernel %s: modules.dep says that %s needs itself, or a chain of more than %d others", x.release, name, maxModuleChain)
	}
	for _, need := range x.deps[name] {
		if err := x.visit(need, append([]string{name}, chain...), loaded, order); err != nil {
			return err
		}
	}
	loaded[name] = true
	*order = append(*order, file)
	return nil
}
