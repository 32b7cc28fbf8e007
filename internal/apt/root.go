package apt

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/paths"
)

// Root is one private apt root: its own lists, archives, configuration and
// status, for one suite of one pair of mirrors. Its methods may be called from
// any goroutine and any process; those that change it wait for each other.
type Root struct {
	dir     string
	suite   string
	sources Sources
	log     *slog.Logger
}

// New names the root for suite and sources under base (paths.Layout.Apt). It
// does no I/O: the first call that needs the directory makes it.
func New(base, suite string, sources Sources, log *slog.Logger) *Root {
	key := paths.CacheKey(suite, sources.Mirror, sources.Security, sources.Keyring)
	return &Root{dir: filepath.Join(base, suite+"-"+key), suite: suite, sources: sources, log: log}
}

// Suite is the release this root is for.
func (r *Root) Suite() string { return r.suite }

// Sources is where this root's packages come from.
func (r *Root) Sources() Sources { return r.sources }

func (r *Root) path(elem ...string) string {
	return filepath.Join(append([]string{r.dir}, elem...)...)
}

// Names in a root.
const (
	archivesDir = "archives"
	tempDir     = "tmp" // apt verifies by files in it; the host's own may be shut to us, or full
	lockFile    = "lock"
)

func (r *Root) archives() string { return r.path(archivesDir) }

func (r *Root) temp() string { return r.path(tempDir) }

// lock waits until this process alone uses the root, or for ctx. The
// configuration is then in place. Children inherit the lock, so that it stays
// taken while one of a dead process still works. Close it to release it.
func (r *Root) lock(ctx context.Context, report banger.ProgressFunc) (*os.File, error) {
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the apt root: %w", err)
	}
	f, err := os.OpenFile(r.path(lockFile), os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the apt root: %w", err)
	}
	for told := false; ; told = true {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if err != syscall.EWOULDBLOCK && err != syscall.EINTR {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if !told {
			report.Report(banger.Progress{Stage: stage, Message: "waiting for another download"})
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	if err := r.prepare(); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// prepare writes the root's directories and configuration. The lock is held.
func (r *Root) prepare() error {
	if strings.ContainsAny(r.dir, "\"\\\n") {
		return banger.Errorf(banger.KindInvalid, "apt cannot use the directory %q: a quote, backslash or newline is in its name", r.dir).
			WithNext("export BANGER_CACHE=/a/plainer/path")
	}
	if _, err := os.Stat(r.sources.Keyring); err != nil {
		return banger.Errorf(banger.KindUnavailable, "the archive's keys are not on this host, so its packages cannot be verified: %w", err).
			WithNext("sudo apt-get install %s", cmp.Or(r.sources.KeyringPackage, "debian-archive-keyring"))
	}
	if err := os.RemoveAll(r.temp()); err != nil { // what a killed apt has left
		return fmt.Errorf("empty the apt root's temporary directory: %w", err)
	}
	for _, d := range []string{"etc/apt.conf.d", "etc/preferences.d", "lists/partial", "archives/partial", "home", tempDir} {
		if err := os.MkdirAll(r.path(d), 0o755); err != nil {
			return fmt.Errorf("make the apt root: %w", err)
		}
	}
	for name, content := range map[string]string{"etc/base.conf": r.config(), "etc/sources.list": r.sourcesList(), "status": ""} {
		if err := writeFile(r.path(name), content); err != nil {
			return fmt.Errorf("configure the apt root: %w", err)
		}
	}
	return r.sweep()
}

// config is read in place of all of the host's configuration.
func (r *Root) config() string {
	var b strings.Builder
	set := func(key, value string) { fmt.Fprintf(&b, "%s \"%s\";\n", key, value) }
	set("Dir", r.dir+"/")
	set("Dir::State", r.dir+"/")
	set("Dir::State::lists", r.path("lists")+"/")
	set("Dir::State::status", r.path("status"))
	set("Dir::Cache", r.dir+"/")
	set("Dir::Cache::archives", r.archives()+"/")
	set("Dir::Etc", r.path("etc")+"/")
	set("Dir::Etc::sourcelist", r.path("etc/sources.list"))
	set("Dir::Etc::sourceparts", "/dev/null")
	set("Dir::Etc::trusted", r.sources.Keyring)
	set("Dir::Etc::trustedparts", "/dev/null")
	set("APT::Architecture", "amd64")
	b.WriteString("APT::Architectures { \"amd64\"; };\n")
	set("APT::Sandbox::User", "root")
	set("APT::Update::Error-Mode", "any")
	set("APT::Get::AllowUnauthenticated", "false")
	set("Acquire::AllowInsecureRepositories", "false")
	set("Acquire::AllowDowngradeToInsecureRepositories", "false")
	set("Acquire::Languages", "none")
	set("Acquire::PDiffs", "false")
	set("Acquire::Retries", "2")
	set("Acquire::http::Timeout", "20")
	set("Acquire::https::Timeout", "20")
	if r.sources.Proxy != "" {
		set("Acquire::http::Proxy", r.sources.Proxy)
		set("Acquire::https::Proxy", r.sources.Proxy)
	}
	return b.String()
}

// sourcesList is the suite, its updates and its security fixes; signatures of
// the distribution's keys only, never taken on trust.
func (r *Root) sourcesList() string {
	line := func(uri, suite string) string {
		return fmt.Sprintf("deb [arch=amd64 signed-by=%s] %s %s main\n", r.sources.Keyring, uri, suite)
	}
	return line(r.sources.Mirror, r.suite) + line(r.sources.Mirror, r.suite+"-updates") + line(r.sources.Security, r.suite+"-security")
}

// run runs one of apt's programs on this root. The lock is passed on.
func (r *Root) run(ctx context.Context, lock *os.File, c command) ([]byte, error) {
	c.env = append(c.env, "APT_CONFIG="+r.path("etc/base.conf"), "HOME="+r.path("home"), "TMPDIR="+r.temp())
	c.files = append([]*os.File{lock}, c.files...)
	return run(ctx, c)
}

// writeFile replaces a file unless it already has this content, so that apt's
// caches, which compare time stamps, stay valid.
func writeFile(file, content string) error {
	if old, err := os.ReadFile(file); err == nil && string(old) == content {
		return nil
	}
	tmp := file + ".new"
	if err := os.WriteFile(tmp, []byte(content), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}
