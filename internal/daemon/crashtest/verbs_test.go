package crashtest

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/client"
	"banger.dev/banger/internal/publish"
)

// subject is the VM that a verb is about. A guest behaves as the VM's name says,
// see package fakeguest, so a verb may want another one.
const subject = "subject"

// absent is the state of a VM that is not there.
const absent banger.State = "absent"

// verb is a row of the matrix's table: what is done to a VM.
type verb struct {
	name     string
	vm       string // "" is subject
	from, to banger.State
	// via are states that it may be left in on the way, beside from and to.
	via []banger.State
	// quiet means that the error of a step is the log's alone, and the daemon's to
	// make up for.
	quiet bool
	// alike means that the steps are those of another row, from another state: one
	// kind of error stands for all.
	alike   bool
	prepare func(h *home, vm string) error // when from has been reached
	do      func(h *home, vm string) error
	// effect says whether what the verb does is there, of a VM if it leaves one; nil:
	// the state says all.
	effect func(h *home, vm banger.VM) error
	// undo takes away what the verb has made beside the VM.
	undo func(h *home) error
	// done is the kind of error that says, when the verb is repeated, that it had
	// been done.
	done banger.Kind
	// hopeless means that the verb always ends with an error.
	hopeless bool
}

func (v verb) target() string {
	if v.vm == "" {
		return subject
	}
	return v.vm
}

