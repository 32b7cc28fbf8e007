package kernel

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Names in the initramfs that the agent knows.
const (
	initramfsModules = "modules"
	initramfsOrder   = "modules/order" // paths to load, one a line
)

// bootModulesEntries is the initramfs without the agent: the directories and
// nodes that the kernel wants to find, and the boot modules of release in dir
// (lib/modules), unpacked, numbered in load order.
func bootModulesEntries(dir, release string) ([]cpioEntry, error) {
	entries := []cpioEntry{
		{name: "dev", mode: cpioDir | 0o755},
		{name: "proc", mode: cpioDir | 0o755},
		{name: "sys", mode: cpioDir | 0o755},
		// The kernel opens it for PID 1 before anything can mount devtmpfs.
		{name: "dev/console", mode: cpioChar | 0o600, major: 5, minor: 1},
		{name: "dev/null", mode: cpioChar | 0o666, major: 1, minor: 3},
		{name: initramfsModules, mode: cpioDir | 0o755},
	}
	base := filepath.Join(dir, release)
	files, err := bootModuleFiles(base, release)
	if err != nil {
		return nil, err
	}
	var order strings.Builder
	for i, file := range files {
		data, err := os.ReadFile(filepath.Join(base, file))
		if err != nil {
			return nil, err
		}
		ko, err := unpackModule(file, data)
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("%s/%02d-%s.ko", initramfsModules, i, moduleName(file))
		entries = append(entries, cpioEntry{name: name, mode: cpioFile | 0o644, data: ko})
		order.WriteString("/" + name + "\n")
	}
	return append(entries, cpioEntry{name: initramfsOrder, mode: cpioFile | 0o644, data: []byte(order.String())}), nil
}

// bootModuleFiles are the files to load, in order, below base.
func bootModuleFiles(base, release string) ([]string, error) {
	dep, err := os.Open(filepath.Join(base, "modules.dep"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = dep.Close() }()
	builtin, err := os.ReadFile(filepath.Join(base, "modules.builtin"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // not all who install modules have it
		return nil, err
	}
	index, err := readModuleIndex(release, dep, bytes.NewReader(builtin))
	if err != nil {
		return nil, err
	}
	return index.loadOrder(bootModules())
}

// writeInitramfs writes the archive of boot modules and behind it one with the
// agent, so that a new agent needs no package and no module.
func writeInitramfs(file, bootModules string, agent Agent) error {
	modules, err := os.Open(bootModules)
	if err != nil {
		return err
	}
	defer func() { _ = modules.Close() }()
	return writeFile(file, func(w io.Writer) error {
		if _, err := io.Copy(w, modules); err != nil {
			return err
		}
		return writeCPIO(w, []cpioEntry{{name: "init", mode: cpioFile | 0o755, data: agent.data}})
	})
}

// writeFile makes a new file of mode 0644 and sees it on disk.
func writeFile(file string, write func(io.Writer) error) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 256<<10)
	err = write(w)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Chmod(0o644) // whatever the umask: other users may share the cache
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
