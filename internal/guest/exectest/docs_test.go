package exectest

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the list of differences into docs/exec.md")

// differences is the list of docs/exec.md.
func differences() string {
	var b strings.Builder
	b.WriteString("| case | other | why |\n|---|---|---|\n")
	for _, c := range Cases() {
		for _, name := range slices.Sorted(maps.Keys(c.Differs)) {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", c.Name, others[name], c.Differs[name])
		}
	}
	return b.String()
}

var others = map[string]string{"local": "a local process", "podman": "podman exec", "vm": "through `banger exec`", "agent": "the agent alone"}

func TestTheDocumentListsTheDifferences(t *testing.T) {
	const name, begin, end = "../../../docs/exec.md", "<!-- differences -->\n", "<!-- end -->\n"
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(b), begin)
	have, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for them", name)
	}
	want := differences()
	if *update {
		if err := os.WriteFile(name, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have != want {
		t.Errorf("%s is out of date: go test ./internal/guest/exectest -update", name)
	}
}

func TestTheTable(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Cases() {
		if c.Name == "" || seen[c.Name] {
			t.Errorf("%q is there twice", c.Name)
		}
		seen[c.Name] = true
		for name, why := range c.Differs {
			if others[name] == "" || why == "" {
				t.Errorf("%s differs for %q because of %q", c.Name, name, why)
			}
		}
	}
	if len(seen) < 110 {
		t.Errorf("%d cases", len(seen))
	}
}
