package banger_test

import (
	"strings"
	"testing"

	"banger.dev/banger"
)

func TestValidateName(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "0": true, "web": true, "a-b": true, "a--b": true, "1-2": true, strings.Repeat("x", 63): true,
		"": false, "-": false, "-a": false, "a-": false, "A": false, "a_b": false, "a.b": false, "a b": false, "a-é-b": false, "aéb": false,
		"a/b": false, "..": false, "a\n": false, "a\x00b": false, strings.Repeat("x", 64): false,
	} {
		if err := banger.ValidateName(name); (err == nil) != ok || err != nil && banger.KindOf(err) != banger.KindInvalid {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestIsID(t *testing.T) {
	for id, ok := range map[string]bool{
		"0123456789abcdef": true, "0000000000000000": true,
		"": false, "0123456789abcde": false, "0123456789abcdef0": false, "0123456789ABCDEF": false, "0123456789abcde\n": false, "01234567-9abcdef": false,
	} {
		if banger.IsID(id) != ok {
			t.Errorf("%q: not %v", id, ok)
		}
	}
}
