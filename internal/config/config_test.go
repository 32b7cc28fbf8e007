package config

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"banger.dev/banger"
)

func nothing(string) (string, bool) { return "", false }

func load(t *testing.T, content string, env map[string]string) (Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if err != nil {
		err = banger.Errorf(banger.KindOf(err), "%s", strings.ReplaceAll(err.Error(), path, "FILE"))
	}
	return c, err
}

func TestNoFile(t *testing.T) {
	c, err := Load(filepath.Join(t.TempDir(), "absent", "config.toml"), nothing)
	if err != nil || c.Defaults.Image != banger.DefaultImage || !c.Network.AllowPrivate || c.Daemon.IdleTimeout != 10*time.Minute {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestEveryWayToWriteAKey(t *testing.T) {
	for _, content := range []string{
		"[defaults]\nimage = 'x'\nmemory = '2GiB'\nwork = 'none'\nvcpus = 2\n[daemon]\nidle_timeout = '0'\nlog_level = 'debug'\n[network]\nallow_private = false\ndns = ['10.0.0.1', '[fd00::1]:53']\n",
		"defaults.image = 'x'\ndefaults.memory = '2GiB'\ndefaults.work = 'none'\ndefaults.vcpus = 2\ndaemon = {idle_timeout = '0', log_level = 'debug'}\nnetwork.allow_private = false\nnetwork.dns = ['10.0.0.1',\n# the other\n'[fd00::1]:53']\n",
	} {
		c, err := load(t, content, nil)
		if err != nil || c.Defaults.Image != "x" || c.Defaults.Memory != 2*banger.GiB || c.Defaults.Work != 0 || c.Defaults.VCPUs != 2 ||
			c.Daemon.IdleTimeout != 0 || c.Daemon.LogLevel != slog.LevelDebug || c.Network.AllowPrivate || len(c.Network.DNS) != 2 {
			t.Errorf("%s: %+v, %v", content, c, err)
		}
		if from := c.From("defaults.image"); !strings.HasSuffix(from, "config.toml:1") && !strings.HasSuffix(from, "config.toml:2") {
			t.Errorf("defaults.image is from %q", from)
		}
	}
}

func TestVariablesAreAboveTheFile(t *testing.T) {
	file := "[defaults]\nimage = 'file'\nvcpus = 2\n[network]\ndns = ['10.0.0.1']\n"
	c, err := load(t, file, map[string]string{
		"BANGER_DEFAULTS_IMAGE": "variable", "BANGER_DEFAULTS_VCPUS": "", "BANGER_NETWORK_ALLOW_PRIVATE": "false", "BANGER_NETWORK_DNS": "1.2.3.4, 5.6.7.8:53",
	})
	if err != nil || c.Defaults.Image != "variable" || c.Defaults.VCPUs != 2 || c.Network.AllowPrivate || len(c.Network.DNS) != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	if c.From("defaults.image") != "BANGER_DEFAULTS_IMAGE" || c.From("defaults.memory") != "" {
		t.Errorf("from %v", c.from)
	}
	_, err = load(t, "", map[string]string{"BANGER_DEFAULTS_VCPUS": "two"})
	if banger.KindOf(err) != banger.KindInvalid || !strings.Contains(err.Error(), `BANGER_DEFAULTS_VCPUS: "two" must be a whole number`) {
		t.Errorf("%v", err)
	}
}

func TestEachSync(t *testing.T) {
	c, err := load(t, "[[sync]]\nsource = '~/.gitconfig'\n[daemon]\nlog_level = 'debug'\n[[sync]]\nmode = '0644'\ntarget = '~/b'\nsource = '~/a'\n", nil)
	want := []banger.Sync{{Source: "~/.gitconfig"}, {Source: "~/a", Target: "~/b", Mode: 0o644}}
	if err != nil || !slices.Equal(c.Sync, want) || c.Daemon.LogLevel != slog.LevelDebug {
		t.Errorf("%+v, %v", c, err)
	}
	for _, k := range c.Keys() {
		if got := k.TOML(c); k.Name == "sync.target" && got != `["~/.gitconfig", "~/b"]` {
			t.Errorf("%s is %s", k.Name, got)
		}
	}
	if c, err := load(t, "", map[string]string{"": "x", "BANGER_SYNC_SOURCE": "~/x"}); err != nil || len(c.Sync) != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestCatalog(t *testing.T) {
	want := []banger.CatalogEntry{
		{Name: "alpine", Source: "oci:alpine:3", Kernel: "6.1"},
		{Name: "tools", Source: "debian:trixie", Packages: []string{"tmux", "g++"}, Description: "what I need"},
	}
	for _, content := range []string{
		"[catalog.tools]\nsource = 'debian:trixie'\npackages = ['tmux', 'g++']\ndescription = 'what I need'\n[daemon]\n[catalog]\n[catalog.alpine]\nsource = 'oci:alpine:3'\nkernel = '6.1'\n",
		"catalog.tools.source = 'debian:trixie'\ncatalog.alpine = {source = 'oci:alpine:3', kernel = '6.1'}\ncatalog.tools.packages = ['tmux', 'g++']\ncatalog.tools.description = 'what I need'\n",
	} {
		c, err := load(t, content, nil)
		if err != nil || !reflect.DeepEqual(c.Catalog, want) {
			t.Errorf("%s: %+v, %v", content, c.Catalog, err)
		}
		shown := map[string]string{}
		for _, k := range c.Keys() {
			shown[k.Name] = k.TOML(c) + " " + k.TOML(Default()) + " " + k.Variable()
		}
		if shown["catalog.tools.packages"] != `["tmux", "g++"] [] ` || shown["catalog.alpine.kernel"] != `"6.1" "" ` {
			t.Errorf("shown %q", shown)
		}
		if from := c.From("catalog.alpine.kernel"); !strings.Contains(from, "config.toml:") {
			t.Errorf("from %q", from)
		}
	}
}

// Every mistake is one line with its place and what to write instead.
func TestMistakes(t *testing.T) {
	for content, want := range map[string]string{
		"[defaults]\n  imge = 'x'\n":                           `FILE:2:3: [defaults] has no key "imge"; the nearest is image`,
		"[default]\nimage = 'x'\n":                             `FILE:1:2: there is no table [default]; the nearest is [defaults]`,
		"memory = '1GiB'\n":                                    `FILE:1:1: there is no key "memory"; the nearest is defaults.memory`,
		"[daemon]\n\nidle-timeout = '1m'\n":                    `FILE:3:1: [daemon] has no key "idle-timeout"; the nearest is idle_timeout`,
		"daemon = {loglevel = 'x'}":                            `FILE:1:11: [daemon] has no key "loglevel"; the nearest is log_level`,
		"[defaults]\nmemory = 1024\n":                          `FILE:2:1: defaults.memory: must be a string in quotes`,
		"[defaults]\nmemory = '1024'\n":                        `FILE:2:1: defaults.memory: "1024" is not a size`,
		"[defaults]\nmemory = '1MiB'\n":                        `at least 64MiB`,
		"[defaults]\nvcpus = '2'\n":                            `FILE:2:1: defaults.vcpus: must be a whole number`,
		"[defaults]\nvcpus = 0\n":                              `0 must be from 1 to 32`,
		"[defaults]\nnet = 'bridge'\n":                         `"bridge" must be user or none`,
		"[network]\nallow_private = 'no'\n":                    `must be true or false`,
		"[network]\ndns = '10.0.0.1'\n":                        `must be a list of strings`,
		"[network]\ndns = ['resolver.example']\n":              `"resolver.example" must be an IP address`,
		"[network]\ndns = [1]\n":                               `must be a list of strings`,
		"[daemon]\nidle_timeout = '5ms'\n":                     `"5ms" must be a time of a second or more`,
		"[daemon]\nlog_level = 'loud'\n":                       `"loud" must be debug, info, warn or error`,
		"[defaults]\nimage = 'a'\nimage = 'b'\n":               `FILE:3:`,
		"[defaults\nimage = 'a'\n":                             `FILE:1:`,
		"[defaults]\nimage = \"a\n":                            `FILE:2:`,
		"[[daemon]]\nlog_level = 'info'\n":                     `FILE:1:3: daemon is a table, written [daemon]`,
		"network = 5\n":                                        `FILE:1:1: network is a table, written [network]`,
		"[defaults.image]\nx = 1\n":                            `defaults.image is a key and not a table`,
		"\x00\xff":                                             `FILE:1:`,
		"[defaults]\nimage = 'a b'\n":                          `"a b" cannot name one`,
		"[defaults]\nmemory = '1GiB'\nxyz = true\n":            `FILE:3:1`,
		"[[sync]]\ntarget = '~/x'\n":                           `FILE:1:3: [[sync]] has no source`,
		"[sync]\nsource = '~/x'\n":                             `FILE:1:2: sync is a table, written [[sync]]`,
		"sync = [{source = '~/x'}]\n":                          `FILE:1:1: sync is a table, written [[sync]]`,
		"[[sync]]\nsource = '/etc/passwd'\n":                   `FILE:2:1: sync.source: "/etc/passwd" must be ~/ and a path`,
		"[[sync]]\nsource = '~/../x'\n":                        `must be ~/ and a path`,
		"[[sync]]\nsource = '~/x'\nmode = '99'\n":              `FILE:3:1: sync.mode: "99" must be a mode such as 0600`,
		"[[sync]]\nsource = '~/x'\nmode = 600\n":               `must be a string in quotes`,
		"[[sync]]\nsorce = '~/x'\n":                            `[sync] has no key "sorce"; the nearest is source`,
		"[catalog.x]\nsorce = 'oci:x'\n":                       `FILE:2:1: [catalog] has no key "sorce"; the nearest is source`,
		"[catalog.x]\nkernel = 'x'\n":                          `FILE:1:2: [catalog.x] has no source`,
		"[catalog.x]\nsource = 'x'\n":                          `FILE:2:1: catalog.x.source: "x" must be oci: and a reference`,
		"[catalog.x]\nsource = 'debian:../x'\n":                `must be oci: and a reference`,
		"[catalog.X]\nsource = 'oci:x'\n":                      `FILE:1:2: "X" cannot be an image's name`,
		"[catalog.x]\npackages = ['-o']\n":                     `"-o" is no name of a package`,
		"[catalog.x]\nsource = 'oci:x'\npackages = ['tmux']\n": `FILE:1:2: [catalog.x] has packages, which only`,
		"catalog = 5\n":                                        `FILE:1:1: catalog is a table, written [catalog.NAME]`,
		"catalog.x = 5\n":                                      `FILE:1:1: catalog.x is a table, written [catalog.x]`,
		"[[catalog.x]]\nsource = 'oci:x'\n":                    `catalog.x is a table, written [catalog.x]`,
		"[[catalog]]\nsource = 'oci:x'\n":                      `catalog is a table, written [catalog.NAME]`,
		"[catalog.x.y]\nsource = 'oci:x'\n":                    `there is no table [catalog.y]`,
		"[[sync]]\nsource = '~/x'\n[[sync]]\n":                 `FILE:3:3: [[sync]] has no source`,
	} {
		_, err := load(t, content, nil)
		if err == nil || banger.KindOf(err) != banger.KindInvalid || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %s", content, err, want)
		}
	}
}

func TestFileThatIsNone(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir, nothing); banger.KindOf(err) != banger.KindInvalid || !strings.Contains(err.Error(), dir+" is a directory") {
		t.Errorf("%v", err)
	}
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(big, nothing); err == nil || !strings.Contains(err.Error(), "larger than 1MiB") {
		t.Errorf("%v", err)
	}
}

// The document of all keys is a config.toml, and says the defaults.
func TestDocument(t *testing.T) {
	document := Document()
	var lines []string
	for line := range strings.Lines(document) {
		if rest, ok := strings.CutPrefix(line, "# "); ok && (strings.Contains(rest, " = ") || strings.HasPrefix(rest, "[")) {
			line = rest
		}
		lines = append(lines, line)
	}
	c, err := load(t, strings.Join(lines, ""), nil)
	none := Default()
	for _, k := range keys {
		if k.Name == "defaults.kernel" {
			continue // empty is set, and the same as not
		}
		if k.Named {
			continue // of none, by default; the example is below
		}
		if k.Each {
			if len(k.Value(none).([]string)) != 0 || len(k.Value(c).([]string)) != 1 {
				t.Errorf("%s: %s, default %s", k.Name, k.TOML(c), k.TOML(none))
			}
			continue // an example, for by default there is none
		}
		if k.TOML(c) != k.TOML(none) || c.From(k.Name) == "" {
			t.Errorf("%s: %s, default %s, from %q", k.Name, k.TOML(c), k.TOML(none), c.From(k.Name))
		}
	}
	if err != nil {
		t.Errorf("%v\n%s", err, document)
	}
	if len(c.Catalog) != 1 || c.Catalog[0].Name != "mine" || c.Catalog[0].Description == "" {
		t.Errorf("%+v", c.Catalog)
	}
	if _, err := load(t, document, nil); err != nil {
		t.Errorf("as it is: %v", err)
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0", 10 * time.Minute: "10m", time.Hour: "1h", 90 * time.Second: "1m30s", 90 * time.Minute: "1h30m", 10 * time.Second: "10s"} {
		if got := writeDuration(d); got != want {
			t.Errorf("%v is written %s", d, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Document())
	f.Add("[catalog.x]\nsource = 'oci:x'\ncatalog.y = 1\n[[catalog]]\n")
	f.Add("[defaults]\nimage = 'x'\n[[a]]\nb.c = {d = 1}\n")
	f.Fuzz(func(t *testing.T, content string) {
		c := Default()
		if err := c.parse("config.toml", []byte(content)); err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("more than a line: %q", err)
		}
	})
}
