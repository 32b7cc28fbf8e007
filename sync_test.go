package banger

import "testing"

func TestParseSync(t *testing.T) {
	for s, want := range map[string]Sync{
		"~/.gitconfig":           {Source: "~/.gitconfig"},
		"~/a b:~/c/d":            {Source: "~/a b", Target: "~/c/d"},
		"~/.netrc:~/.netrc:0640": {Source: "~/.netrc", Target: "~/.netrc", Mode: 0o640},
		"~/.config/gh::0400":     {Source: "~/.config/gh", Mode: 0o400},
	} {
		if got, err := ParseSync(s); err != nil || got != want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "x", "/etc/passwd", "~", "~/", "~/.", "~/..", "~/../x", "~/a/../../x", "~x/y", "~/a:/b", "~/a:b", "~/a:~/b:", "~/a:~/b:0", "~/a:~/b:1777", "~/a:~/b:0600:x", "~/a\x00"} {
		if got, err := ParseSync(s); KindOf(err) != KindInvalid {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
}
