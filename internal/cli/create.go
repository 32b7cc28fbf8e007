package cli

import (
	"context"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

// create has the daemon make a VM, and start it if the request says so, and
// shows how far it is.
func (a *app) create(ctx context.Context, req api.CreateRequest) (banger.Detail, error) {
	if err := a.prepareImage(ctx, req.Spec.Image); err != nil {
		return banger.Detail{}, err
	}
	d, err := a.connect(ctx)
	if err != nil {
		return banger.Detail{}, err
	}
	progress := a.newProgress()
	defer progress.end()
	op, err := d.CreateVM(ctx, req, progress.report)
	if err != nil {
		return banger.Detail{}, err
	}
	if op.Result == nil {
		return banger.Detail{}, banger.Errorf(banger.KindInternal, "the daemon has made %s but does not describe it", op.Target)
	}
	progress.end()
	if op.Note != "" {
		a.remark("%s", op.Note)
	}
	return *op.Result, nil
}
