package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"banger.dev/banger"
)

// sshHome is a world whose user has a home.
func sshHome(t *testing.T) (w *world, config string) {
	w = newWorld(t)
	home := t.TempDir()
	w.env["HOME"] = home
	return w, filepath.Join(home, ".ssh", "config")
}

func TestSSHConfigInstalls(t *testing.T) {
	w, config := sshHome(t)
	if r := w.run("-q", "ssh-config", "--install"); r.code != 0 || r.stderr != "" {
		t.Fatalf("%+v", r)
	}
	line := `Include "` + w.layout.SSHConfig() + "\"\n"
	wantFile(t, config, line, 0o600)
	if info, err := os.Stat(filepath.Dir(config)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("~/.ssh: %v, %v", info, err)
	}
	if r := w.run("-q", "ssh-config", "--install"); r.code != 0 {
		t.Errorf("again: %+v", r)
	}
	wantFile(t, config, line, 0o600)
	if b, err := os.ReadFile(w.layout.SSHConfig()); err != nil || string(b) != w.run("ssh-config").stdout {
		t.Errorf("%q, %v", b, err)
	}
	if r := w.run("-q", "ssh-config", "--uninstall"); r.code != 0 {
		t.Errorf("%+v", r)
	}
	wantFile(t, config, "", 0o600)
	if _, err := os.Stat(w.layout.SSHConfig()); !os.IsNotExist(err) {
		t.Errorf("banger's own file: %v", err)
	}
	if r := w.run("-q", "ssh-config", "--uninstall"); r.code != 0 {
		t.Errorf("again: %+v", r)
	}
}

// The rest of the file, its mode and where it really is are the user's.
func TestSSHConfigLeavesTheUsersOwn(t *testing.T) {
	w, config := sshHome(t)
	real := filepath.Join(t.TempDir(), "dotfiles")
	own := "# mine, without a newline at the end\nHost *\r\n  User me"
	for _, err := range []error{
		os.WriteFile(real, []byte(own), 0o644), os.Mkdir(filepath.Dir(config), 0o755), os.Symlink(real, config),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if r := w.run("-q", "ssh-config", "--install"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	wantFile(t, real, `Include "`+w.layout.SSHConfig()+"\"\n"+own, 0o644)
	if target, err := os.Readlink(config); err != nil || target != real {
		t.Errorf("the link leads to %q, %v", target, err)
	}
	if info, err := os.Stat(filepath.Dir(config)); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("~/.ssh: %v, %v", info, err)
	}
	if r := w.run("-q", "ssh-config", "--uninstall"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	wantFile(t, real, own, 0o644)
}

func wantFile(t *testing.T, name, content string, mode os.FileMode) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil || string(b) != content {
		t.Errorf("%s: %q, %v, want %q", name, b, err, content)
	}
	if info, err := os.Stat(name); err == nil && info.Mode().Perm() != mode {
		t.Errorf("%s has mode %v", name, info.Mode())
	}
}

func TestSSHConfigUsage(t *testing.T) {
	w, _ := sshHome(t)
	if r := w.run("ssh-config", "--install", "--uninstall"); r.code != 2 {
		t.Errorf("%+v", r)
	}
	delete(w.env, "HOME")
	if r := w.run("ssh-config", "--install"); r.code != 2 || !strings.Contains(r.stderr, "HOME is not set") {
		t.Errorf("%+v", r)
	}
}

// A home with blanks, percents and quotes arrives at the proxy as it is.
func TestSSHConfigQuotes(t *testing.T) {
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip("no ssh")
	}
	w := newWorld(t)
	w.env["BANGER_HOME"] = filepath.Join(t.TempDir(), "it's 100%h a home")
	r := w.run("ssh-config")
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	config := filepath.Join(t.TempDir(), "config")
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// In the proxy's place something that says what it was given.
	text := strings.Replace(r.stdout, shellQuoted(binary)+" ssh-proxy --fdpass", `sh -c 'echo "$BANGER_HOME $0" >&2'`, 1)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command(ssh, "-F", config, "web.vm").CombinedOutput() // it cannot succeed
	if want := w.env["BANGER_HOME"] + " web.vm\n"; !strings.Contains(string(out), want) {
		t.Errorf("the proxy was given %q, want %q", out, want)
	}
	out, err = exec.Command(ssh, "-F", config, "-G", "web.vm").Output()
	if err != nil || !strings.Contains(string(out), "identityfile "+strings.ReplaceAll(w.env["BANGER_HOME"], "%", "%%")+"/state/ssh/%h/id_ed25519\n") {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestSSHProxySaysWhyNot(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.add("web", banger.StateStopped)
	w.run("ssh-proxy", "web.vm").want(t, 4, "", "banger: web is stopped; try: banger vm start web\n")
	w.run("ssh-proxy", "nosuch.vm").want(t, 3, "", "banger: there is no VM \"nosuch\"; try: banger vm list\n")
	w.run("ssh-proxy", "../../etc.vm").want(t, 3, "", "banger: no VM named \"../../etc\"; try: banger vm list\n")
	w.add("old", banger.StateRunning) // its guest has nothing at port 22
	if r := w.run("ssh-proxy", "old.vm"); r.code != 1 || !strings.Contains(r.stderr, "old has no ssh server") {
		t.Errorf("%+v", r)
	}
	w.run("ssh", "web").want(t, 125, "", "banger: web is stopped; try: banger vm start web\n")
	w.run("ssh", "alice@nosuch", "-N").want(t, 125, "", "banger: there is no VM \"nosuch\"; try: banger vm list\n")
}
