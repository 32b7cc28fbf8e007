package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A page for each verb, which names it, shows its example as it is typed and
// has no trace of the generator's.
func TestPages(t *testing.T) {
	dir := t.TempDir()
	if err := write(dir, "1.2.3", "1000000000"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"banger", "banger-vm", "banger-vm-run", "banger-exec", "banger-daemon-status", "banger-version", "bangerd"} {
		content, err := os.ReadFile(filepath.Join(dir, name+".1"))
		if err != nil {
			t.Error(err)
			continue
		}
		page := string(content)
		for _, want := range []string{`"` + strings.ToUpper(name) + `" "1" "2001-09-09" "banger 1.2.3"`, ".SH DESCRIPTION"} {
			if !strings.Contains(page, want) {
				t.Errorf("%s has no %s", name, want)
			}
		}
		if strings.Contains(page, "\n\t") || strings.Contains(page, "spf13") {
			t.Errorf("%s has tabs, or names its generator:\n%s", name, page)
		}
	}
	page, err := os.ReadFile(filepath.Join(dir, "banger-vm-run.1"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "\nbanger run --rm . -- make test\nbanger run --rm -t -- top\n"; !strings.Contains(string(page), want) {
		t.Errorf("no example in\n%s", page)
	}
	again := t.TempDir()
	if err := write(again, "1.2.3", "1000000000"); err != nil {
		t.Fatal(err)
	}
	pages, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		one, err1 := os.ReadFile(filepath.Join(dir, p.Name()))
		other, err2 := os.ReadFile(filepath.Join(again, p.Name()))
		if err1 != nil || err2 != nil || string(one) != string(other) {
			t.Errorf("%s is not the same twice (%v, %v)", p.Name(), err1, err2)
		}
	}
}

func TestMarkdown(t *testing.T) {
	for in, want := range map[string]string{
		"Plain *text* of a_b.\n\n  an *example*\n": "Plain \\*text\\* of a\\_b.\n\n    an *example*\n",
		"[flags] <x>": "\\[flags\\] \\<x>",
	} {
		if got := markdown(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
