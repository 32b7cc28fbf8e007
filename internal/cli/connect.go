package cli

import (
	"context"

	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/client"
)

// connect reaches the daemon, and starts it if need be.
func (a *app) connect(ctx context.Context) (*client.Client, error) {
	a.signals.watch()
	return a.reach(ctx, client.Autostart{
		Check: func() error {
			_, err := a.settings() // it would refuse to start, with the same words
			return err
		},
		Remark: func(line string) { a.remark("%s", line) },
	})
}

// dial reaches the daemon if it runs, for verbs that leave nothing half done.
func (a *app) dial(ctx context.Context) (*client.Client, error) {
	return a.reach(ctx, client.Autostart{Disabled: true})
}

func (a *app) reach(ctx context.Context, auto client.Autostart) (*client.Client, error) {
	layout, err := a.layout()
	if err != nil {
		return nil, err
	}
	d, err := client.Connect(ctx, layout, auto)
	if err != nil {
		return nil, err
	}
	a.clients = append(a.clients, d)
	return d, nil
}

// ping says who answers. The error has client.ErrNotRunning for a cause if
// nobody does.
func (a *app) ping(ctx context.Context) (api.Ping, error) {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	d, err := a.dial(ctx)
	if err != nil {
		return api.Ping{}, err
	}
	return d.Ping(ctx)
}
