package cli

import (
	"bytes"
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"plain ünïcode 漢字": "plain ünïcode 漢字",
		"a\nb\tc":          `a\x0ab\x09c`,
		"\x1b[31mred":      `\x1b[31mred`,
		"\u009b1m":         `\u009b1m`,
		"\x9b1m":           `\x9b1m`, // C1 in a byte
		"\u202eevil":       `\u202eevil`,
		"del\x7f":          `del\x7f`,
		"cut \xe6\xbc":     `cut \xe6\xbc`,
	} {
		if got := escape(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := escapeLines("a\n\tb\r\n\x1b"); got != "a\n\tb\\x0d\n\\x1b" {
		t.Errorf("%q", got)
	}
}

// What is JSON stays the same JSON.
func TestJSONDoesNothingToATerminal(t *testing.T) {
	want := map[string]string{"name": "ünï \u009b31m \u202e \U000e0041 \x7f <\x1b>"}
	var out bytes.Buffer
	if err := writeJSON(&out, want, "  "); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); escapeLines(text) != text || !strings.Contains(text, "ünï") {
		t.Errorf("%q", text)
	}
	var got map[string]string
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || !maps.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestCopyEscaped(t *testing.T) {
	in := strings.Repeat("漢", 100_000) + "\x1b[0m\n\tlast line"
	var out bytes.Buffer
	if err := copyEscaped(&out, strings.NewReader(in)); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !utf8.ValidString(got) || strings.ContainsRune(got, 0x1b) || !strings.HasSuffix(got, "\\x1b[0m\n\tlast line") {
		t.Errorf("ends %q", got[len(got)-40:])
	}
}

func TestAgo(t *testing.T) {
	now := time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		-time.Hour: "just now", 0: "just now", time.Minute: "1 minute ago", 59 * time.Minute: "59 minutes ago",
		90 * time.Minute: "1 hour ago", 47 * time.Hour: "47 hours ago", 72 * time.Hour: "3 days ago",
	} {
		if got := ago(now, now.Add(-d)); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	if got := ago(now, time.Time{}); got != "-" {
		t.Error(got)
	}
}

func TestDriftLine(t *testing.T) {
	for drift, want := range map[time.Duration]string{
		-920 * time.Millisecond: "920ms behind the host",
		time.Hour:               "1h0m0s ahead of the host",
		0:                       "none",
	} {
		if got := driftLine(drift); got != want {
			t.Errorf("%v: %q, want %q", drift, got, want)
		}
	}
}
