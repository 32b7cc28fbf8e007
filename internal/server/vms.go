package server

import (
	"context"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/lifecycle"
)

// VMs is what the server needs done. A ref is a VM's name, id, or unique prefix
// of its id; one that nothing has is banger.KindNotFound. Methods are safe for
// concurrent use.
type VMs interface {
	// Check says whether Create could be asked for this: a bad value is
	// KindInvalid, a taken name KindConflict. It changes nothing.
	Check(ctx context.Context, name string, spec banger.Spec) error
	// Create makes a VM, and starts it unless start is nil. After an error
	// nothing of it is left. A name of "" lets it choose.
	Create(ctx context.Context, name string, spec banger.Spec, start *lifecycle.StartOptions, report banger.ProgressFunc) (banger.Detail, error)
	Start(ctx context.Context, ref string, opts lifecycle.StartOptions, report banger.ProgressFunc) (banger.Detail, lifecycle.Outcome, error)
	Stop(ctx context.Context, ref string, timeout time.Duration) (banger.VM, lifecycle.Outcome, error)
	Kill(ctx context.Context, ref string) (banger.VM, lifecycle.Outcome, error)
	Restart(ctx context.Context, ref string, opts lifecycle.RestartOptions, report banger.ProgressFunc) (banger.Detail, lifecycle.Outcome, error)
	Pause(ctx context.Context, ref string) (banger.VM, lifecycle.Outcome, error)
	Resume(ctx context.Context, ref string) (banger.VM, lifecycle.Outcome, error)
	Reset(ctx context.Context, ref string, force bool, report banger.ProgressFunc) (banger.Detail, lifecycle.Outcome, error)
	Set(ctx context.Context, ref string, change lifecycle.Change, report banger.ProgressFunc) (banger.Detail, lifecycle.Outcome, error)
	// Commit makes an image of a stopped VM's system disk, with a local name.
	Commit(ctx context.Context, ref, name string, report banger.ProgressFunc) (banger.Image, error)
	// Await waits until a VM is as wanted, which reached says, or ctx has ended.
	Await(ctx context.Context, ref string, until lifecycle.Condition) (vm banger.VM, reached bool, err error)
	Delete(ctx context.Context, ref string, force bool) (banger.VM, lifecycle.Outcome, error)
	List(ctx context.Context) ([]banger.VM, error)
	Show(ctx context.Context, ref string) (banger.Detail, error)
	// AddPorts publishes ports, RemovePorts those that a banger.ParsePublished
	// names no more; all or, after an error, none of them.
	AddPorts(ctx context.Context, ref string, ports []banger.Port) (banger.VM, lifecycle.Outcome, error)
	RemovePorts(ctx context.Context, ref string, ports []banger.Port) (banger.VM, lifecycle.Outcome, error)
	// Console is what the guest has written to its console, or what the VMM says.
	// It ends with what is there now, or, with Follow, when the VM has ended or
	// ctx has.
	Console(ctx context.Context, ref string, opts lifecycle.ConsoleOptions) (*lifecycle.Console, error)
	// Stats is what these VMs take, or without refs those that are alive. One that
	// does not answer has what is known without its answer.
	Stats(ctx context.Context, refs []string) ([]banger.Stats, error)
	// SetClock sets the guest's clock to the host's, and says how far ahead of it
	// it was.
	SetClock(ctx context.Context, ref string) (drift time.Duration, err error)
}

// maxTimeout bounds what a client may ask for.
const maxTimeout = 24 * time.Hour

func (s *Server) list(ctx context.Context, _ *struct{}) (*body[[]banger.VM], error) {
	vms, err := s.VMs.List(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]banger.VM, len(vms)) // [] and never null
	for i, vm := range vms {
		list[i] = tidy(vm)
	}
	return &body[[]banger.VM]{list}, nil
}

func (s *Server) show(ctx context.Context, in *refInput) (*body[banger.Detail], error) {
	detail, err := s.VMs.Show(ctx, in.Ref)
	if err != nil {
		return nil, err
	}
	return &body[banger.Detail]{tidyDetail(detail)}, nil
}

type stopInput struct {
	Ref  string `path:"ref"`
	Body *api.StopRequest
}

