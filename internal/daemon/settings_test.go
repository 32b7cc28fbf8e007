package daemon

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/config"
)

// A reload takes what it can read, and nothing of what it cannot.
func TestReload(t *testing.T) {
	var said bytes.Buffer
	next, failed := config.Default(), error(nil)
	level := new(slog.LevelVar)
	told := 0
	s := newSettings(Config{
		Settings: config.Default(), Level: level, Log: slog.New(slog.NewTextHandler(&said, nil)),
		Reload: func() (config.Config, error) { return next, failed },
	}, func() { told++ })
	if s.idleTimeout() != 10*time.Minute {
		t.Errorf("idle timeout %s", s.idleTimeout())
	}
	next.Daemon = config.Daemon{IdleTimeout: time.Hour, LogLevel: slog.LevelError}
	next.Network.AllowPrivate = false
	next.Catalog = []banger.CatalogEntry{{Name: "mine", Source: "oci:r.example/mine"}}
	failed = errors.New("config.toml:1:1: no")
	s.reload()
	if _, ok := s.images().Catalog["mine"]; ok || s.idleTimeout() != 10*time.Minute || level.Level() != slog.LevelInfo || !strings.Contains(said.String(), "config.toml:1:1: no") {
		t.Errorf("after a bad file: %s, %s, %s", s.idleTimeout(), level, said.String())
	}
	failed = nil
	s.reload()
	if s.idleTimeout() != time.Hour || level.Level() != slog.LevelError || s.current().Network.AllowPrivate {
		t.Errorf("after a good one: %s, %s, %+v", s.idleTimeout(), level, s.current().Network)
	}
	for _, name := range []string{"mine", banger.DefaultImage} {
		if _, ok := s.images().Catalog[name]; !ok {
			t.Errorf("the catalog has no %s", name)
		}
	}
	if told != 1 {
		t.Errorf("told of %d reloads", told)
	}
}
