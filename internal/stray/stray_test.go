package stray_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger.dev/banger"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/stray"
)

const (
	known   = "aaaaaaaaaaaaaaaa" // web, which has a row
	deleted = "bbbbbbbbbbbbbbbb" // of which the events say so
	lost    = "cccccccccccccccc" // of which nothing is known
)

// rows is a database with the VM web in it.
type rows struct{ err error }

func (r rows) All(context.Context) ([]banger.Record, error) {
	return []banger.Record{{ID: known, Name: "web"}}, r.err
}

func (rows) LastEvent(_ context.Context, _ int, id string) (banger.Event, error) {
	if id == deleted {
		return banger.Event{Type: banger.EventVMDeleted}, nil
	}
	return banger.Event{}, nil
}

func newHome(t *testing.T) *stray.Finder {
	t.Helper()
	dir := t.TempDir()
	return &stray.Finder{Rows: rows{}, Layout: paths.Layout{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")}}
}

func write(t *testing.T, path string) string {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

func link(t *testing.T, target, path string) string {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.Symlink(target, path)); err != nil {
		t.Fatal(err)
	}
	return path
}

// short is each stray in a line: its kind and the end of what it is.
func short(strays []banger.Stray) []string {
	lines := []string{}
	for _, s := range strays {
		word := string(s.Kind) + " " + filepath.Base(s.What)
		if s.Kind == banger.StrayProcess {
			word = "process"
		}
		for mark, is := range map[string]bool{" fixable": s.Fixable, " fixed": s.Fixed} {
			if is && (mark != " fixable" || !s.Fixed) {
				word += mark
			}
		}
		lines = append(lines, word)
	}
	return lines
}

func find(t *testing.T, f *stray.Finder) []banger.Stray {
	t.Helper()
	strays, err := f.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return strays
}

func want(t *testing.T, got []banger.Stray, want ...string) {
	t.Helper()
	if lines := short(got); !slices.Equal(lines, want) {
		t.Errorf("found\n  %s\nwant\n  %s", strings.Join(lines, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestAHomeThatIsNotThereHasNoStrays(t *testing.T) {
	want(t, find(t, newHome(t)))
}

func TestWhatBelongsToAVMIsNoStray(t *testing.T) {
	f := newHome(t)
	write(t, f.Layout.VM(known).SystemDisk("qcow2"))
	write(t, f.Layout.VM(known).MonitorSocket())
	write(t, f.Layout.SSHConfig())
	link(t, "../vms/"+known+"/ssh", f.Layout.SSHLink("web"))
	write(t, filepath.Join(f.Layout.VMs(), "lost+found", "file"))
	write(t, f.Layout.Database())
	want(t, find(t, f))
}

func TestStraysAreFoundAndRemovedOnce(t *testing.T) {
	f := newHome(t)
	write(t, f.Layout.VM(deleted).SystemDisk("qcow2"))
	write(t, filepath.Join(f.Layout.VM("dddddddddddddddd").Dir, "console.0.log"))
	disk := write(t, f.Layout.VM(lost).WorkDisk("qcow2"))
	write(t, f.Layout.VM(lost).GuestSocket())
	link(t, "../vms/"+lost+"/ssh", f.Layout.SSHLink("gone"))
	link(t, "../vms/"+known+"/ssh", f.Layout.SSHLink("before-the-rename"))
	link(t, "../vms/"+known+"/ssh", filepath.Join(f.Layout.SSH(), "."+known))
	write(t, f.Layout.Database()+".new")
	want(t, find(t, f),
		"sockets "+lost+" fixable",
		"directory "+deleted+" fixable", "directory "+lost, "directory dddddddddddddddd fixable",
		"link ."+known+" fixable", "link before-the-rename.vm fixable", "link gone.vm fixable",
		"temp banger.db.new fixable")
	fixed, err := f.Fix(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range fixed {
		if s.Fixed != s.Fixable || s.Error != "" || (s.Next == "") != s.Fixable {
			t.Errorf("%+v", s)
		}
	}
	want(t, find(t, f), "directory "+lost)
	if _, err := os.Stat(disk); err != nil {
		t.Errorf("a disk of which nothing is known: %v", err)
	}
	if again, err := f.Fix(t.Context()); err != nil || len(again) != 1 || again[0].Fixed {
		t.Errorf("once more: %v, %v", short(again), err)
	}
}

// A bracket in the path of a home means nothing.
func TestDisksAreKeptWhateverTheHomeIsCalled(t *testing.T) {
	f := newHome(t)
	f.Layout.State = filepath.Join(t.TempDir(), "a[b]c*")
	disk := write(t, f.Layout.VM(lost).SystemDisk("qcow2"))
	if _, err := f.Fix(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(disk); err != nil {
		t.Error(err)
	}
	want(t, find(t, f), "directory "+lost)
}

func TestNothingIsAStrayWhileTheDatabaseCannotBeRead(t *testing.T) {
	f := newHome(t)
	f.Rows = rows{err: errors.New("damaged")}
	dir := f.Layout.VM(deleted).Dir
	write(t, filepath.Join(dir, "file"))
	if strays, err := f.Fix(t.Context()); err == nil || len(strays) > 0 {
		t.Errorf("%v, %v", strays, err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
}

// holder is a process that holds a VM's lock, as its VMM does.
func holder(t *testing.T, f *stray.Finder, id string) *exec.Cmd {
	t.Helper()
	lock, err := os.OpenFile(write(t, f.Layout.VM(id).Lock()), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	if err := unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "1000")
	cmd.ExtraFiles = []*os.File{lock}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	return cmd
}

func TestProcessesAreFoundByTheLockTheyHold(t *testing.T) {
	f := newHome(t)
	kept := holder(t, f, known)
	alone := holder(t, f, deleted)
	without := holder(t, f, lost) // its directory is removed below it
	write(t, f.Layout.VM(deleted).Handles())
	if err := os.RemoveAll(f.Layout.VM(lost).Dir); err != nil {
		t.Fatal(err)
	}
	strays := find(t, f)
	want(t, strays, "process fixable", "process fixable", "directory "+deleted+" fixable")
	for _, pid := range []int{alone.Process.Pid, without.Process.Pid} {
		if !slices.ContainsFunc(strays, func(s banger.Stray) bool { return strings.Contains(s.What, fmt.Sprintf("process %d (sleep", pid)) }) {
			t.Errorf("%d is not among %+v", pid, strays)
		}
	}
	done := make(chan error, 2)
	for _, cmd := range []*exec.Cmd{alone, without} {
		go func() { done <- cmd.Wait() }()
	}
	fixed, err := f.Fix(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want(t, fixed, "process fixed", "process fixed", "directory "+deleted+" fixed")
	for range 2 {
		if err := <-done; err == nil {
			t.Error("a process ended by itself")
		}
	}
	if err := kept.Process.Signal(unix.Signal(0)); err != nil {
		t.Errorf("the process of a VM: %v", err)
	}
	want(t, find(t, f))
}

// cache has one half-made file.
type cache struct{ path string }

func (c cache) Leftovers(context.Context) ([]string, error) {
	if _, err := os.Stat(c.path); err != nil {
		return nil, nil
	}
	return []string{c.path}, nil
}
func (c cache) Sweep(context.Context) error { return os.Remove(c.path) }

func TestWhatACacheHalfMadeIsSwept(t *testing.T) {
	f := newHome(t)
	f.Caches = []stray.Cache{cache{write(t, filepath.Join(t.TempDir(), "half"))}}
	want(t, find(t, f), "temp half fixable")
	fixed, err := f.Fix(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want(t, fixed, "temp half fixed")
	want(t, find(t, f))
}

func TestDevicesAreNamedAfterNoVM(t *testing.T) {
	f := newHome(t)
	f.Sys = t.TempDir()
	for _, name := range []string{"lo", "bng-" + known[:8], "bng-" + lost[:8]} {
		write(t, filepath.Join(f.Sys, "class/net", name, "address"))
	}
	for i, name := range []string{"banger-" + known, "banger-" + lost, "vg-root"} {
		file := write(t, filepath.Join(f.Sys, "block", fmt.Sprint("dm-", i), "dm/name"))
		if err := os.WriteFile(file, []byte(name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	strays := find(t, f)
	want(t, strays, "device bng-"+lost[:8], "device banger-"+lost)
	if strays[0].Next != "ip link delete bng-"+lost[:8] || strays[1].Next != "dmsetup remove banger-"+lost {
		t.Errorf("%+v", strays)
	}
}
