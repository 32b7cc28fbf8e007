package crashtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// visitsEveryStep fails the test if a step in the source is in no row: then a
// verb is missing in the table.
func (m *matrix) visitsEveryStep(t *testing.T) {
	t.Helper()
	visited := map[string]bool{}
	for _, r := range m.rows {
		for _, p := range r.points {
			visited[p.Step] = true
		}
	}
	named := stepNames(t)
	for name := range named {
		if !visited[name] {
			t.Errorf("no verb of the matrix comes to the step %s", name)
		}
	}
	for name := range visited {
		if !named[name] {
			t.Errorf("the step %s is not found in the source", name)
		}
	}
}

// stepNames are the names that package lifecycle gives to steps: in a literal, or
// as an argument of a function that gives it to one.
func stepNames(t *testing.T) map[string]bool {
	t.Helper()
	files := sources(t, "../../lifecycle")
	makers := map[string]bool{}
	for _, f := range files {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && makesStep(fn) {
				makers[fn.Name.Name] = true
			}
		}
	}
	names := map[string]bool{}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				if isStep(n.Type) {
					addName(names, nameOf(n))
				}
			case *ast.CallExpr:
				if fn, ok := n.Fun.(*ast.SelectorExpr); ok && makers[fn.Sel.Name] {
					for _, arg := range n.Args {
						addName(names, arg)
					}
				}
			}
			return true
		})
	}
	return names
}

func sources(t *testing.T, dir string) []*ast.File {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no source in %s: %v", dir, err)
	}
	var files []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// makesStep says whether a step's name in a function is not a literal.
func makesStep(fn *ast.FuncDecl) (makes bool) {
	ast.Inspect(fn, func(n ast.Node) bool {
		if lit, ok := n.(*ast.CompositeLit); ok && isStep(lit.Type) {
			if _, named := nameOf(lit).(*ast.BasicLit); !named {
				makes = true
			}
		}
		return true
	})
	return makes
}

func nameOf(step *ast.CompositeLit) ast.Expr {
	if pair, ok := step.Elts[0].(*ast.KeyValueExpr); ok {
		return pair.Value
	}
	return step.Elts[0]
}

func isStep(e ast.Expr) bool {
	s, ok := e.(*ast.SelectorExpr)
	return ok && fmt.Sprint(s.X, ".", s.Sel) == "steps.Step"
}

func addName(names map[string]bool, e ast.Expr) {
	if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
		if s, err := strconv.Unquote(lit.Value); err == nil {
			names[s] = true
		}
	}
}
