package lifecycle_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/lifecycle"
)

func TestCreateLeavesARowAndTwoDisks(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		d := w.create("a")
		if d.State != banger.StateStopped || d.Intent != banger.IntentStopped || d.ImageDigest != imageDigest || d.Handles != nil {
			t.Errorf("created: %+v", d.VM)
		}
		if !slices.Equal(d.Entrypoint, []string{"/entry"}) || !slices.Equal(d.Cmd, []string{"sh"}) {
			t.Errorf("entrypoint %q, cmd %q", d.Entrypoint, d.Cmd)
		}
		w.same("dir a/\ndir a/ssh\ndir a/ssh/host_ed25519\ndir a/ssh/id_ed25519\ndir a/ssh/known_hosts\n" +
			"dir a/system.qcow2\ndir a/work.qcow2\nhold a sha256:0d sha256:0e\nlink a.vm a\nrow a intent=stopped\n")
	})
}

func TestCreateWithoutAWorkDiskMakesOneDisk(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := spec()
		s.Work = 0
		if _, err := w.Create(t.Context(), "a", s, &lifecycle.StartOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		if got := len(w.machine("a").order.Machine.Disks); got != 3 {
			t.Errorf("the VMM has %d disks, want config, root and modules", got)
		}
		w.wantState("a", "running")
	})
}

func TestAFailureAtAnyStepOfACreateLeavesTheWorldAsItWas(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("other")
		w.begun()
		w.create("probe")
		names := w.begun()
		if _, _, err := w.Delete(t.Context(), "probe", false); err != nil {
			t.Fatal(err)
		}
		if len(names) != 5 {
			t.Fatalf("steps of a create: %q", names)
		}
		before := w.String()
		for _, step := range names {
			w.failAt(step)
			_, err := w.Create(t.Context(), "a", spec(), nil, nil)
			if !errors.Is(err, errFault) {
				t.Errorf("%s failing: %v", step, err)
			}
			w.same(before)
		}
		w.failAt("")
		w.create("a")
	})
}

func TestAFailureAtAnyStepOfTheBootInACreateLeavesAStoppedVMOrNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		empty := w.String()
		w.run("a")
		boot := slices.DeleteFunc(w.begun(), func(s string) bool { return s[:6] != "start." })
		if len(boot) != 5 {
			t.Fatalf("steps of a start: %q", boot)
		}
		w.delete("a")
		w.create("a")
		stopped := w.String()
		w.delete("a")
		for _, step := range boot {
			w.failAt(step)
			_, err := w.Create(t.Context(), "a", spec(), &lifecycle.StartOptions{}, nil)
			if !errors.Is(err, errFault) || banger.NextOf(err) != "banger vm logs a" {
				t.Errorf("%s failing: %v, next %q", step, err, banger.NextOf(err))
			}
			w.same(stopped)
			wantWords(t, w.row("a").LastError, "a fault was asked for", step)
			w.wantState("a", "stopped")
			w.delete("a")

			_, err = w.Create(t.Context(), "a", ephemeral(), &lifecycle.StartOptions{}, nil)
			if !errors.Is(err, errFault) || banger.NextOf(err) != "" {
				t.Errorf("%s failing, ephemeral: %v, next %q", step, err, banger.NextOf(err))
			}
			w.same(empty)
		}
	})
}

func (w *world) delete(name string) {
	w.t.Helper()
	if _, _, err := w.Delete(context.Background(), name, true); err != nil {
		w.t.Fatal(err)
	}
}

func TestACreateThatIsCancelledLeavesNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		before := w.String()
		for name, during := range map[string]func() (release func()){
			"the pull": w.images.hold,
			"the boot": func() func() { w.guest("a", guest{hangs: true}); return func() {} },
		} {
			release := during()
			ctx, cancel := context.WithCancel(t.Context())
			c := w.beginCreate(ctx, "a", spec(), &lifecycle.StartOptions{})
			pending(t, "create", c)
			cancel()
			r := <-c
			wantKind(t, r.err, banger.KindCancelled)
			wantWords(t, r.err.Error(), "the create of a was cancelled")
			release()
			if t.Failed() {
				t.Logf("during %s", name)
			}
			w.same(before)
		}
	})
}

