package banger_test

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "banger.dev/banger"

// never are packages that must not import others, directly or, where through is
// set, by way of anything else of ours. "." is the root package; a name stands
// for what is below it too.
var never = []struct {
	who     string
	not     []string
	through bool
	why     string
}{
	{".", []string{"internal", "os", "net", "syscall", "golang.org/x/sys", "database/sql"}, true,
		"the root package holds the nouns that every layer shares, and does no I/O"},
	{"internal/cli", []string{
		"internal/daemon", "internal/server", "internal/lifecycle", "internal/operation", "internal/store", "internal/monitor",
		"internal/vmm", "internal/disk", "internal/image", "internal/kernel", "internal/apt",
	}, true, "the client asks the daemon over its socket, so that both may be of different builds"},
	{"internal/client", []string{"internal/daemon", "internal/server", "internal/lifecycle", "internal/monitor", "internal/store"}, true,
		"the client asks the daemon over its socket, so that both may be of different builds"},
	{"internal/lifecycle", []string{"os/exec", "net", "syscall", "golang.org/x/sys", "database/sql", "internal/proc"}, false,
		"lifecycle decides and orders; what touches the host is behind the interfaces it declares"},
	{"internal/lifecycle", []string{"internal/daemon", "internal/server", "internal/store", "internal/image", "internal/kernel"}, true,
		"lifecycle declares what it needs of them"},
	{"internal/vmm", []string{"internal/disk", "internal/lifecycle", "internal/monitor", "internal/paths"}, true,
		"a driver never calls up, and is told every path"},
	{"internal/disk", []string{"internal/vmm", "internal/lifecycle", "internal/monitor", "internal/paths"}, true,
		"a driver never calls up, and is told every path"},
	{"internal/network", []string{"internal/vmm", "internal/lifecycle", "internal/monitor", "internal/paths"}, true,
		"a driver never calls up, and is told every path"},
	{"internal/monitor", []string{"internal/lifecycle", "internal/daemon", "internal/store", "internal/image", "internal/kernel"}, true,
		"the monitor has no policy and no database"},
	{"cmd/bangerd", []string{"internal/daemon/fault"}, true,
		"the bangerd that ships has no faults in it: that is what the build tag is for"},
	{"internal/proc", []string{"."}, true, "small, and nobody's"},
	{"internal/steps", []string{"."}, true, "small, and nobody's"},
	{"internal/replace", []string{"."}, true, "small, and nobody's"},
	{"internal/request", []string{"."}, true, "small, and nobody's"},
	{"internal/suspend", []string{"."}, true, "small, and nobody's"},
	{"internal/tail", []string{"."}, true, "small, and nobody's"},
	{"internal/until", []string{"."}, true, "small, and nobody's"},
	{"internal/version", []string{"."}, true, "small, and nobody's"},
	{"internal/paths", []string{"internal"}, true, "names alone"},
}

// harmless is of net, and does no I/O: addresses as values.
const harmless = "net/netip"

// only are packages that few may import: of ours, the package and what is below
// it, of others that package alone.
var only = []struct {
	what string
	by   []string
	why  string
}{
	{"database/sql", []string{"internal/store"}, "one package speaks SQL"},
	{"modernc.org/sqlite", []string{"internal/store"}, "one package speaks SQL"},
	{"github.com/pressly/goose/v3", []string{"internal/store"}, "one package speaks SQL"},
	{"github.com/google/renameio/v2", []string{"internal/replace"}, "left to itself it writes to $TMPDIR, where nobody sweeps"},
	{"internal/store", []string{"internal/daemon"}, "only the daemon wires"},
	{"internal/server", []string{"internal/daemon"}, "only the daemon wires"},
	{"internal/vmm/qemu", []string{"internal/daemon", "cmd/bangerd", "bench"}, "only the daemon, and bangerd for the monitor, choose a driver"},
	{"internal/disk/qcow2", []string{"internal/daemon", "bench"}, "only the daemon chooses a driver"},
	{"internal/stray", []string{"internal/daemon"}, "strays are judged by the rows, which the daemon has"},
	{"internal/daemon", []string{"cmd/bangerd"}, "nothing calls the daemon but its program"},
	{"internal/cli", []string{"cmd/banger"}, "nothing calls the command line but its program"},
	{"internal/kernel", []string{"internal/daemon", "bench"}, "the agent is embedded there: one program is to carry it"},
}

