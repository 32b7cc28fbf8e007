package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger.dev/banger"
)

// set writes config.toml.
func (w *world) set(content string) {
	w.t.Helper()
	if err := os.MkdirAll(w.layout.Config, 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.layout.ConfigFile(), []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func TestDefaultsOfNewVMs(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.set("[defaults]\nimage = 'mine'\nmemory = '512MiB'\nwork = 'none'\n")
	w.env["BANGER_DEFAULTS_MEMORY"] = "768MiB"
	w.run("vm", "create", "--name", "a").want(t, 0, "a\n", "")
	if got := w.created().Spec; got.Image != "mine" || got.Memory != 768*banger.MiB || got.Work != 0 || got.Init != banger.InitAuto {
		t.Errorf("%+v", got)
	}
	w.run("vm", "create", "--name", "b", "--image", "other", "--memory", "1GiB", "--work", "2GiB").want(t, 0, "b\n", "")
	if got := w.created().Spec; got.Image != "other" || got.Memory != banger.GiB || got.Work != 2*banger.GiB {
		t.Errorf("%+v", got)
	}
	// run --rm -- CMD has an init of its own unless somebody has set one.
	w.run("run", "--rm", "--", "true")
	if got := w.created().Spec.Init; got != banger.InitNone {
		t.Errorf("init %s", got)
	}
	w = newWorld(t).withDaemon()
	w.env["BANGER_DEFAULTS_INIT"] = "auto"
	w.run("run", "--rm", "--", "true")
	if got := w.created().Spec.Init; got != banger.InitAuto {
		t.Errorf("init %s", got)
	}
}

func TestBadSettings(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.set("[defaults]\nimge = 'x'\n")
	line := "banger: " + w.layout.ConfigFile() + `:2:1: [defaults] has no key "imge"; the nearest is image; try: banger config show --defaults` + "\n"
	w.run("vm", "create").want(t, 2, "", line)
	w.run("run", "--rm", "--", "true").want(t, 125, "", line)
	w.run("config", "show").want(t, 2, "", line)
	for _, args := range []string{"config path", "config show --defaults", "version", "daemon status", "vm list"} {
		if got := w.run(strings.Fields(args)...); got.code != 0 {
			t.Errorf("%s: code %d, %s", args, got.code, got.stderr)
		}
	}
	// One that only this host refuses is blamed on its line, and not on a flag.
	w.set("[defaults]\nmemory = '1000TiB'\n")
	if got := w.run("vm", "create"); got.code != 2 || !strings.Contains(got.stderr, "config.toml:2: defaults.memory 1000TiB: must be from") {
		t.Errorf("%+v", got)
	}
	w.run("vm", "create", "--memory", "1GiB", "--name", "x").want(t, 0, "x\n", "")
}

func TestConfigShow(t *testing.T) {
	w := newWorld(t)
	w.set("\n[daemon]\nidle_timeout = '1h'\n")
	w.env["BANGER_DEFAULTS_VCPUS"] = "2"
	got := w.run("config", "show")
	for _, want := range []string{`daemon.idle_timeout    "1h"         ` + w.layout.ConfigFile() + ":3", "defaults.vcpus         2            BANGER_DEFAULTS_VCPUS", `defaults.image         "debian"     default`} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("%q is not in\n%s%s", want, got.stdout, got.stderr)
		}
	}
	var all []setting
	if err := json.Unmarshal([]byte(w.run("config", "show", "-o", "json").stdout), &all); err != nil || len(all) < 10 {
		t.Errorf("%v, %v", all, err)
	}
	w.run("config", "path").want(t, 0, filepath.Join(w.home, "config", "config.toml")+"\n", "")
}
