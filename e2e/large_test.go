package e2e

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/du"
)

const (
	largeFile = 5 << 30
	// mostMemory is what no process of banger's may need for it, in KiB.
	mostMemory = 128 << 10
)

// TestSoakLargeFile carries a file of 5 GiB: in a repository, in no commit of it
// and then in one, and by cp.
func TestSoakLargeFile(t *testing.T) {
	if os.Getenv("BANGER_SOAK") == "" {
		t.Skip("takes some 40 GB and many minutes: make soak")
	}
	l := &large{home: story(t), t: t, dir: t.TempDir()}
	repo := filepath.Join(l.dir, "app")
	l.run("git", "init", "-q", repo)
	blob := filepath.Join(repo, "blob")
	sum := l.random(blob)
	l.banger("vm", "run", "--detach", "--init", "none", "--work", "40GiB", "--name", "large")

	// In no commit.
	l.banger("vm", "workspace", "prepare", "large", repo)
	l.storesAtMost(largeFile + 64<<20)
	l.banger("exec", "large", "--", "sh", "-c", "echo guest >> /root/app/blob")
	if out := l.banger("vm", "workspace", "export", "--apply", "large"); out != "M blob\n" {
		t.Errorf("applied: %q", out)
	}
	_, _ = sum.Write([]byte("guest\n"))
	l.same(blob, sum.Sum(nil))
	l.storesAtMost(largeFile + 64<<20)

	// In a commit: its pack goes too, and the host keeps nothing.
	l.banger("exec", "large", "--", "rm", "-rf", "/root/app")
	l.run("git", "-C", repo, "-c", "core.compression=0", "add", ".")
	l.run("git", "-C", repo, "-c", "user.name=a", "-c", "user.email=b", "commit", "-q", "-m", "all")
	l.banger("vm", "workspace", "prepare", "large", repo)
	l.storesAtMost(64 << 20)
	if out := l.banger("vm", "workspace", "export", "--files", "large"); out != "" {
		t.Errorf("changed: %q", out)
	}
	l.run("rm", "-rf", filepath.Join(repo, ".git"))

	// By cp.
	l.banger("exec", "large", "--", "rm", "-rf", "/root/app")
	l.banger("cp", blob, "large:/root/blob")
	l.run("rm", blob)
	l.banger("cp", "large:/root/blob", blob)
	l.same(blob, sum.Sum(nil))
	l.memory()
}

// large is a home in which each command's memory is looked at.
type large struct {
	*home
	t   *testing.T
	dir string
}

// random writes a file that nothing makes smaller, and gives its sum so far.
func (l *large) random(name string) (sum interface {
	io.Writer
	Sum([]byte) []byte
}) {
	l.t.Helper()
	f, err := os.Create(name)
	if err != nil {
		l.t.Fatal(err)
	}
	sum = sha256.New()
	_, err = io.CopyN(io.MultiWriter(f, sum), rand.NewChaCha8([32]byte{}), largeFile)
	if err := errors.Join(err, f.Close()); err != nil {
		l.t.Fatal(err)
	}
	return sum
}

func (l *large) same(name string, want []byte) {
	l.t.Helper()
	f, err := os.Open(name)
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil || !bytes.Equal(sum.Sum(nil), want) {
		l.t.Errorf("%s is another file, %v", name, err)
	}
}

func (l *large) run(argv ...string) {
	l.t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		l.t.Fatalf("%v: %v\n%s", argv, err, out)
	}
}

// banger runs a command and looks at what memory it has taken.
func (l *large) banger(args ...string) string {
	l.t.Helper()
	cmd := l.home.banger(args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		l.t.Fatalf("%v: %v\n%s", args, err, stderr.String())
	}
	if used, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); !ok || used.Maxrss > mostMemory {
		l.t.Errorf("%v took %d KiB", args, used.Maxrss)
	}
	return string(out)
}

// storesAtMost looks at what the host keeps of the copy.
func (l *large) storesAtMost(most banger.Bytes) {
	l.t.Helper()
	vm, err := l.show("large")
	if err != nil {
		l.t.Fatal(err)
	}
	var count du.Counter
	got, err := count.Tree(filepath.Join(l.home.dir, "state/vms", vm.ID, "workspaces"))
	if err != nil || got > most {
		l.t.Errorf("the host keeps %s, %v", got, err)
	}
}

var peak = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// memory looks at the most that daemon, monitor and agent have taken.
func (l *large) memory() {
	l.t.Helper()
	vm, err := l.show("large")
	if err != nil || vm.Handles == nil {
		l.t.Fatalf("%+v, %v", vm, err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", vm.Handles.MonitorPID))
	if err != nil {
		l.t.Fatal(err)
	}
	agent := l.banger("exec", "large", "--", "sh", "-c", "cat $(grep -l '^Name:.*banger-agent' /proc/[0-9]*/status)")
	for who, said := range map[string]string{"the monitor": string(status), "the agent": agent} {
		all := peak.FindAllStringSubmatch(said, -1)
		if len(all) == 0 {
			l.t.Errorf("%s: no word of its memory in %q", who, strings.TrimSpace(said))
		}
		for _, m := range all {
			if n, err := strconv.Atoi(m[1]); err != nil || n > mostMemory {
				l.t.Errorf("%s took %s KiB", who, m[1])
			}
		}
	}
}
