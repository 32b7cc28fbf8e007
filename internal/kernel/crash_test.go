package kernel

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/kernel/kerneltest"
	"banger.dev/banger/internal/paths"
)

// A test runs its own binary again as a builder that it can kill. The variable
// names the stage at which the builder stops and waits.
const (
	builderStage = "BANGER_TEST_BUILDER_STAGE"
	builderCache = "BANGER_TEST_BUILDER_CACHE"
	builderDebs  = "BANGER_TEST_BUILDER_DEBS"
	builderName  = "BANGER_TEST_BUILDER_NAME" // of an import; none: it pulls
)

func TestMain(m *testing.M) {
	if stage := os.Getenv(builderStage); stage != "" {
		builder(stage)
		return
	}
	os.Exit(m.Run())
}

// builder makes a kernel and, when it comes to stage, says so and waits to be
// killed, or for its standard input to end.
func builder(stage string) {
	a := &fakeArchive{release: "6.1", dir: os.Getenv(builderDebs)}
	s := New(paths.Layout{Cache: os.Getenv(builderCache)}, a, NewAgent([]byte("agent")), slog.New(slog.DiscardHandler))
	report := func(p banger.Progress) {
		if p.Stage == stage {
			fmt.Println(stage)
			_, _ = os.Stdin.Read(make([]byte, 1))
		}
	}
	var err error
	if name := os.Getenv(builderName); name != "" {
		_, err = s.Import(context.Background(), name, bytes.NewReader(kerneltest.KernelDeb("6.1")), report)
	} else {
		_, err = s.Default(context.Background(), report)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// startBuilder returns when the builder has come to stage. release lets it go on.
func startBuilder(t *testing.T, cache, stage string) (cmd *exec.Cmd, release func()) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), builderStage+"="+stage, builderCache+"="+cache, builderDebs+"="+t.TempDir())
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if strings.TrimSpace(line) != stage {
		t.Fatalf("the builder said %q, %v", line, err)
	}
	return cmd, func() { _ = stdin.Close() }
}

func TestKilledBuilderHindersNobody(t *testing.T) {
	needTools(t, "mke2fs")
	for _, stage := range []string{stageKernel, stageUnpack, stageInitramfs, stageModulesDisk} {
		t.Run(stage, func(t *testing.T) {
			cache := t.TempDir()
			cmd, _ := startBuilder(t, cache, stage)
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			s := testStore(t, cache, &fakeArchive{release: "6.1"}, "agent")
			k := pulled(t, s)
			if initramfs(t, k.Initramfs)["init"] != "agent" {
				t.Error("the kernel is not whole")
			}
			onlyKernels(t, s, 1)
		})
	}
}

func TestKilledImportHindersNobody(t *testing.T) {
	needTools(t, "mke2fs")
	t.Setenv(builderName, "mine")
	for _, stage := range []string{stageUnpack, stageInitramfs, stageModulesDisk} {
		t.Run(stage, func(t *testing.T) {
			cache := t.TempDir()
			cmd, _ := startBuilder(t, cache, stage)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			s := testStore(t, cache, &fakeArchive{}, "agent")
			if _, err := s.Resolve(t.Context(), "mine", nil); banger.KindOf(err) != banger.KindNotFound {
				t.Errorf("the name of what is not there: %v", err)
			}
			if left, err := s.Leftovers(t.Context()); err != nil || len(left) == 0 {
				t.Errorf("left over: %v, %v", left, err)
			}
			if err := s.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			onlyKernels(t, s, 0)
			imports(t, s, "mine", kerneltest.KernelDeb("6.1"))
			onlyKernels(t, s, 1)
		})
	}
}

// TestKilledBuilderOfAnotherKernelIsSweptToo: nobody may ever build that one again.
func TestKilledBuilderOfAnotherKernelIsSweptToo(t *testing.T) {
	needTools(t, "mke2fs")
	cache := t.TempDir()
	cmd, _ := startBuilder(t, cache, stageInitramfs)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	s := testStore(t, cache, &fakeArchive{release: "6.2"}, "agent")
	if left, err := s.Leftovers(t.Context()); err != nil || len(left) != 1 {
		t.Errorf("left over: %v, %v", left, err)
	}
	pulled(t, s)
	onlyKernels(t, s, 1)
	if left, err := s.Leftovers(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("left over after a pull: %v, %v", left, err)
	}
}

func TestSecondPullWaitsForTheFirst(t *testing.T) {
	needTools(t, "mke2fs")
	cache := t.TempDir()
	cmd, release := startBuilder(t, cache, stageInitramfs)
	a := &fakeArchive{release: "6.1"}
	var messages []string
	k, err := testStore(t, cache, a, "agent").Default(t.Context(), func(p banger.Progress) {
		messages = append(messages, p.Message)
		release()
	})
	if err != nil || k.Release != "6.1" {
		t.Fatalf("got %+v, %v", k, err)
	}
	if a.downloads != 0 || strings.Join(messages, ",") != "waiting for another pull" {
		t.Errorf("%d downloads, messages %q", a.downloads, messages)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the first builder: %v", err)
	}
}

// TestSweepSparesLiveBuilders: two suites may build at the same time.
func TestSweepSparesLiveBuilders(t *testing.T) {
	needTools(t, "mke2fs")
	cache := t.TempDir()
	cmd, release := startBuilder(t, cache, stageInitramfs)
	s := testStore(t, cache, &fakeArchive{release: "6.2"}, "agent")
	if left, err := s.Leftovers(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	release()
	if err := cmd.Wait(); err != nil {
		t.Errorf("a live builder was disturbed: %v", err)
	}
	onlyKernels(t, s, 1)
}
