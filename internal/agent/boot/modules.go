package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// loadModules loads what dir/order lists, a path relative to dir on each line,
// in that order. A kernel with everything built in has no list.
func loadModules(dir string) error {
	order, err := os.ReadFile(filepath.Join(dir, "order"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(order)) {
		name := strings.TrimSpace(line)
		if name == "" || strings.HasPrefix(name, "#") {
			continue
		}
		if !strings.HasPrefix(name, dir+"/") {
			name = filepath.Join(dir, name)
		}
		if err := loadModule(name); err != nil {
			return fmt.Errorf("kernel module %s: %w", name, err)
		}
	}
	return nil
}

func loadModule(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if err == unix.EEXIST {
		return nil
	}
	return err
}

// deviceWait is how long a device may take to appear after its driver is there.
const deviceWait = 20 * time.Second

// waitFor waits until a device is there.
func waitFor(device string) error {
	for deadline := time.Now().Add(deviceWait); ; time.Sleep(2 * time.Millisecond) {
		_, err := os.Stat(device)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s did not appear within %v: %w", device, deviceWait, err)
		}
	}
}
