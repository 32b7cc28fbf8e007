package crashtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"banger.dev/banger"
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

// coversEveryState fails the test if a verb acts in a state in which no row begins
// with it. What --force and --image add is the same work, or a row of its own; how
// a create is given up is told by its own rows.
func (m *matrix) coversEveryState(t *testing.T) {
	t.Helper()
	rows := map[string]bool{}
	for _, r := range m.rows {
		word, _, _ := strings.Cut(r.verb.name, " ")
		rows[word+" "+string(r.verb.from)] = true
	}
	acts := verdicts(t)
	if len(acts) == 0 {
		t.Error("lifecycle's table of verdicts is not found")
	}
	for _, act := range acts {
		if word, state, _ := strings.Cut(act, " "); !rows[act] && state != string(banger.StateCreating) {
			t.Errorf("no row of the matrix begins with a %s of a VM that is %s", word, state)
		}
	}
}

// verdicts are the verbs, by their first words, and the states in which they act,
// by lifecycle's table of what is legal when.
func verdicts(t *testing.T) (acts []string) {
	t.Helper()
	words := map[string]string{}
	for _, f := range sources(t, "../../lifecycle") {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				if len(n.Values) == 1 && fmt.Sprint(n.Type) == "verb" {
					name := map[string]bool{}
					addName(name, n.Values[0])
					for text := range name {
						words[n.Names[0].Name], _, _ = strings.Cut(text, " ")
					}
				}
			case *ast.CaseClause:
				acts = append(acts, actsOf(n)...)
			}
			return true
		})
	}
	for i, act := range acts {
		verb, state, _ := strings.Cut(act, " ")
		acts[i] = words[verb] + " " + state
	}
	return acts
}

// actsOf are the verbs of a case, by their constants, with the states that it maps
// to act.
func actsOf(c *ast.CaseClause) (acts []string) {
	ast.Inspect(c, func(n ast.Node) bool {
		pair, ok := n.(*ast.KeyValueExpr)
		if ok && fmt.Sprint(pair.Value) == "act" {
			for _, verb := range c.List {
				acts = append(acts, fmt.Sprint(verb, " ", pair.Key))
			}
		}
		return true
	})
	return acts
}

// stepNames are the names that packages give to steps: in a literal, or as an
// argument of a function that gives it to one.
func stepNames(t *testing.T) map[string]bool {
	t.Helper()
	files := slices.Concat(sources(t, "../../lifecycle"), sources(t, "../../image"), sources(t, "../../kernel"))
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
