package cli

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Whatever an error says to type next is a command of this banger.
func TestNextCommandsAreThere(t *testing.T) {
	root, found := newRootCommand(&app{}, nil), 0
	for _, next := range nextCommands(t) {
		for part := range strings.SplitSeq(next, ", ") {
			words := strings.Fields(strings.TrimPrefix(strings.TrimPrefix(part, "or "), "then "))
			if len(words) < 2 || words[0] != "banger" {
				continue
			}
			found++
			cmd, rest, err := root.Find(words[1:])
			if err != nil || !cmd.HasParent() || cmd.HasSubCommands() && len(rest) > 0 {
				t.Errorf("%q: there is no such verb", next)
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d found", found)
	}
}

// nextCommands are the words in front of the first verb of format of every next
// command that is written out in the source.
func nextCommands(t *testing.T) (all []string) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasSuffix(d.Name(), "test") {
			return fs.SkipDir // fakes
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			of, ok := call.Fun.(*ast.SelectorExpr)
			text, literal := call.Args[0].(*ast.BasicLit)
			if ok && literal && of.Sel.Name == "WithNext" && text.Kind == token.STRING {
				next, err := strconv.Unquote(text.Value)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, next)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
