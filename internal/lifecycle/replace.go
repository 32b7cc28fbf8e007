package lifecycle

import (
	"errors"
	"os"
)

// replaceFile writes a file in a VM's directory whole or not at all. The
// temporary file has one name, so that a daemon that is killed here leaves
// nothing that piles up; the VM's lock makes this the only writer.
func replaceFile(path string, content []byte) error {
	f, err := os.OpenFile(temporary(path), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, removeFile(f.Name()))
	}
	return nil
}

func temporary(path string) string { return path + ".tmp" }