// Whatever a create cleans up after itself is its own.
func TestACreateThatIsCancelledAtAnyStepLeavesOthersAlone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("other")
		before := w.String()
		for _, at := range []string{"create.image", "create.kernel", "create.disks", "create.keys", "create.row", "start.intent", "start.plan", "start.handles", "start.monitor", "start.ready"} {
			ctx, cancel := context.WithCancel(t.Context())
			w.setFault(func(step string) error {
				if step == at {
					cancel()
				}
				return nil
			})
			_, err := w.Create(ctx, "a", spec(), &lifecycle.StartOptions{}, nil)
			w.setFault(nil)
			wantKind(t, err, banger.KindCancelled)
			w.same(before)
			cancel()
		}
	})
}

func TestDeleteOfAVMThatIsBeingCreatedCancelsItsCreate(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		before := w.String()
		defer w.images.hold()()
		c := w.beginCreate(t.Context(), "a", spec(), &lifecycle.StartOptions{})
		w.wantState("a", "creating")
		vm, out, err := w.Delete(t.Context(), "a", false)
		if err != nil || !out.Changed || vm.State != banger.StateCreating {
			t.Errorf("delete: %v, %+v, %v", vm.State, out, err)
		}
		wantKind(t, (<-c).err, banger.KindCancelled)
		w.same(before)
	})
}

func TestABootThatFailsInACreateSaysWhereAndWhatTheConsoleSaid(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		before := w.String()
		for name, g := range map[string]guest{
			"panic": {panics: true}, "timeout": {hangs: true},
		} {
			w.guest("a", g)
			w.guest("gone", g)
			_, err := w.Create(t.Context(), "gone", ephemeral(), &lifecycle.StartOptions{}, nil)
			wantWords(t, err.Error(), "VM gone did not start", `stage "kernel"`, "something is wrong")
			if next := banger.NextOf(err); next != "" {
				t.Errorf("%s: next %q, and there is nothing left to read", name, next)
			}
			w.same(before)

			_, err = w.Create(t.Context(), "a", spec(), &lifecycle.StartOptions{}, nil)
			wantKind(t, err, banger.KindInternal)
			wantWords(t, err.Error(), "VM a did not start", `stage "kernel"`, "something is wrong")
			if next := banger.NextOf(err); next != "banger vm logs a" {
				t.Errorf("%s: next %q", name, next)
			}
			r := w.row("a")
			wantWords(t, r.LastError, `stage "kernel"`, "something is wrong")
			if r.LastExit == nil || r.Intent != banger.IntentStopped {
				t.Errorf("%s: row %+v", name, r)
			}
			w.wantState("a", "stopped")
			w.delete("a")
		}
	})
}

func TestAMonitorThatDiesInTheBootIsABootThatFailed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.guest("a", guest{dies: true})
		_, err := w.Create(t.Context(), "a", spec(), &lifecycle.StartOptions{}, nil)
		wantKind(t, err, banger.KindInternal)
		w.wantState("a", "stopped")
		if w.row("a").LastError == "" {
			t.Error("nothing says why")
		}
		w.guest("a", guest{})
		if _, _, err := w.Start(t.Context(), "a", lifecycle.StartOptions{}, nil); err != nil {
			t.Error(err)
		}
	})
}

func TestAVMMThatCannotBeStartedIsSaidInItsOwnWords(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.guest("a", guest{spawnError: errors.New("qemu: no such machine type")})
		_, err := w.Create(t.Context(), "a", spec(), &lifecycle.StartOptions{}, nil)
		wantWords(t, err.Error(), "VM a did not start", "qemu: no such machine type")
		wantWords(t, w.row("a").LastError, "qemu: no such machine type")
	})
}

