package monitor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOwnLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "monitor.log")
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	log := NewOwnLog(file)
	const lines = 100_000
	for n := range lines {
		if _, err := fmt.Fprintf(log, "published port: line %d\n", n); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if len(text) > ownLogMax {
		t.Errorf("%d bytes", len(text))
	}
	for _, want := range []string{"line 0\n", ownLogGap, fmt.Sprintf("line %d\n", lines-1)} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in it", want)
		}
	}
	if strings.ContainsRune(text, 0) {
		t.Error("it has holes")
	}
}
