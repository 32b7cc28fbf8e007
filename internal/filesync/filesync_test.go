package filesync

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger.dev/banger"
)

func TestWanted(t *testing.T) {
	settings := []banger.Sync{{Source: "~/.gitconfig"}}
	for _, test := range []struct {
		words     string
		ephemeral bool
		want      string
	}{
		{"", false, "~/.gitconfig"},
		{"", true, ""},
		{"none", false, ""},
		{"config", true, "~/.gitconfig"},
		{"~/.netrc", false, "~/.netrc"},
		{"~/.netrc config", true, "~/.netrc ~/.gitconfig"},
	} {
		all, err := Wanted(strings.Fields(test.words), test.ephemeral, settings)
		var got []string
		for _, s := range all {
			got = append(got, s.Source)
		}
		if strings.Join(got, " ") != test.want || err != nil {
			t.Errorf("%q, ephemeral %t: %v, %v", test.words, test.ephemeral, got, err)
		}
	}
}

// TestReadStaysAtHome also has a home that is itself behind a link.
func TestReadStaysAtHome(t *testing.T) {
	top := t.TempDir()
	home := filepath.Join(top, "home")
	write := func(name, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(name, to string) {
		t.Helper()
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	write(home+"/dotfiles/git", "mine")
	write(home+"/dir/a", "a")
	write(home+"/big", strings.Repeat("x", maxFile+1))
	write(home+"-of-another/secret", "secret")
	link(home+"/absolute", home+"/dotfiles/git")
	link(home+"/relative", "dotfiles/git")
	link(home+"/out", "../home-of-another/secret")
	link(home+"/out-dir", top+"/home-of-another")
	link(home+"/dir/out", top+"/home-of-another/secret")
	link(home+"/loop", "loop")
	link(top+"/behind", home)
	for name, says := range map[string]string{
		"~/dotfiles/git": "", "~/absolute": "", "~/relative": "", "~/dir": "",
		"~/out": "leads out", "~/out-dir": "leads out", "~/out-dir/secret": "leads out", "~/loop": "too many links", "~/big": "more than 1MiB",
	} {
		files, missing, err := Read(top+"/behind", []banger.Sync{{Source: name}})
		if says == "" && (err != nil || len(files) != 1 || len(missing) != 0) || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %d files, %v, want %q", name, len(files), err, says)
		}
	}
	if _, missing, err := Read(home, []banger.Sync{{Source: "~/absent"}}); err != nil || len(missing) != 1 {
		t.Errorf("%v, %v", missing, err)
	}
	if _, _, err := Read("", []banger.Sync{{Source: "~/absent"}}); err == nil {
		t.Error("without a home all is well")
	}
}