func TestANameThatIsTakenIsAConflictThatNamesTheOther(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.create("a")
		before := w.String()
		_, err := w.Create(t.Context(), "a", spec(), nil, nil)
		wantKind(t, err, banger.KindConflict)
		wantWords(t, err.Error(), a.ID, `"a"`)
		w.same(before)
	})
}

func TestOfTwoCreatesOfOneNameOneWins(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		release := w.images.hold()
		first := w.beginCreate(t.Context(), "a", spec(), nil)
		second := w.beginCreate(t.Context(), "a", spec(), nil)
		wantKind(t, (<-second).err, banger.KindConflict)
		release()
		if r := <-first; r.err != nil {
			t.Error(r.err)
		}
		w.wantState("a", "stopped")
	})
}

func TestWhatCannotBeIsRefusedAndNothingChanged(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		before := w.String()
		with := func(change func(*banger.Spec)) banger.Spec {
			s := spec()
			change(&s)
			return s
		}
		for what, c := range map[string]struct {
			name string
			spec banger.Spec
			kind banger.Kind
		}{
			"a path as a name":   {"../x", spec(), banger.KindInvalid},
			"a name in capitals": {"A", spec(), banger.KindInvalid},
			"little memory":      {"a", with(func(s *banger.Spec) { s.Memory = 1 }), banger.KindInvalid},
			"more than the host": {"a", with(func(s *banger.Spec) { s.Memory = 9 * banger.GiB }), banger.KindInvalid},
			"negative vcpus":     {"a", with(func(s *banger.Spec) { s.VCPUs = -1 }), banger.KindInvalid},
			"a negative disk":    {"a", with(func(s *banger.Spec) { s.Disk = -5 }), banger.KindInvalid},
			"a tiny work disk":   {"a", with(func(s *banger.Spec) { s.Work = 1 }), banger.KindInvalid},
			"env without a name": {"a", with(func(s *banger.Spec) { s.Env = []string{"="} }), banger.KindInvalid},
			"another VMM":        {"a", with(func(s *banger.Spec) { s.VMM = banger.VMMFirecracker }), banger.KindInvalid},
			"unknown image":      {"a", with(func(s *banger.Spec) { s.Image = "nope" }), banger.KindNotFound},
			"unknown kernel":     {"a", with(func(s *banger.Spec) { s.Kernel = "nope" }), banger.KindNotFound},
		} {
			for _, start := range []*lifecycle.StartOptions{nil, {}} {
				_, err := w.Create(t.Context(), c.name, c.spec, start, nil)
				if banger.KindOf(err) != c.kind {
					t.Errorf("%s: %v, want kind %s", what, err, c.kind)
				}
				w.same(before)
			}
		}
	})
}

func TestADiskSmallerThanItsImageIsRefused(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		before := w.String()
		w.images.size = 2 * banger.GiB
		s := spec()
		s.Disk = banger.GiB
		_, err := w.Create(t.Context(), "a", s, nil, nil)
		wantKind(t, err, banger.KindInvalid)
		wantWords(t, err.Error(), "--disk 1GiB", "at least 2GiB")
		w.same(before)
	})
}