func (s *Server) stop(ctx context.Context, in *stopInput) (*body[api.VerbReply], error) {
	var req api.StopRequest
	if in.Body != nil {
		req = *in.Body
	}
	timeout, err := stopTimeout(req.TimeoutMS)
	if err != nil {
		return nil, err
	}
	return verb(s.VMs.Stop(ctx, in.Ref, timeout))
}

func stopTimeout(ms int64) (time.Duration, error) {
	if ms == 0 {
		return lifecycle.DefaultStopTimeout, nil
	}
	return duration(ms)
}

// kill, pause, resume and delete go on when the client leaves: a VM is not half
// killed.
func (s *Server) kill(ctx context.Context, in *refInput) (*body[api.VerbReply], error) {
	return verb(s.VMs.Kill(context.WithoutCancel(ctx), in.Ref))
}

func (s *Server) pause(ctx context.Context, in *refInput) (*body[api.VerbReply], error) {
	return verb(s.VMs.Pause(context.WithoutCancel(ctx), in.Ref))
}

func (s *Server) resume(ctx context.Context, in *refInput) (*body[api.VerbReply], error) {
	return verb(s.VMs.Resume(context.WithoutCancel(ctx), in.Ref))
}

type deleteInput struct {
	Ref   string `path:"ref"`
	Force bool   `query:"force" doc:"Kill the VM first if it runs."`
}

func (s *Server) delete(ctx context.Context, in *deleteInput) (*body[api.VerbReply], error) {
	return verb(s.VMs.Delete(context.WithoutCancel(ctx), in.Ref, in.Force))
}

func verb(vm banger.VM, outcome lifecycle.Outcome, err error) (*body[api.VerbReply], error) {
	if err != nil {
		return nil, err
	}
	return &body[api.VerbReply]{api.VerbReply{VM: tidy(vm), Changed: outcome.Changed, Note: outcome.Note}}, nil
}

type statsInput struct {
	VMs []string `query:"vm,explode" doc:"A VM's name, id, or unique id prefix; none: those that are alive."`
}

func (s *Server) stats(ctx context.Context, in *statsInput) (*body[[]banger.Stats], error) {
	stats, err := s.VMs.Stats(ctx, in.VMs)
	if err != nil {
		return nil, err
	}
	return &body[[]banger.Stats]{append([]banger.Stats{}, stats...)}, nil // [] and never null
}

// tidy makes maps objects and lists arrays in JSON, also without anything in them.
func tidy(vm banger.VM) banger.VM {
	if vm.Labels == nil {
		vm.Labels = map[string]string{}
	}
	if vm.Ports == nil {
		vm.Ports = []banger.Port{}
	}
	return vm
}

func tidyDetail(d banger.Detail) banger.Detail {
	d.VM = tidy(d.VM)
	if d.Addresses == nil {
		d.Addresses = []string{}
	}
	if d.Paths == nil {
		d.Paths = map[string]string{}
	}
	return d
}

// startOptions reads what a client says of a start.
func startOptions(req api.StartRequest) (lifecycle.StartOptions, error) {
	opts := lifecycle.StartOptions{Wait: lifecycle.WaitFor(req.Wait), Leased: req.Leased, Overcommit: req.Overcommit}
	switch opts.Wait {
	case "":
		opts.Wait = lifecycle.WaitReady
	case lifecycle.WaitReady, lifecycle.WaitInit:
	default:
		return opts, banger.Errorf(banger.KindInvalid, "--wait %q: must be %s or %s", req.Wait, lifecycle.WaitReady, lifecycle.WaitInit)
	}
	opts.Timeout = lifecycle.DefaultStartTimeout
	var err error
	if req.TimeoutMS != 0 {
		opts.Timeout, err = duration(req.TimeoutMS)
	}
	return opts, err
}

func duration(ms int64) (time.Duration, error) {
	if ms < 0 || ms > maxTimeout.Milliseconds() {
		return 0, banger.Errorf(banger.KindInvalid, "--timeout of %d ms: must be from 1 ms to %s", ms, maxTimeout)
	}
	return time.Duration(ms) * time.Millisecond, nil
}