// pkg is one package of this module, its paths relative to it.
type pkg struct {
	path    string
	dir     string
	files   []string
	imports []string
	deps    []string // what of this module it reaches, itself left out
}

func TestImports(t *testing.T) {
	all := packages(t)
	for _, rule := range never {
		t.Run(rule.who, func(t *testing.T) {
			found := false
			for _, p := range all {
				if !below(p.path, rule.who) {
					continue
				}
				found = true
				reached := p.imports
				if rule.through {
					reached = slices.Concat(p.imports, p.deps)
				}
				for _, bad := range reached {
					if slices.ContainsFunc(rule.not, func(not string) bool { return below(bad, not) && !below(bad, rule.who) && bad != harmless }) {
						t.Errorf("%s must not import %s: %s", p.path, bad, rule.why)
					}
				}
			}
			if !found {
				t.Errorf("the rule is about %s, which is not there", rule.who)
			}
		})
	}
	for _, rule := range only {
		t.Run(rule.what, func(t *testing.T) {
			found := false
			for _, p := range all {
				if !slices.Contains(p.imports, rule.what) {
					continue
				}
				found = true
				if !slices.ContainsFunc(rule.by, func(by string) bool { return below(p.path, by) }) && !below(p.path, rule.what) {
					t.Errorf("%s must not import %s: %s", p.path, rule.what, rule.why)
				}
			}
			if !found {
				t.Errorf("the rule is about %s, which nothing imports", rule.what)
			}
		})
	}
}

// The agent runs in the guest: none of the host's packages may be in it, for
// every change of its bytes means that all initramfs are made again. The
// version is left at its default in it, see scripts/build.
func TestAgentIsAlone(t *testing.T) {
	for _, p := range packages(t) {
		if !below(p.path, "cmd/banger-agent") && !below(p.path, "cmd/banger-ssh") && !below(p.path, "internal/agent") {
			continue
		}
		for _, dep := range p.deps {
			if !below(dep, "internal/agent") && dep != "internal/version" {
				t.Errorf("%s reaches %s, which is not of the guest", p.path, dep)
			}
		}
	}
}

// A boot carries the agent, and the ssh server's libraries are larger than it.
func TestAgentIsSmall(t *testing.T) {
	for _, p := range packages(t) {
		if p.path == "cmd/banger-agent" && slices.Contains(p.deps, "internal/agent/sshd") {
			t.Error("cmd/banger-agent reaches internal/agent/sshd, which is the second program's")
		}
	}
}

func TestEveryPackageHasOneDoc(t *testing.T) {
	for _, p := range packages(t) {
		var with []string
		for _, name := range p.files {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil {
				with = append(with, name)
			}
		}
		if len(with) != 1 {
			t.Errorf("%s has a package comment in %d files %v, not in one", p.path, len(with), with)
		}
	}
}

// packages are this module's, as the go command sees them.
func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,GoFiles,TestGoFiles,Imports,Deps", "./...")
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, complaints.String())
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath, Dir                     string
			GoFiles, TestGoFiles, Imports, Deps []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		if len(p.GoFiles) == 0 {
			p.GoFiles = p.TestGoFiles // nothing but tests
		}
		p.Deps = slices.DeleteFunc(p.Deps, func(d string) bool { return d != module && !strings.HasPrefix(d, module+"/") })
		all = append(all, pkg{relative(p.ImportPath), p.Dir, p.GoFiles, relatives(p.Imports), relatives(p.Deps)})
	}
}

func relatives(paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = relative(p)
	}
	return out
}

// relative is a package's path in this module; other paths stay as they are.
func relative(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

// below says whether path is dir or in it.
func below(path, dir string) bool {
	return path == dir || dir != "." && strings.HasPrefix(path, dir+"/")
}
