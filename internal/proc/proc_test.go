package proc_test

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"banger.dev/banger/internal/proc"
)

func TestAliveTellsProcessesApart(t *testing.T) {
	start, err := proc.StartTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if !proc.Alive(os.Getpid(), start) {
		t.Error("this process is not alive")
	}
	if proc.Alive(os.Getpid(), start+1) {
		t.Error("a process with another start time is taken for this one")
	}
	if proc.Alive(0, 0) {
		t.Error("pid 0 is alive")
	}
}

func TestZombieIsDead(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	start, err := proc.StartTime(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	// Not waited for, so it stays a zombie; Kill returns once it has ended.
	if err := proc.Kill(cmd.Process.Pid, start, time.Minute); err != nil {
		t.Error(err)
	}
	if proc.Alive(cmd.Process.Pid, start) {
		t.Error("a zombie is alive")
	}
	_ = cmd.Wait()
}

func TestKillEndsOnlyTheOneMeant(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	start, err := proc.StartTime(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := proc.Kill(cmd.Process.Pid, start-1, time.Second); err != nil {
		t.Errorf("kill of a process that is gone: %v", err)
	}
	if !proc.Alive(cmd.Process.Pid, start) {
		t.Fatal("the process that now has the pid was killed")
	}
	if err := proc.Kill(cmd.Process.Pid, start, time.Minute); err != nil {
		t.Error(err)
	}
	<-ended
	if err := proc.Kill(cmd.Process.Pid, start, time.Minute); err != nil {
		t.Errorf("second kill: %v", err)
	}
}