// verbs is every verb that makes, changes or removes something, in every state in
// which it acts.
func verbs() []verb {
	port := func(n int) banger.Port {
		return banger.Port{HostIP: "127.0.0.1", HostPort: n, GuestPort: 80, Protocol: "tcp"}
	}
	add := func(h *home, vm string) error {
		return do(h, func(ctx context.Context, c *client.Client) (api.VerbReply, error) {
			return c.AddPorts(ctx, vm, []banger.Port{port(h.port)})
		})
	}
	unpublish := func(h *home, vm string) error {
		return do(h, func(ctx context.Context, c *client.Client) (api.VerbReply, error) {
			return c.RemovePorts(ctx, vm, []string{fmt.Sprintf("%d/tcp", h.port)})
		})
	}
	stop := func(timeout int64) func(h *home, vm string) error {
		return func(h *home, vm string) error {
			return do(h, func(ctx context.Context, c *client.Client) (api.VerbReply, error) {
				return c.StopVM(ctx, vm, api.StopRequest{TimeoutMS: timeout})
			})
		}
	}
	reset := func(force bool) func(h *home, vm string) error {
		return func(h *home, vm string) error {
			return do(h, func(ctx context.Context, c *client.Client) (api.Operation, error) {
				return c.ResetVM(ctx, vm, api.ResetRequest{Force: force}, nil)
			})
		}
	}
	restart := func(h *home, vm string) error {
		return do(h, func(ctx context.Context, c *client.Client) (api.Operation, error) {
			return c.RestartVM(ctx, vm, api.RestartRequest{}, nil)
		})
	}
	kill := func(h *home, vm string) error {
		return do(h, func(ctx context.Context, c *client.Client) (api.VerbReply, error) { return c.KillVM(ctx, vm) })
	}
	remove := func(force bool) func(h *home, vm string) error {
		return func(h *home, vm string) error { return h.delete(vm, force) }
	}
	return append(imports(), []verb{
		{name: "create", from: absent, to: banger.StateStopped, done: banger.KindConflict,
			do: func(h *home, vm string) error { return h.create(vm, h.spec, nil) }},
		{name: "run", from: absent, to: banger.StateRunning, via: []banger.State{banger.StateStopped}, do: func(h *home, vm string) error {
			if _, err := h.show(vm); err == nil { // a run that was cut off after its create is gone on with by a start
				return h.start(vm, 0)
			}
			return h.create(vm, h.spec, &api.StartRequest{})
		}},
		{name: "run --rm, and its end", from: absent, to: absent, via: []banger.State{banger.StateRunning}, do: func(h *home, vm string) error {
			spec := h.spec
			spec.Ephemeral = true
			if err := h.create(vm, spec, &api.StartRequest{}); err != nil && banger.KindOf(err) != banger.KindConflict {
				return err
			}
			return h.endsByItself(vm)
		}},
		{name: "start", from: banger.StateStopped, to: banger.StateRunning,
			do: func(h *home, vm string) error { return h.start(vm, 0) }},
		{name: "start of what cannot boot", vm: "panics", from: banger.StateStopped, to: banger.StateStopped, hopeless: true,
			do: func(h *home, vm string) error { return h.start(vm, h.brief) }},
		{name: "stop", from: banger.StateRunning, to: banger.StateStopped, do: stop(0)},
		{name: "stop of a guest that does not listen", vm: "ignores", from: banger.StateRunning, to: banger.StateStopped, do: stop(50)},
		{name: "stop of a paused one", alike: true, from: banger.StatePaused, to: banger.StateStopped, via: []banger.State{banger.StateRunning}, do: stop(0)},
		{name: "kill", from: banger.StateRunning, to: banger.StateStopped, do: kill},
		{name: "kill of a paused one", alike: true, from: banger.StatePaused, to: banger.StateStopped, do: kill},
		{name: "restart", from: banger.StateRunning, to: banger.StateRunning, via: []banger.State{banger.StateStopped}, effect: running, do: restart},
		{name: "restart of a paused one", alike: true, from: banger.StatePaused, to: banger.StateRunning, via: []banger.State{banger.StateStopped}, effect: running, do: restart},
		{name: "restart of a stopped one", alike: true, from: banger.StateStopped, to: banger.StateRunning, effect: running, do: restart},
		{name: "pause", from: banger.StateRunning, to: banger.StatePaused, do: (*home).pause},
		{name: "resume", from: banger.StatePaused, to: banger.StateRunning, do: func(h *home, vm string) error {
			return do(h, func(ctx context.Context, c *client.Client) (api.VerbReply, error) { return c.ResumeVM(ctx, vm) })
		}},
		{name: "reset", from: banger.StateStopped, to: banger.StateStopped, do: reset(false)},
		{name: "reset of a broken one", alike: true, from: banger.StateBroken, to: banger.StateStopped, do: reset(false)},
		{name: "reset --force", from: banger.StateRunning, to: banger.StateStopped, do: reset(true)},
		{name: "reset --force of a paused one", alike: true, from: banger.StatePaused, to: banger.StateStopped, do: reset(true)},
		{name: "set", from: banger.StateStopped, to: banger.StateStopped, do: set, effect: isSet},
		{name: "set of a running one", from: banger.StateRunning, to: banger.StateRunning, do: setLive, effect: isSet},
		{name: "image commit", from: banger.StateStopped, to: banger.StateStopped, do: (*home).commit, effect: hasImage((*home).image), undo: deletesImage((*home).image)},
		{name: "set of a paused one", alike: true, from: banger.StatePaused, to: banger.StatePaused, do: setLive, effect: isSet},
		{name: "set of a broken one", alike: true, from: banger.StateBroken, to: banger.StateBroken, do: setLive, effect: isSet},
		{name: "wait for an end without a verb", from: banger.StateRunning, to: banger.StateStopped, do: (*home).awaitsTheEnd},
		{name: "delete", from: banger.StateStopped, to: absent, done: banger.KindNotFound,
			do: remove(false)},
		{name: "delete of a broken one", alike: true, from: banger.StateBroken, to: absent, done: banger.KindNotFound, do: remove(false)},
		{name: "delete --force", from: banger.StateRunning, to: absent, via: []banger.State{banger.StateStopped}, done: banger.KindNotFound,
			do: remove(true)},
		{name: "delete --force of a paused one", alike: true, from: banger.StatePaused, to: absent, via: []banger.State{banger.StateStopped}, done: banger.KindNotFound,
			do: remove(true)},
		{name: "prune", alike: true, from: banger.StateStopped, to: absent, do: (*home).prune},
		{name: "port add", from: banger.StateRunning, to: banger.StateRunning, do: add, effect: publishes(1)},
		{name: "port remove", from: banger.StateRunning, to: banger.StateRunning, done: banger.KindNotFound,
			prepare: add, do: unpublish, effect: publishes(0)},
		{name: "port add to a stopped one", alike: true, from: banger.StateStopped, to: banger.StateStopped, do: add, effect: publishes(1)},
		{name: "port remove from a stopped one", alike: true, from: banger.StateStopped, to: banger.StateStopped, done: banger.KindNotFound,
			prepare: add, do: unpublish, effect: publishes(0)},
		{name: "recovery of what has ended", from: banger.StateRunning, to: banger.StateStopped,
			prepare: (*home).endUnseen, do: (*home).recover},
		{name: "recovery of a create that was cut off", from: absent, to: absent, via: []banger.State{banger.StateBroken}, quiet: true,
			prepare: (*home).cutOff, do: (*home).recover},
		{name: "recovery of a delete that was cut off", from: banger.StateStopped, to: absent, via: []banger.State{banger.StateBroken}, quiet: true,
			prepare: (*home).halfDelete, do: (*home).recover},
	}...)
}

