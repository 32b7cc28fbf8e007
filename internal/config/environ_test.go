package config

import (
	"path/filepath"
	"slices"
	"testing"
)

func TestDaemonEnviron(t *testing.T) {
	here, err := filepath.Abs("here")
	if err != nil {
		t.Fatal(err)
	}
	got := DaemonEnviron([]string{
		"PATH=/evil", "LD_PRELOAD=x.so", "SECRET=hunter2", "LC_ALL=de_DE", "HOME=/home/me", "https_proxy=http://p:3128", "NO_PROXY=localhost",
		"BANGER_HOME=here", "BANGER_CACHE=", "BANGER_DAEMON_IDLE_TIMEOUT=1h",
	})
	want := []string{
		"PATH=" + daemonPath, "LANG=C.UTF-8", "HOME=/home/me", "https_proxy=http://p:3128", "NO_PROXY=localhost",
		"BANGER_HOME=" + here, "BANGER_DAEMON_IDLE_TIMEOUT=1h",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
