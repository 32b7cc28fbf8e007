package kernel

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/replace"
	"banger.dev/banger/internal/steps"
)

// ref is refs/<name>.json: what a name stands for. That of a release, such as
// debian-trixie, is the package that was the newest when the archive was last
// asked; any other was given by a user to what was imported.
type ref struct {
	Package   string    `json:"package,omitempty"` // none: imported
	Version   string    `json:"version,omitempty"`
	DebSHA256 string    `json:"deb_sha256"` // of the source, which need not be one .deb
	Resolved  time.Time `json:"resolved"`
}

// checkName refuses a name that no user can give.
func checkName(name string) error {
	if err := banger.ValidateKernelName(name); err != nil {
		return err
	}
	if isReleaseName(name) {
		return banger.Errorf(banger.KindInvalid, "%q cannot be the name of a kernel of yours: those that begin so are pulled", name).
			WithNext("banger kernel import --name my-%s", name)
	}
	return nil
}

func (s *Store) refsDir() string { return filepath.Join(s.dir, "refs") }

func (s *Store) refFile(name string) string { return filepath.Join(s.refsDir(), name+".json") }

func (s *Store) readRef(name string) (ref, error) {
	var r ref
	file := s.refFile(name)
	err := readJSON(file, &r)
	if err == nil && len(r.DebSHA256) != 64 {
		err = errors.New(file + " has no sha256")
	}
	return r, err
}

// writeRef replaces a ref. Its lock is held.
func (s *Store) writeRef(name string, r ref) error {
	r.Resolved = time.Now().UTC().Truncate(time.Second)
	if err := os.MkdirAll(s.refsDir(), 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := replace.File(s.refFile(name), append(data, '\n'), 0o644); err != nil {
		return err
	}
	return syncDir(s.refsDir())
}

// giveName is the last step of a making: until then a kernel is known by its
// digest alone. Whoever dies before it leaves one that the same making finds and
// a prune removes. The name changes by one rename.
func (s *Store) giveName(ctx context.Context, name string, r ref) (banger.Kernel, error) {
	err := s.Steps.RunUnnamed(ctx, name, steps.Step{Name: "kernel.name", Do: func(context.Context) error { return s.writeRef(name, r) }})
	if err != nil {
		return banger.Kernel{}, err
	}
	k, _, err := s.named(name)
	return k, err
}

func (s *Store) removeRef(name string) error {
	if err := os.Remove(s.refFile(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(s.refsDir())
}

// names are all names, in order, by the sum of what they stand for.
func (s *Store) names() (map[string][]string, error) {
	entries, err := os.ReadDir(s.refsDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	bySum := map[string][]string{}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || !banger.IsLocalName(name) {
			continue
		}
		r, err := s.readRef(name)
		if err != nil {
			s.log.Warn("a kernel's name cannot be read", "name", name, "error", err)
			continue
		}
		bySum[r.DebSHA256] = append(bySum[r.DebSHA256], name)
	}
	return bySum, nil
}

// named is the kernel of a name with this program's agent, if it is here.
func (s *Store) named(name string) (banger.Kernel, ref, error) {
	r, err := s.readRef(name)
	if err != nil {
		return banger.Kernel{}, r, err
	}
	k, _, err := s.open(s.digest(r.DebSHA256))
	k.Name, k.Default = name, name == s.defaultName()
	return k, r, err
}

// siblings are the kernels that were made of a source, whatever their agent, the
// newest first.
func (s *Store) siblings(sum string) []manifest {
	var found []manifest
	entries, _ := os.ReadDir(s.dir)
	for _, e := range entries {
		if len(e.Name()) != 64 {
			continue
		}
		if _, m, err := s.open(e.Name()); err == nil && m.Format == format && m.DebSHA256 == sum {
			found = append(found, m)
		}
	}
	slices.SortFunc(found, func(a, b manifest) int { return b.Created.Compare(a.Created) })
	return found
}
