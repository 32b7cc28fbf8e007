package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/operation"
)

// operationInput is a request about one operation.
type operationInput struct {
	ID string `path:"id" doc:"The operation's id."`
}

type createInput struct{ Body api.CreateRequest }

// create refuses at once what can be refused at once; the rest is an operation.
func (s *Server) create(ctx context.Context, in *createInput) (*body[api.Operation], error) {
	req := in.Body
	spec := req.Spec.WithDefaults()
	var start *lifecycle.StartOptions
	if req.Start != nil {
		opts, err := startOptions(*req.Start)
		if err != nil {
			return nil, err
		}
		start = &opts
	}
	if err := s.VMs.Check(ctx, req.Name, spec); err != nil {
		return nil, err
	}
	op := s.beginOperation(ctx, "create", req.Name, req.Leash, func(ctx context.Context, report banger.ProgressFunc) (Result, error) {
		detail, err := s.VMs.Create(ctx, req.Name, spec, start, report)
		return Result{Detail: detail, Outcome: lifecycle.Outcome{Changed: true}}, err
	})
	return &body[api.Operation]{view(op.Snapshot())}, nil
}

type startInput struct {
	Ref  string `path:"ref"`
	Body *api.StartRequest
}

func (s *Server) start(ctx context.Context, in *startInput) (*body[api.Operation], error) {
	var req api.StartRequest
	if in.Body != nil {
		req = *in.Body
	}
	return s.beginVerb(ctx, "start", in.Ref, func() (verbRun, error) {
		opts, err := startOptions(req)
		return func(ctx context.Context, id string, report banger.ProgressFunc) (banger.Detail, lifecycle.Outcome, error) {
			return s.VMs.Start(ctx, id, opts, report)
		}, err
	})
}

type restartInput struct {
	Ref  string `path:"ref"`
	Body *api.RestartRequest
}

func (s *Server) restart(ctx context.Context, in *restartInput) (*body[api.Operation], error) {
	var req api.RestartRequest
	if in.Body != nil {
		req = *in.Body
	}
	return s.beginVerb(ctx, "restart", in.Ref, func() (verbRun, error) {
		opts, err := startOptions(req.Start)
		if err != nil {
			return nil, err
		}
		timeout, err := stopTimeout(req.StopTimeoutMS)
		return func(ctx context.Context, id string, report banger.ProgressFunc) (banger.Detail, lifecycle.Outcome, error) {
			return s.VMs.Restart(ctx, id, lifecycle.RestartOptions{StartOptions: opts, StopTimeout: timeout}, report)
		}, err
	})
}

type resetInput struct {
	Ref  string `path:"ref"`
	Body *api.ResetRequest
}

func (s *Server) reset(ctx context.Context, in *resetInput) (*body[api.Operation], error) {
	force := in.Body != nil && in.Body.Force
	return s.beginVerb(ctx, "reset", in.Ref, func() (verbRun, error) {
		return func(ctx context.Context, id string, report banger.ProgressFunc) (banger.Detail, lifecycle.Outcome, error) {
			return s.VMs.Reset(ctx, id, force, report)
		}, nil
	})
}

type setInput struct {
	Ref  string `path:"ref"`
	Body api.SetRequest
}

func (s *Server) set(ctx context.Context, in *setInput) (*body[api.Operation], error) {
	change := lifecycle.Change(in.Body)
	return s.beginVerb(ctx, "set", in.Ref, func() (verbRun, error) {
		return func(ctx context.Context, id string, report banger.ProgressFunc) (banger.Detail, lifecycle.Outcome, error) {
			return s.VMs.Set(ctx, id, change, report)
		}, nil
	})
}

// verbRun does a long verb to the VM with an id.
type verbRun func(ctx context.Context, id string, report banger.ProgressFunc) (banger.Detail, lifecycle.Outcome, error)

// beginVerb begins a long verb on a VM that is there. prepare judges the request
// once it is known which VM it is about: an unknown name comes first.
func (s *Server) beginVerb(ctx context.Context, kind, ref string, prepare func() (verbRun, error)) (*body[api.Operation], error) {
	vm, err := s.VMs.Show(ctx, ref)
	if err != nil {
		return nil, err
	}
	run, err := prepare()
	if err != nil {
		return nil, err
	}
	op := s.beginOperation(ctx, kind, vm.Name, false, func(ctx context.Context, report banger.ProgressFunc) (Result, error) {
		detail, outcome, err := run(ctx, vm.ID, report)
		return Result{Detail: detail, Outcome: outcome}, err
	})
	return &body[api.Operation]{view(op.Snapshot())}, nil
}

