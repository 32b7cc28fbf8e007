package workspace

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/control"
	"banger.dev/banger/internal/agent/files"
	"banger.dev/banger/internal/agent/users"
	"banger.dev/banger/internal/agent/wire"
)

// TestHolesStay both ways, and in what the host keeps of the copy.
func TestHolesStay(t *testing.T) {
	w := newWorld(t)
	w.repository()
	w.sh(w.host, "truncate -s 40M holes; printf data | dd of=holes bs=1M seek=20 conv=notrunc status=none; echo first > small; truncate -s 1M small")
	w.prepare(Options{})
	const sparse = `test $(du -k $0 | cut -f 1) -lt 1000; cmp $0 $1`
	w.sh(w.target, "set -- "+w.host+"; for f in holes small; do bash -euc '"+sparse+"' $f $1/$f; done")
	w.sh(w.vm.Dir, "test $(du -sk . | cut -f 1) -lt 3000")

	// One that is too large for a patch, and one that is not.
	w.sh(w.target, "printf more | dd of=holes bs=1M seek=30 conv=notrunc status=none; truncate -s 30M huge; echo end >> huge")
	e := w.export(ExportOptions{})
	e.most = 25 << 20
	refusal(t, e.Patch(t.Context(), io.Discard), banger.KindUnavailable, `"huge": more than the 25MiB`)
	var tar bytes.Buffer
	if err := e.Tar(t.Context(), &tar); err != nil {
		t.Fatal(err)
	}
	if tar.Len() > 1<<20 {
		t.Errorf("the tar has %d bytes", tar.Len())
	}
	there := t.TempDir()
	if err := os.WriteFile(there+"/tar", tar.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	w.sh(there, "tar -xf tar; for f in holes huge; do bash -euc '"+sparse+"' $f "+w.target+"/$f; done")
	if _, err := e.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.sh(w.host, "for f in holes huge; do bash -euc '"+sparse+"' $f "+w.target+"/$f; done")

	// Both sides have changed it: git would merge it in memory.
	w.sh(w.host, "echo host >> huge")
	w.sh(w.target, "echo guest >> huge")
	e.Close()
	e = w.export(ExportOptions{})
	e.most = 25 << 20
	_, err := e.Apply(t.Context())
	refusal(t, err, banger.KindConflict, `"huge" was changed here and in web`)
}

// roomy is a guest that has so much room.
func roomy(t *testing.T, room *wire.Room) *world {
	t.Helper()
	disk := &files.Server{Users: &users.DB{}}
	all := disk.All()
	all[wire.PathStat] = func(in io.Reader, out io.Writer) error {
		var answer bytes.Buffer
		if err := disk.Stat(in, &answer); err != nil {
			return err
		}
		var stat wire.FileStat
		if err := json.Unmarshal(answer.Bytes(), &stat); err != nil {
			return err
		}
		stat.Room = room
		return json.NewEncoder(out).Encode(stat)
	}
	return worldWith(t, (&control.Server{Streams: all}).Serve)
}

// TestNoRoom is said before anything is sent.
func TestNoRoom(t *testing.T) {
	const mib = 1 << 20
	for name, test := range map[string]struct {
		room       wire.Room
		says, next string
	}{
		"bytes":                   {wire.Room{Bytes: 4 * mib, Files: 10000, Size: 20 << 30, Root: true}, "has room for 4MiB, and 5", "banger vm set --disk 22GiB web"},
		"files":                   {wire.Room{Bytes: 100 * mib, Files: 20, Size: 1 << 30, Root: true}, "has room for 20 files, and ", "banger vm set --disk 6GiB web"},
		"bytes on another system": {wire.Room{Bytes: mib, Files: -1, Size: 1 << 30}, "has room for 1MiB, and 5", "prepare --target \"/srv/app\" web"},
	} {
		t.Run(name, func(t *testing.T) {
			room := test.room
			w := roomy(t, &room)
			w.repository()
			w.sh(w.host, "head -c 5M /dev/urandom > large")
			_, err := w.try(Options{})
			refusal(t, err, banger.KindUnavailable, test.says)
			if !strings.Contains(banger.NextOf(err), test.next) {
				t.Errorf("next: %s", banger.NextOf(err))
			}
			if _, err := os.Lstat(w.target); !os.IsNotExist(err) {
				t.Errorf("something was sent: %v", err)
			}
			room = wire.Room{Bytes: 6 * mib, Files: 200}
			w.prepare(Options{})
			// What is there already is not counted again.
			room = wire.Room{Bytes: mib, Files: 0}
			w.sh(w.host, "echo more >> plain")
			w.prepare(Options{})
			// A file that replaces another is beside it for a moment.
			w.sh(w.host, "echo more >> large")
			_, err = w.try(Options{})
			refusal(t, err, banger.KindUnavailable, "has room for 1MiB")
		})
	}
}

// TestWhatWasLeftIsSwept: a prepare or an export that was killed has left files.
func TestWhatWasLeftIsSwept(t *testing.T) {
	w := newWorld(t)
	w.repository()
	w.prepare(Options{})
	at := w.vm.slot(w.target)
	left := []string{"scratch-1/changes.git/HEAD", "base.git/objects/tmp_obj_1", "base.git/objects/pack/tmp_pack_1", "base.git/refs/banger/base.lock"}
	leave := func() {
		for _, name := range left {
			w.sh(at.dir, "mkdir -p $(dirname "+name+"); echo left > "+name)
		}
	}
	swept := func() {
		t.Helper()
		for _, name := range left {
			if _, err := os.Lstat(filepath.Join(at.dir, name)); !os.IsNotExist(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	leave()
	w.sh(w.host, "echo more >> plain")
	w.prepare(Options{})
	swept()
	leave()
	if got := w.files(); got != "" {
		t.Errorf("changed: %s", got)
	}
	swept()
	if got := w.sh(at.dir, "ls | tr '\\n' ' '"); got != "base.git workspace.json " {
		t.Errorf("the workspace has %s", got)
	}
}

// TestContentThatNobodyNeedsIsDropped: a file in no commit that changes often.
func TestContentThatNobodyNeedsIsDropped(t *testing.T) {
	w := newWorld(t)
	w.repository()
	for range 6 {
		w.sh(w.host, "head -c 30M /dev/urandom > build.log")
		w.prepare(Options{})
	}
	w.sh(w.vm.Dir, "test $(du -sm . | cut -f 1) -lt 140") // of 180
	w.sh(w.target, "echo guest >> plain")
	if got := w.files(); got != "M plain" {
		t.Errorf("changed: %s", got)
	}
}
