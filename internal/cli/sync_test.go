package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger.dev/banger"
)

// atHome is a world whose user has files and these settings.
func atHome(t *testing.T, settings string) *world {
	t.Helper()
	w := newWorld(t).withDaemon()
	home := filepath.Join(w.home, "me")
	w.env["HOME"] = home
	for name, content := range map[string]string{
		home + "/.gitconfig": "[user]\n", home + "/.config/gh/hosts": "token", home + "/.config/gh/deep/x": "deep",
		w.home + "/secret": "outside", w.layout.ConfigFile(): settings,
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{
		"inside": home + "/.gitconfig", "outside": "../secret", "outside-dir": w.home, ".config/gh/link": "/etc/passwd",
	} {
		if err := os.Symlink(to, home+"/"+name); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) inGuest(name string) string {
	content, err := os.ReadFile(filepath.Join(w.guestHome(), name))
	if err != nil {
		return ""
	}
	return string(content)
}

const settingsWithSync = "[[sync]]\nsource = '~/.gitconfig'\n[[sync]]\nsource = '~/.config/gh'\ntarget = '~/.config/tool'\nmode = '0640'\n[[sync]]\nsource = '~/.absent'\n"

func TestSyncOfTheSettings(t *testing.T) {
	w := atHome(t, settingsWithSync)
	got := w.run("run", "-d", "--name", "web")
	got.want(t, 0, "web\n", "banger: ~/.absent, which config.toml names under [[sync]], is not there\n")
	for name, mode := range map[string]os.FileMode{".gitconfig": 0o600, ".config/tool/hosts": 0o640, ".config/tool/deep/x": 0o640, ".config/tool": 0o700} {
		info, err := os.Stat(filepath.Join(w.guestHome(), name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if w.inGuest(".gitconfig") != "[user]\n" || w.inGuest(".config/tool/hosts") != "token" {
		t.Errorf("%q %q", w.inGuest(".gitconfig"), w.inGuest(".config/tool/hosts"))
	}
	if _, err := os.Lstat(w.guestHome() + "/.config/tool/link"); err == nil {
		t.Error("a link in a directory was followed")
	}
	// Before the first command.
	asked := strings.Join(w.questions(), ", ")
	w.run("run", "--name", "first", "--", "true")
	if later := strings.TrimPrefix(strings.Join(w.questions(), ", "), asked); !strings.Contains(later, "write, exec [true]") {
		t.Errorf("asked %s", later)
	}
}

func TestSyncIsAsked(t *testing.T) {
	for name, test := range map[string]struct {
		args string
		want string // files in the guest
	}{
		"a VM that goes":          {"run --rm -- true", ""},
		"a VM that goes, asked":   {"run --rm --sync config -- true", ".gitconfig"},
		"none":                    {"run -d --sync none", ""},
		"a file":                  {"run --rm --sync ~/inside:~/.there:0644 -- true", ".there"},
		"a file as a shell names": {"run --rm --sync HOME/inside -- true", "inside"},
	} {
		t.Run(name, func(t *testing.T) {
			w := atHome(t, "[[sync]]\nsource = '~/.gitconfig'\n")
			args := strings.Fields(strings.ReplaceAll(test.args, "HOME", w.env["HOME"]))
			if got := w.run(args...); got.code != 0 {
				t.Fatalf("%+v", got)
			}
			var found []string
			entries, _ := os.ReadDir(w.guestHome())
			for _, e := range entries {
				found = append(found, e.Name())
			}
			if got := strings.Join(found, " "); got != test.want {
				t.Errorf("the guest has %q, want %q", got, test.want)
			}
		})
	}
}

func TestSyncAtStart(t *testing.T) {
	w := atHome(t, "")
	w.run("vm", "create", "--name", "web", "--sync", "~/.gitconfig").want(t, 0, "web\n", "")
	if got := w.created().Spec.Sync; len(got) != 1 || got[0] != "~/.gitconfig" {
		t.Fatalf("created with %v", got)
	}
	w.vms[0].Spec.Sync = w.created().Spec.Sync
	w.boot(w.vms[0].ID)
	w.run("vm", "start", "web").want(t, 0, "web: running\n", "")
	if w.inGuest(".gitconfig") == "" {
		t.Error("nothing was put into the VM")
	}
	if err := os.RemoveAll(w.guestHome()); err != nil {
		t.Fatal(err)
	}
	w.run("vm", "start", "web").want(t, 0, "web: already running\n", "")
	if w.inGuest(".gitconfig") != "" {
		t.Error("a VM that runs already was written to")
	}
	w.run("vm", "start", "--sync", "~/.gitconfig:~/other", "web").want(t, 0, "web: already running\n", "")
	if w.inGuest("other") == "" {
		t.Error("nothing was put into the VM that runs")
	}
}

func TestSyncIsRefusedBeforeAnythingIsMade(t *testing.T) {
	for word, says := range map[string]string{
		"~/outside":            "leads out of your home",
		"~/outside-dir/secret": "leads out of your home",
		"~/no":                 "is not there",
		"/etc/passwd":          "below your home",
		"~/../secret":          "below your home",
		"~/":                   "below your home",
		"~/a:/etc/passwd":      "below your home",
		"~/a:~/b:rw":           "mode",
		"~/a:~/b:0600:d":       "SOURCE:TARGET:MODE",
		"none --sync config":   "none is nothing",
	} {
		w := atHome(t, "")
		for _, verb := range []string{"run --rm", "vm create"} {
			got := w.run(strings.Fields(verb + " --sync " + word)...)
			if got.code == 0 || !strings.Contains(got.stderr, says) {
				t.Errorf("%s: %+v, want %q", word, got, says)
			}
		}
		for _, asked := range w.questions() {
			if strings.HasPrefix(asked, "create") {
				t.Errorf("%s: a VM was made", word)
			}
		}
	}
}

// A guest's home may hold links that lead out of it: nothing is written through.
func TestSyncDoesNotFollowTheGuestsLinks(t *testing.T) {
	w := atHome(t, "")
	w.add("web", banger.StateRunning)
	victim := t.TempDir()
	if err := os.MkdirAll(w.guestHome(), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{".config": victim, ".gitconfig": victim + "/file"} {
		if err := os.Symlink(to, filepath.Join(w.guestHome(), name)); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.run("vm", "start", "--sync", "~/.config/gh", "web"); got.code == 0 || !strings.Contains(got.stderr, "no directory") {
		t.Errorf("%+v", got)
	}
	w.run("vm", "start", "--sync", "~/.gitconfig", "web").want(t, 0, "web: already running\n", "")
	if left, _ := os.ReadDir(victim); len(left) != 0 {
		t.Errorf("outside of the home is %v", left)
	}
}
