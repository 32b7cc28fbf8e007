package server

import (
	"context"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/lifecycle"
)

// defaultWait is how long one request waits if its client does not say.
const defaultWait = 30 * time.Second

type waitInput struct {
	Ref       string `path:"ref"`
	For       string `query:"for" doc:"stopped (default), running, or ready: a command can be run."`
	TimeoutMS int64  `query:"timeout_ms" doc:"How long this request may take; 30 s otherwise."`
}

// wait answers early when the daemon ends, so that its client asks the next one.
func (s *Server) wait(ctx context.Context, in *waitInput) (*body[api.WaitReply], error) {
	until := lifecycle.Condition(in.For)
	switch until {
	case "":
		until = lifecycle.UntilStopped
	case lifecycle.UntilStopped, lifecycle.UntilRunning, lifecycle.UntilReady:
	default:
		return nil, banger.Errorf(banger.KindInvalid, "--for %q: must be %s, %s or %s", in.For, lifecycle.UntilStopped, lifecycle.UntilRunning, lifecycle.UntilReady)
	}
	timeout := defaultWait
	if in.TimeoutMS != 0 {
		var err error
		if timeout, err = duration(in.TimeoutMS); err != nil {
			return nil, err
		}
	}
	ctx, cancel := s.untilClosing(ctx)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, timeout)
	defer cancel()
	vm, reached, err := s.VMs.Await(ctx, in.Ref, until)
	if err != nil {
		return nil, err
	}
	return &body[api.WaitReply]{api.WaitReply{VM: tidy(vm), Reached: reached}}, nil
}
