package daemon

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"banger.dev/banger/internal/apt"
	"banger.dev/banger/internal/config"
	"banger.dev/banger/internal/image"
	"banger.dev/banger/internal/image/layer"
	"banger.dev/banger/internal/image/oci"
	"banger.dev/banger/internal/lifecycle"
)

// settings are what holds at this moment: read at the start, and again at each
// SIGHUP. Network is for who starts a VM, the rest takes effect at once.
type settings struct {
	cfg      Config
	reloaded func()             // tells of a reload that was taken
	archive  func() apt.Sources // Debian's, as the host has it

	mu  sync.Mutex
	now config.Config
}

func newSettings(cfg Config, reloaded func()) *settings {
	s := &settings{cfg: cfg, reloaded: reloaded, archive: sync.OnceValue(apt.DetectSources)}
	s.apply(cfg.Settings)
	return s
}

func (s *settings) apply(c config.Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = c
	s.cfg.Level.Set(c.Daemon.LogLevel)
}

func (s *settings) current() config.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// network is for the VMs that are started from now on.
func (s *settings) network() lifecycle.Network {
	n := s.current().Network
	return lifecycle.Network{AllowPrivate: n.AllowPrivate, DNS: n.DNS}
}

// images is for what is pulled from now on.
func (s *settings) images() image.Settings {
	c := s.current()
	return image.Settings{
		Registries: oci.Settings{Default: c.Registries.Default, Mirrors: c.Registries.Mirrors, PlainHTTP: c.Registries.PlainHTTP},
		Limits:     layer.Limits{Entries: c.Images.MaxEntries, Size: c.Images.MaxSize},
		Catalog:    image.Catalog(s.archive, c.Catalog),
	}
}

func (s *settings) idleTimeout() time.Duration { return s.current().Daemon.IdleTimeout }

// reload reads the settings anew; of wrong ones nothing is taken.
func (s *settings) reload() {
	c, err := s.cfg.Reload()
	if err != nil {
		s.cfg.Log.Error("the settings stay as they were", "err", err)
		return
	}
	s.apply(c)
	s.cfg.Log.Info("settings reloaded")
	s.reloaded()
}

// follow reloads at each SIGHUP until end is called.
func (s *settings) follow() (end func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-hangups:
				s.reload()
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(done)
	}
}
