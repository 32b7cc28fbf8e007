package daemon

import (
	"context"
	"log/slog"

	"banger.dev/banger"
	"banger.dev/banger/internal/event"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/metrics"
	"banger.dev/banger/internal/suspend"
)

// observation is what is kept of what happens.
type observation struct {
	events  *event.Log
	metrics *metrics.Metrics // made after the manager whose VMs it shows
}

func (o *observation) booted(phases []banger.BootPhase) { o.metrics.Booted(phases) }

// keepClocks sets the guests' clocks whenever the host's has jumped, as after a
// suspend, until ctx ends; then the channel is closed.
func keepClocks(ctx context.Context, vms *lifecycle.Manager, log *slog.Logger) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		host, err := suspend.Open()
		if err == nil {
			err = suspend.Watch(ctx, host, func(j suspend.Jump) {
				log.InfoContext(ctx, "the host's clock has jumped, the guests' are set", "suspended", j.Suspended)
				vms.SetClocks(ctx)
			})
		}
		if err != nil {
			log.ErrorContext(ctx, "guests' clocks will not be set after a suspend", "err", err)
		}
	}()
	return done
}
