package oci

import (
	"slices"
	"strings"
	"testing"

	"banger.dev/banger"
)

func TestParse(t *testing.T) {
	hub := Settings{Default: "docker.io"}
	for ref, want := range map[string]string{
		"alpine":                       "index.docker.io/library/alpine:latest",
		"alpine:3":                     "index.docker.io/library/alpine:3",
		"owner/name":                   "index.docker.io/owner/name:latest",
		"docker.io/owner/name:x":       "index.docker.io/owner/name:x",
		"ghcr.io/a/b/c:1":              "ghcr.io/a/b/c:1",
		"localhost/a":                  "localhost/a:latest",
		"127.0.0.1:5000/a:1":           "127.0.0.1:5000/a:1",
		"r.example/a@sha256:" + digits: "r.example/a@sha256:" + digits,
	} {
		got, err := hub.Parse(ref)
		if err != nil || got.Name() != want {
			t.Errorf("%s: %v, %v", ref, got, err)
		}
	}
	for _, bad := range []string{"", "UPPER", "a b", "../x", "a:b:c", "a@sha256:1", "http://r.example/a", "r.example/", "\x00"} {
		if got, err := hub.Parse(bad); banger.KindOf(err) != banger.KindInvalid {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
	if _, err := hub.Parse("UPPER"); err == nil || !strings.Contains(err.Error(), "repository can only contain") {
		t.Errorf("not why: %v", err)
	}
	if _, err := (Settings{}).Parse("alpine"); banger.KindOf(err) != banger.KindNotFound {
		t.Error(err)
	}
}

const digits = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestHosts(t *testing.T) {
	s := Settings{Default: "docker.io", Mirrors: []string{"docker.io=m.example:5000", "other.example=n.example", "docker.io=o.example"}}
	for ref, want := range map[string][]string{
		"alpine":            {"m.example:5000", "o.example", "index.docker.io"},
		"other.example/a:1": {"n.example", "other.example"},
		"third.example/a":   {"third.example"},
	} {
		parsed, err := s.Parse(ref)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Hosts(parsed); !slices.Equal(got, want) {
			t.Errorf("%s: %q", ref, got)
		}
	}
}

func TestPlainHTTP(t *testing.T) {
	g := guarded{plain: []string{"inside.example:5000"}}
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1:5000": true, "127.1.2.3": true, "[::1]:5000": true, "inside.example:5000": true,
		"inside.example": false, "10.0.0.1:5000": false, "localhost.example": false, "registry.local": false,
	} {
		if g.mayBePlain(host) != want {
			t.Errorf("%s: %v", host, !want)
		}
	}
}