// A disk that nobody has given a size is as large as its image needs, also when a
// larger one takes the image's place. One that somebody has stays as it is.
func TestADiskFitsItsImage(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("a")
		chosen := spec()
		chosen.Disk = 20 * banger.GiB
		if _, err := w.Create(t.Context(), "chosen", chosen, nil, nil); err != nil {
			t.Fatal(err)
		}
		w.images.size = 23*banger.GiB + 1
		d, err := w.Create(t.Context(), "b", spec(), nil, nil)
		if err != nil || d.DiskBytes != 24*banger.GiB || w.diskSize("b") != 24*banger.GiB || w.row("b").Spec.Disk != 24*banger.GiB {
			t.Errorf("%+v, its disk has %s, %v", d.VM, w.diskSize("b"), err)
		}
		w.images.setGone(true)
		d, out, err := w.Set(t.Context(), "a", lifecycle.Change{Image: ptr("debian")}, nil)
		if err != nil || !out.Changed || d.DiskBytes != 24*banger.GiB || w.diskSize("a") != 24*banger.GiB {
			t.Errorf("set: %+v, its disk has %s, %v", d.VM, w.diskSize("a"), err)
		}
		_, _, err = w.Set(t.Context(), "chosen", lifecycle.Change{Image: ptr("debian")}, nil)
		wantKind(t, err, banger.KindInvalid)
		wantWords(t, err.Error(), "--disk 20GiB", "at least 24GiB")
		_, _, err = w.Reset(t.Context(), "chosen", false, nil)
		wantKind(t, err, banger.KindConflict)
		if next := banger.NextOf(err); next != "banger vm set --disk 24GiB chosen" {
			t.Errorf("next: %q", next)
		}
		if _, _, err := w.Set(t.Context(), "chosen", lifecycle.Change{Disk: ptr(24 * banger.GiB)}, nil); err != nil {
			t.Error(err)
		}
		if _, _, err := w.Reset(t.Context(), "chosen", false, nil); err != nil {
			t.Error(err)
		}
		w.images.size = 30 * banger.GiB
		if d, _, err := w.Reset(t.Context(), "b", false, nil); err != nil || d.DiskBytes != 30*banger.GiB || w.diskSize("b") != 30*banger.GiB {
			t.Errorf("reset: %+v, its disk has %s, %v", d.VM, w.diskSize("b"), err)
		}
	})
}

func TestAHostWithoutAVMMRefusesABootBeforeAnythingIsMade(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		before := w.String()
		w.missing = banger.Errorf(banger.KindUnavailable, "qemu is not installed").WithNext("apt install qemu-system-x86")
		_, err := w.Create(t.Context(), "a", spec(), &lifecycle.StartOptions{}, nil)
		wantKind(t, err, banger.KindUnavailable)
		w.same(before)
		w.create("a")
		_, _, err = w.Start(t.Context(), "a", lifecycle.StartOptions{}, nil)
		wantKind(t, err, banger.KindUnavailable)
		w.wantState("a", "stopped")
	})
}

func TestVMsThatNobodyNamesGetNamesOfTheirOwn(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		seen := map[string]bool{}
		for range 30 {
			d, err := w.Create(t.Context(), "", spec(), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := banger.ValidateName(d.Name); err != nil {
				t.Error(err)
			}
			if seen[d.Name] || !banger.IsID(d.ID) {
				t.Errorf("name %q, id %q", d.Name, d.ID)
			}
			seen[d.Name] = true
		}
	})
}

func TestMemoryThatTheHostLacksIsRefused(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.memory = 2*banger.GiB + banger.GiB/2
		w.run("a")
		w.run("b")
		before := w.String()
		_, err := w.Create(t.Context(), "c", spec(), &lifecycle.StartOptions{}, nil)
		wantKind(t, err, banger.KindConflict)
		wantWords(t, err.Error(), "1GiB", "3GiB", "2.5GiB")
		w.same(before)

		w.create("c")
		_, _, err = w.Start(t.Context(), "c", lifecycle.StartOptions{}, nil)
		wantKind(t, err, banger.KindConflict)
		w.wantState("c", "stopped")
		if _, _, err := w.Stop(t.Context(), "a", 0); err != nil {
			t.Fatal(err)
		}
		if _, _, err = w.Start(t.Context(), "c", lifecycle.StartOptions{}, nil); err != nil {
			t.Error(err)
		}
	})
}

