package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// printJSON writes v to stdout, for programs and for people who look.
func (a *app) printJSON(v any) error { return writeJSON(a.Stdout, v, "  ") }

// writeJSON writes v and a newline. To people who look nothing in a text does more
// than show: JSON itself escapes the control characters of ASCII alone.
func writeJSON(w io.Writer, v any, indent string) error {
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetIndent("", indent)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(w, escapeJSON(text.String()))
	return err
}

// escapeJSON is the same JSON with what does something to a terminal escaped.
func escapeJSON(text string) string {
	active := func(r rune) bool { return r >= 0x7f && unsafeRune(r) }
	if !strings.ContainsFunc(text, active) {
		return text
	}
	var out strings.Builder
	for _, r := range text {
		if !active(r) {
			out.WriteRune(r)
			continue
		}
		for _, half := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&out, `\u%04x`, half)
		}
	}
	return out.String()
}

// say tells on stdout what a verb has done, in one line.
func (a *app) say(line string) {
	if a.quiet {
		return
	}
	if _, err := fmt.Fprintln(a.Stdout, escape(line)); err != nil && a.unsaid == nil {
		a.unsaid = err
	}
}

// printTable writes rows in columns; the first row is the heading.
func printTable(w io.Writer, rows [][]string) error {
	_, err := io.WriteString(w, tableOf(rows))
	return err
}

// tableOf is rows in columns, without spaces at the ends of lines.
func tableOf(rows [][]string) string {
	var padded, out strings.Builder
	table := tabwriter.NewWriter(&padded, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			row[i] = escape(cell)
		}
		_, _ = fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	_ = table.Flush() // a Builder takes everything
	for line := range strings.Lines(padded.String()) {
		out.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return out.String()
}

// escape makes s safe to show on one line of a terminal: whatever a guest or a
// user put into it, no control character reaches the terminal.
func escape(s string) string { return escapeBut(s, "") }

// escapeLines is escape for text of several lines.
func escapeLines(s string) string { return escapeBut(s, "\n\t") }

func escapeBut(s, allowed string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return unsafeRune(r) && !strings.ContainsRune(allowed, r) }) {
		return s
	}
	var out strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&out, `\x%02x`, s[0])
		case !unsafeRune(r) || strings.ContainsRune(allowed, r):
			out.WriteString(s[:size])
		case r < 0x80:
			fmt.Fprintf(&out, `\x%02x`, r)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
		s = s[size:]
	}
	return out.String()
}

// unsafeRune says whether r does something to a terminal rather than show:
// control characters, and the format characters that turn text around (Cf).
// Bytes that are no UTF-8 count, for a terminal may read them as C1 controls.
func unsafeRune(r rune) bool {
	return r == utf8.RuneError || unicode.IsControl(r) || unicode.Is(unicode.Cf, r)
}

// ago is a time for people who want to know how old something is.
func ago(now, then time.Time) string {
	if then.IsZero() {
		return "-"
	}
	d := max(now.Sub(then), 0)
	switch {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return count(int(d/time.Minute), "minute")
	case d < 48*time.Hour:
		return count(int(d/time.Hour), "hour")
	default:
		return count(int(d/(24*time.Hour)), "day")
	}
}

func count(n int, unit string) string {
	if n == 1 {
		return "1 " + unit + " ago"
	}
	return fmt.Sprintf("%d %ss ago", n, unit)
}