// beginOperation runs run as an operation, and counts it.
func (s *Server) beginOperation(ctx context.Context, kind, target string, leash bool, run func(context.Context, banger.ProgressFunc) (Result, error)) *operation.Op[Result] {
	return s.Operations.Begin(ctx, kind, target, leash, func(ctx context.Context, report banger.ProgressFunc) (result Result, err error) {
		ended := s.Metrics.Operation(kind)
		status := operation.Failed // so it stays if run panics
		defer func() { ended(string(status)) }()
		result, err = run(ctx, report)
		switch {
		case err == nil:
			status = operation.Done
		case ctx.Err() != nil:
			status = operation.Cancelled
		}
		return result, err
	})
}

// tellOperation tells that an operation has begun or ended.
func (s *Server) tellOperation(ctx context.Context, op operation.Snapshot[Result]) {
	v := view(op)
	e := banger.Event{
		Type: operationEvents[v.Status], Request: op.Request,
		Detail: map[string]string{"operation": v.ID, "kind": v.Kind, "target": v.Target},
	}
	if aboutVM(v.Kind) {
		e.VM = v.Target
	}
	if v.Result != nil {
		e.VMID = v.Result.ID
	}
	if v.Error != nil {
		e.Reason = v.Error.Message
	}
	s.Events.Emit(ctx, e)
}

var operationEvents = map[api.OperationStatus]banger.EventType{
	api.OperationRunning:   banger.EventOperationStarted,
	api.OperationDone:      banger.EventOperationDone,
	api.OperationFailed:    banger.EventOperationFailed,
	api.OperationCancelled: banger.EventOperationCancelled,
}

// aboutVM says whether operations of a kind have a VM for their target: those
// about something else begin with what it is, as in "image pull".
func aboutVM(kind string) bool { return !strings.Contains(kind, " ") }

// operations is all that run or ended a short while ago.
func (s *Server) operations(context.Context, *struct{}) (*body[[]api.Operation], error) {
	list := []api.Operation{} // never null
	for _, op := range s.Operations.List() {
		list = append(list, view(op))
	}
	return &body[[]api.Operation]{list}, nil
}

func (s *Server) operation(_ context.Context, in *operationInput) (*body[api.Operation], error) {
	op, err := s.Operations.Get(in.ID)
	if err != nil {
		return nil, err
	}
	return &body[api.Operation]{view(op.Snapshot())}, nil
}

func (s *Server) cancel(_ context.Context, in *operationInput) (*body[api.Operation], error) {
	op, err := s.Operations.Get(in.ID)
	if err != nil {
		return nil, err
	}
	op.Cancel()
	return &body[api.Operation]{view(op.Snapshot())}, nil
}

// watchOperation writes the operation after each change, until it has ended or the
// client is gone.
func (s *Server) watchOperation(w http.ResponseWriter, r *http.Request) {
	op, err := s.Operations.Get(r.PathValue("id"))
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	control := http.NewResponseController(w)
	for snapshot := range op.Watch(r.Context()) {
		if encoder.Encode(view(snapshot)) != nil || control.Flush() != nil {
			return // the client is gone
		}
	}
}

// view is an operation as it travels.
func view(s operation.Snapshot[Result]) api.Operation {
	v := api.Operation{
		ID: s.ID, Kind: s.Kind, Target: s.Target, Status: api.OperationStatus(s.Status),
		Progress: s.Progress, Started: s.Started,
	}
	if s.Status != operation.Running {
		v.Ended = &s.Ended
	}
	if s.Status == operation.Done {
		if v.Image, v.Kernel = s.Result.Image, s.Result.Kernel; v.Image == nil && v.Kernel == nil {
			detail := tidyDetail(s.Result.Detail)
			v.Result, v.Target = &detail, detail.Name // the daemon may have chosen the name
		}
		v.Changed, v.Note = s.Result.Outcome.Changed, s.Result.Outcome.Note
	}
	if s.Err != nil {
		v.Error = wireError(s.Request, s.Err)
	}
	return v
}

func statusText(status int) string { return strconv.Itoa(status) }
