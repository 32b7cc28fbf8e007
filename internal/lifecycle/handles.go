package lifecycle

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"

	"banger.dev/banger"
	"banger.dev/banger/internal/replace"
)

// writeHandles replaces a VM's handles.json.
func (m *Manager) writeHandles(id string, h banger.Handles) error {
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return replace.File(m.files(id).Handles(), append(b, '\n'), 0o600)
}

// readHandles reads handles.json; nil where there is none or none that can be read.
// Unreadable handles are as good as none: the lock says whether the VM is alive.
func (m *Manager) readHandles(id string) *banger.Handles {
	b, err := os.ReadFile(m.files(id).Handles())
	if err != nil {
		return nil
	}
	var h banger.Handles
	if err := json.Unmarshal(b, &h); err != nil {
		m.Log.Warn("handles.json cannot be read", "vm", id, "err", err)
		return nil
	}
	return &h
}

// removeFile deletes a file; nil if it is gone.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
