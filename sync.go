package banger

import (
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Words that stand for files in Spec.Sync.
const (
	SyncConfig = "config" // those of config.toml
	SyncNone   = "none"
)

// Sync is a file of the user's, or a directory, that is put into a VM when it
// has started: a git identity, the credentials of a tool.
type Sync struct {
	Source string      // below the user's home on the host, as ~/PATH
	Target string      // below the home of the VM's user, as ~/PATH; "" is Source
	Mode   fs.FileMode // of files; 0 is DefaultSyncMode
}

// DefaultSyncMode lets nobody else read what may be a secret.
const DefaultSyncMode = fs.FileMode(0o600)

// ParseSync reads SOURCE[:TARGET[:MODE]].
func ParseSync(s string) (Sync, error) {
	parts := strings.Split(s, ":")
	if len(parts) > 3 {
		return Sync{}, Errorf(KindInvalid, "%q must be SOURCE, SOURCE:TARGET or SOURCE:TARGET:MODE", s)
	}
	sync := Sync{Source: parts[0]}
	if len(parts) > 1 {
		sync.Target = parts[1]
	}
	if len(parts) > 2 {
		mode, err := ParseSyncMode(parts[2])
		if err != nil {
			return Sync{}, err
		}
		sync.Mode = mode
	}
	return sync, sync.Validate()
}

// ParseSyncMode reads a mode such as 0600.
func ParseSyncMode(s string) (fs.FileMode, error) {
	mode, err := strconv.ParseUint(s, 8, 32)
	if err != nil || mode == 0 || mode > 0o777 {
		return 0, Errorf(KindInvalid, "%q must be a mode such as 0600", s)
	}
	return fs.FileMode(mode), nil
}

// Validate says what in s cannot be.
func (s Sync) Validate() error {
	if err := ValidateSyncPath(s.Source); err != nil {
		return err
	}
	if s.Target == "" {
		return nil
	}
	return ValidateSyncPath(s.Target)
}

func validateSync(words []string) error {
	for _, word := range words {
		if word == SyncConfig || word == SyncNone {
			continue
		}
		if _, err := ParseSync(word); err != nil {
			return Errorf(KindInvalid, "--sync %w", err)
		}
	}
	return nil
}

// ValidateSyncPath says whether name is ~/ and a path that stays below it.
func ValidateSyncPath(name string) error {
	rest, ok := strings.CutPrefix(name, "~/")
	if !ok || !filepath.IsLocal(rest) || path.Clean(rest) == "." || strings.ContainsRune(name, 0) {
		return Errorf(KindInvalid, "%q must be ~/ and a path below your home", name)
	}
	return nil
}

// To is where s goes.
func (s Sync) To() string {
	if s.Target == "" {
		return s.Source
	}
	return s.Target
}

// FileMode is the mode that files get.
func (s Sync) FileMode() fs.FileMode {
	if s.Mode == 0 {
		return DefaultSyncMode
	}
	return s.Mode
}
