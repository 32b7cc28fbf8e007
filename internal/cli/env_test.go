package cli

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"banger.dev/banger"
)

func TestEnvFiles(t *testing.T) {
	lookup := func(name string) (string, bool) { return "here", name == "HERE" }
	for content, want := range map[string][]string{
		"":                              nil,
		"A=1\nA=2\nB=\n":                {"A=2", "B="},
		"\ufeffA=1\r\n":                 {"A=1"},
		" \t#A=1\n\n \n#B\nC=#3":        {"C=#3"},
		"HERE\nNOWHERE":                 {"HERE=here"},
		"A='x y' $B\\n":                 {`A='x y' $B\n`},
		"A=" + strings.Repeat("x", 1e6): {"A=" + strings.Repeat("x", 1e6)},
	} {
		got, err := variablesOf(t, content, lookup)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%.40q: %.80q, %v", content, got, err)
		}
	}
	for content, says := range map[string]string{
		"A=1\n=2":                       "line 2",
		"A B=1":                         "line 1",
		"A=\xff":                        "UTF-8",
		"A=\x00":                        "line 1",
		strings.Repeat("A=1\n", 600000): "more than 2MiB",
	} {
		_, err := variablesOf(t, content, lookup)
		if banger.KindOf(err) != banger.KindInvalid || !strings.Contains(err.Error(), says) {
			t.Errorf("%.40q: %v", content, err)
		}
	}
}

func variablesOf(t *testing.T, content string, lookup func(string) (string, bool)) ([]string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return (&envOptions{lookup: lookup, files: []string{file}}).variables()
}
