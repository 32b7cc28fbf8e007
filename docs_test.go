package banger_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Every internal package is in ARCHITECTURE.md, and no other is.
func TestArchitectureNamesEveryPackage(t *testing.T) {
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`(internal/[a-z0-9/]+)`").FindAllStringSubmatch(read(t, "ARCHITECTURE.md"), -1) {
		named[m[1]] = true
	}
	for _, p := range packages(t) {
		if below(p.path, "internal") && !named[p.path] {
			t.Errorf("ARCHITECTURE.md does not mention `%s`", p.path)
		}
		delete(named, p.path)
	}
	for path := range named {
		t.Errorf("ARCHITECTURE.md mentions `%s`, which is not there", path)
	}
}

// Every name that internal/paths gives to a file is in ARCHITECTURE.md.
func TestArchitectureNamesEveryFile(t *testing.T) {
	text := read(t, "ARCHITECTURE.md")
	f, err := parser.ParseFile(token.NewFileSet(), "internal/paths/paths.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	names := 0
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if join, ok := call.Fun.(*ast.SelectorExpr); !ok || fmt.Sprint(join.X, ".", join.Sel) != "filepath.Join" {
			return true
		}
		for _, arg := range call.Args {
			for _, name := range literals(arg) {
				names++
				if !strings.Contains(text, name) {
					t.Errorf("ARCHITECTURE.md does not mention %q of internal/paths", name)
				}
			}
		}
		return false
	})
	if names < 15 {
		t.Errorf("found only %d names in internal/paths", names)
	}
}

// literals are the string constants in an expression.
func literals(e ast.Expr) []string {
	var out []string
	ast.Inspect(e, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			s, _ := strconv.Unquote(lit.Value)
			out = append(out, s)
		}
		return true
	})
	return out
}

func TestChangelog(t *testing.T) {
	lines := strings.Split(read(t, "CHANGELOG.md"), "\n")
	version := regexp.MustCompile(`^## \[(Unreleased|\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}$)`)
	section := regexp.MustCompile(`^### (Added|Changed|Deprecated|Removed|Fixed|Security)$`)
	if lines[0] != "# Changelog" {
		t.Errorf("CHANGELOG.md begins with %q", lines[0])
	}
	var versions []string
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "### "):
			if !section.MatchString(line) {
				t.Errorf("CHANGELOG.md:%d: %q is not a section of Keep a Changelog", i+1, line)
			}
		case strings.HasPrefix(line, "## "):
			if !version.MatchString(line) {
				t.Errorf("CHANGELOG.md:%d: %q is neither [Unreleased] nor [x.y.z] - date", i+1, line)
			}
			versions = append(versions, line)
		}
	}
	if len(versions) == 0 || versions[0] != "## [Unreleased]" {
		t.Errorf("CHANGELOG.md must begin with [Unreleased]: %q", versions)
	}
}

// What the documents point at is there: files, and targets of the Makefile.
func TestDocumentsPointAtWhatIsThere(t *testing.T) {
	makefile := "\n" + read(t, "Makefile")
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	target := regexp.MustCompile("`make ([a-z0-9-]+)")
	for _, path := range files(t, ".md") {
		text := read(t, path)
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s points at %s: %v", path, m[1], err)
			}
		}
		for _, m := range target.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(makefile, "\n"+m[1]+":") {
				t.Errorf("%s speaks of make %s, which is not in the Makefile", path, m[1])
			}
		}
	}
}

// The files and directories that AGENTS.md names are there.
func TestAgentsNamesWhatIsThere(t *testing.T) {
	paths := regexp.MustCompile("`([a-z0-9_.-]+(/[a-z0-9_.-]+)+|[a-z0-9_]+\\.go)`").FindAllStringSubmatch(read(t, "AGENTS.md"), -1)
	for _, m := range paths {
		if _, err := os.Stat(m[1]); err != nil {
			t.Errorf("AGENTS.md speaks of %s: %v", m[1], err)
		}
	}
	if len(paths) < 20 {
		t.Errorf("found only %d paths in AGENTS.md", len(paths))
	}
}

// Work that is left to do is not hidden in comments.
func TestNoUnfinishedNotes(t *testing.T) {
	note := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX|HA` + `CK)\b`)
	for _, path := range append(files(t, ".go"), files(t, ".md")...) {
		for i, line := range strings.Split(read(t, path), "\n") {
			if found := note.FindString(line); found != "" {
				t.Errorf("%s:%d: %s", path, i+1, found)
			}
		}
	}
}

// files are those of the checkout with this extension.
func files(t *testing.T, ext string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (path == "bin" || len(path) > 1 && strings.HasPrefix(d.Name(), ".")) {
			return fs.SkipDir
		}
		if !d.IsDir() && filepath.Ext(path) == ext {
			out = append(out, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
