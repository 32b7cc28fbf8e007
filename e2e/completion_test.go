package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The shells' own ways from a line that is typed to what is offered, with the
// scripts where make install puts them below $1. Each prints an offer a line.
const (
	completeInBash = `
export XDG_DATA_HOME=$1
. /usr/share/bash-completion/bash_completion
_completion_loader banger
compopt() { :; } # there is no line that is being edited
COMP_LINE=$2 COMP_POINT=${#2} COMP_TYPE=9 COMP_KEY=9
read -ra COMP_WORDS <<<"$2"
case $2 in *' ') COMP_WORDS+=('') ;; esac
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
__start_banger
printf '%s\n' "${COMPREPLY[@]}"`

	completeInZsh = `
fpath=($1/zsh/site-functions $fpath)
compdef() { : }
_describe() { local all=("${(@P)argv[-1]}"); print -rl -- ${(M)all:#$words[-1]*} } # zsh's own does that and shows it
autoload -Uz _banger
words=("${(@s: :)2}") CURRENT=${#words}
_banger`

	completeInFish = `complete -C $argv[2]`
)

// TestCompletion has each shell complete what a user types, by the installed
// scripts, with names of VMs and images that are there.
func TestCompletion(t *testing.T) {
	needsPrograms(t, "bash", "zsh", "fish")
	if _, err := os.Stat("/usr/share/bash-completion/bash_completion"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	h, err := newHome(cache)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	}()
	prefix := t.TempDir()
	install := exec.Command("../scripts/install")
	install.Env = append(os.Environ(), "PREFIX="+prefix, "DESTDIR=")
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("install: %v\n%s", err, out)
	}
	complete := func(shell, line string) []string {
		t.Helper()
		share := filepath.Join(prefix, "share")
		cmd := map[string]*exec.Cmd{
			"bash": exec.Command("bash", "--norc", "-c", completeInBash, "bash", share, line),
			"zsh":  exec.Command("zsh", "-f", "-c", completeInZsh, "zsh", share, line),
			"fish": exec.Command("fish", "-c", completeInFish, share, line),
		}[shell]
		cmd.Dir = h.dir
		cmd.Env = append(h.env(), "HOME="+t.TempDir(), "XDG_DATA_DIRS="+share+":/usr/share", "LC_ALL=C.UTF-8")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %q: %v\n%s", shell, line, err, out)
		}
		var offers []string
		for offer := range strings.Lines(string(out)) {
			if i := strings.IndexAny(offer, "\t:"); i >= 0 { // fish and zsh describe some
				offer = offer[:i]
			}
			offers = append(offers, strings.TrimSpace(offer))
		}
		slices.Sort(offers)
		return slices.DeleteFunc(offers, func(offer string) bool { return offer == "" })
	}
	shells := []string{"bash", "zsh", "fish"}
	for _, shell := range shells {
		if got := complete(shell, "banger vm start "); len(got) != 0 {
			t.Errorf("%s without a daemon: %q", shell, got)
		}
	}
	if left, err := os.ReadDir(filepath.Join(h.dir, "run")); err == nil {
		t.Errorf("completing a line made %v", left)
	}
	for _, name := range []string{"alpha", "beta"} {
		if out, err := h.banger("vm", "create", "--name", name).CombinedOutput(); err != nil {
			t.Fatalf("create: %v\n%s", err, out)
		}
	}
	for _, shell := range shells {
		if got := complete(shell, "banger run --kernel "); len(got) == 0 || strings.Contains(got[0], " ") {
			t.Errorf("%s: --kernel offers %q", shell, got)
		}
		for line, want := range map[string]string{
			"banger vm start ":           "alpha beta",
			"banger vm delete alpha b":   "beta",
			"banger vm sh":               "show",
			"banger run --image deb":     "debian",
			"banger vm create --init no": "none",
		} {
			if got := complete(shell, line); strings.Join(got, " ") != want {
				t.Errorf("%s: %q offers %q, want %q", shell, line, got, want)
			}
		}
	}
}