func TestMemoryOfVMsThatAreBeingStartedCounts(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.memory = 3*banger.GiB + banger.GiB/2
		names := []string{"a", "b", "c", "d", "e", "f"}
		for _, name := range names {
			w.create(name)
		}
		ended := make(chan result, len(names))
		for _, name := range names {
			go func() {
				_, _, err := w.Start(context.Background(), name, lifecycle.StartOptions{}, nil)
				ended <- result{err: err}
			}()
		}
		refused := 0
		for range names {
			if r := <-ended; r.err != nil {
				wantKind(t, r.err, banger.KindConflict)
				refused++
			}
		}
		if refused != 3 {
			t.Errorf("%d starts were refused of 6 on a host with memory for 3", refused)
		}
	})
}

func TestACreateThatWaitsForTheInitReturnsWhenItIsDone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		opts := &lifecycle.StartOptions{Wait: lifecycle.WaitInit, Timeout: 10 * time.Second}
		if _, err := w.Create(t.Context(), "a", spec(), opts, nil); err != nil {
			t.Fatal(err)
		}
		w.guest("b", guest{initNever: true})
		_, err := w.Create(t.Context(), "b", spec(), opts, nil)
		wantKind(t, err, banger.KindUnavailable)
		wantWords(t, err.Error(), "VM b is running", "starting")
		w.wantState("b", "running")

		w.guest("c", guest{initNever: true})
		_, err = w.Create(t.Context(), "c", ephemeral(), opts, nil)
		wantKind(t, err, banger.KindUnavailable)
		w.wantState("c", "gone")

		w.guest("d", guest{initNever: true})
		ctx, cancel := context.WithCancel(t.Context())
		c := w.beginCreate(ctx, "d", spec(), opts)
		cancel()
		wantKind(t, (<-c).err, banger.KindCancelled)
		w.wantState("d", "gone")
		synctest.Wait()
	})
}

// Each transaction is a sync of the disk or a turn at the one connection; their
// number must not creep up.
func TestACreateTakesThreeTransactions(t *testing.T) {
	for what, start := range map[string]*lifecycle.StartOptions{"stopped": nil, "started": {}} {
		inWorld(t, func(t *testing.T, w *world) {
			before := w.db.Transactions()
			if _, err := w.Create(t.Context(), "a", spec(), start, nil); err != nil {
				t.Fatal(err)
			}
			if n := w.db.Transactions() - before; n > 3 {
				t.Errorf("%s: %d transactions", what, n)
			}
		})
	}
}

// A pull may take minutes. It holds the lock of the VM that it is for, and that
// of its image, which no other verb on another VM asks for.
func TestASlowPullHoldsUpNoOtherVM(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.create("other")
		release := w.images.hold()
		slow := w.beginCreate(t.Context(), "slow", spec(), &lifecycle.StartOptions{})
		pending(t, "the create that pulls", slow)
		verbs := w.verbs()
		for _, verb := range []string{"start", "stop", "start", "kill", "delete"} {
			if got := verbs[verb]("other"); got != "changed" {
				t.Errorf("%s of another VM: %s", verb, got)
			}
		}
		here := spec()
		here.Image = imageDigest
		if _, err := w.Create(t.Context(), "new", here, &lifecycle.StartOptions{}, nil); err != nil {
			t.Error(err)
		}
		if list, err := w.List(t.Context()); err != nil || len(list) != 2 {
			t.Errorf("list: %+v, %v", list, err)
		}
		pending(t, "the create that pulls", slow)
		release()
		if r := <-slow; r.err != nil {
			t.Error(r.err)
		}
		w.wantState("slow", "running")
	})
}

// A restart tears down what the VM had, and the memory is its own all the same.
func TestMemoryOfAVMThatWasRestartedCounts(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.memory = 3 * banger.GiB / 2
		w.run("a")
		if _, _, err := w.Restart(t.Context(), "a", lifecycle.RestartOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		w.create("b")
		_, _, err := w.Start(t.Context(), "b", lifecycle.StartOptions{}, nil)
		wantKind(t, err, banger.KindConflict)
		if _, _, err := w.Kill(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.Start(t.Context(), "b", lifecycle.StartOptions{}, nil); err != nil {
			t.Error(err)
		}
	})
}