func (h *home) commit(vm string) error {
	return do(h, func(ctx context.Context, c *client.Client) (api.Operation, error) {
		return c.CommitImage(ctx, vm, api.CommitRequest{Name: h.image()}, nil)
	})
}

func (h *home) pause(vm string) error {
	return do(h, func(ctx context.Context, c *client.Client) (api.VerbReply, error) { return c.PauseVM(ctx, vm) })
}

// running is the effect of a verb that starts a VM again, whatever has ended it.
func running(_ *home, vm banger.VM) error {
	if vm.State != banger.StateRunning {
		return fmt.Errorf("it is %s", vm.State)
	}
	return nil
}

// larger is what set makes a VM's disk, beyond what any image has.
const larger = 24 * banger.GiB

func set(h *home, vm string) error {
	image, kernel, size, team := h.spec.WithDefaults().Image, h.spec.Kernel, larger, "blue"
	return do(h, func(ctx context.Context, c *client.Client) (api.Operation, error) {
		return c.SetVM(ctx, vm, api.SetRequest{Image: &image, Kernel: &kernel, Disk: &size, Labels: map[string]*string{"team": &team}}, nil)
	})
}

func setLive(h *home, vm string) error {
	size, team := larger, "blue"
	return do(h, func(ctx context.Context, c *client.Client) (api.Operation, error) {
		return c.SetVM(ctx, vm, api.SetRequest{Disk: &size, Labels: map[string]*string{"team": &team}}, nil)
	})
}

func isSet(_ *home, vm banger.VM) error {
	if vm.DiskBytes != larger || vm.Labels["team"] != "blue" {
		return fmt.Errorf("it has a disk of %s and the labels %v", vm.DiskBytes, vm.Labels)
	}
	return nil
}

// publishes is the effect of a verb that leaves the VM with so many ports, which
// are listened on while it runs.
func publishes(want int) func(h *home, vm banger.VM) error {
	return func(h *home, vm banger.VM) error {
		if len(vm.Ports) != want {
			return fmt.Errorf("it publishes %v", vm.Ports)
		}
		taken := publish.Probe(banger.Port{HostIP: "127.0.0.1", HostPort: h.port, Protocol: "tcp"}) != nil
		if taken != (want > 0 && vm.State == banger.StateRunning) {
			return fmt.Errorf("it publishes %v and is %s; the port is in use: %t", vm.Ports, vm.State, taken)
		}
		return nil
	}
}

// prune deletes every VM that is stopped, as the command line does.
func (h *home) prune(string) error {
	list, err := h.list()
	if err != nil {
		return err
	}
	for _, vm := range list {
		if vm.State == banger.StateStopped {
			err = errors.Join(err, h.delete(vm.ID, false))
		}
	}
	return err
}

// awaitsTheEnd waits for the end of a VM whose VMM is killed meanwhile.
func (h *home) awaitsTheEnd(vm string) error {
	if err := h.killVMM(vm); err != nil {
		return err
	}
	reply, err := ask(h, func(ctx context.Context, c *client.Client) (api.WaitReply, error) {
		return c.WaitVM(ctx, vm, string(banger.StateStopped), 0)
	})
	if err == nil && !reply.Reached {
		err = fmt.Errorf("%s is %s", vm, reply.VM.State)
	}
	return err
}

// endsByItself kills a VM's VMM, as its own failure would, and waits until the
// daemon has seen it.
func (h *home) endsByItself(vm string) error {
	if err := h.killVMM(vm); err != nil {
		return err
	}
	return eventually(func() error {
		d, err := h.show(vm)
		if err == nil && d.State == banger.StateRunning {
			return fmt.Errorf("%s is still running", vm)
		}
		if banger.KindOf(err) == banger.KindNotFound {
			return nil
		}
		return err
	})
}

// killVMM kills a VM's VMM, if it has one.
func (h *home) killVMM(vm string) error {
	d, err := h.show(vm)
	if banger.KindOf(err) == banger.KindNotFound {
		return nil
	}
	if err != nil || d.Handles == nil {
		return err
	}
	if err := syscall.Kill(d.Handles.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}
