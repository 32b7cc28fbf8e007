package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/client"
)

// eventsRetry is how often a follower looks for the next daemon.
const eventsRetry = 250 * time.Millisecond

type eventsOptions struct {
	after    string
	filter   banger.EventFilter
	types    []string
	noFollow bool
}

func newEventsCommand(a *app) *cobra.Command {
	opts := &eventsOptions{}
	cmd := &cobra.Command{
		Use:   "events [flags]",
		Short: "Print what happens, as it happens",
		Long: `Print what happens to VMs, operations and the daemon, a line an event, from now on until interrupted. Each event
has an id, behind which a later run can go on; ids only grow. A daemon that is stopped or replaced ends nothing:
the stream goes on, without a gap, with the next one. It does not start one for that.

  banger events
  banger events --since 1h --no-follow
  banger events --after 41 --vm web --type vm.stopped -o json`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.runEvents(cmd, opts) },
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.after, "after", "", "begin with the event behind the one with this `ID`")
	flags.Var(&sinceValue{&opts.filter.Since}, "since", "begin with what is not older: how long ago (5m), or a time as in RFC 3339")
	flags.StringVar(&opts.filter.VM, "vm", "", "only of the VM with this `NAME` or id")
	flags.StringSliceVar(&opts.types, "type", nil, "only of this `TYPE`, such as vm.stopped (may be repeated)")
	flags.BoolVar(&opts.noFollow, "no-follow", false, "end with what has happened so far")
	return cmd
}

func (a *app) runEvents(cmd *cobra.Command, opts *eventsOptions) error {
	ctx, unread := a.whileRead(cmd.Context())
	defer unread()
	after := int64(-1)
	if opts.after != "" {
		n, err := strconv.ParseInt(opts.after, 10, 64)
		if err != nil || n < 0 {
			return usageError(cmd, "--after: %q is not the id of an event", opts.after)
		}
		after = n
	} else if opts.noFollow && opts.filter.Since.IsZero() {
		opts.filter.Since = time.Unix(0, 1) // all there are
	}
	for _, t := range opts.types {
		if !slices.Contains(banger.EventTypes(), banger.EventType(t)) {
			return usageError(cmd, "--type: no event is a %q; the types are %q", t, banger.EventTypes())
		}
		opts.filter.Types = append(opts.filter.Types, banger.EventType(t))
	}
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	for {
		after, err = a.printEvents(ctx, d, after, opts)
		cut := banger.KindOf(err) == banger.KindUnavailable && !errors.Is(err, client.ErrSkew)
		if ctx.Err() != nil || !cut || opts.noFollow || after < 0 {
			return a.outcome(ctx, err)
		}
		if d, err = a.nextDaemon(ctx); err != nil {
			return a.outcome(ctx, err)
		}
	}
}

// printEvents prints the events of one daemon until its stream ends. It returns
// the id behind which to go on: -1 if the stream did not even begin.
func (a *app) printEvents(ctx context.Context, d *client.Client, after int64, opts *eventsOptions) (int64, error) {
	stream, err := d.Events(ctx, after, opts.filter, !opts.noFollow)
	if err != nil {
		return after, err
	}
	defer stream.Close()
	for {
		e, err := stream.Next()
		if errors.Is(err, io.EOF) {
			return stream.After, nil
		}
		if err != nil {
			return stream.After, err
		}
		if err := a.printEvent(e); err != nil {
			return stream.After, &exitError{code: exitSIGPIPE}
		}
	}
}

// nextDaemon waits for a daemon that somebody else starts.
func (a *app) nextDaemon(ctx context.Context) (*client.Client, error) {
	tick := time.NewTicker(eventsRetry)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
		d, err := a.dial(ctx)
		if err == nil || banger.KindOf(err) != banger.KindUnavailable {
			return d, err
		}
	}
}

func (a *app) printEvent(e banger.Event) error {
	if a.json {
		return writeJSON(a.Stdout, e, "")
	}
	_, err := fmt.Fprintln(a.Stdout, escape(eventLine(e)))
	return err
}

// eventLine is an event on one line: id, time, type, VM, and what else there is
// to say of it.
func eventLine(e banger.Event) string {
	words := []string{strconv.FormatInt(e.ID, 10), e.Time.Local().Format("2006-01-02T15:04:05.000Z07:00"), string(e.Type)}
	if e.Type == banger.EventLost {
		return strings.Join(append(words, "events up to this id are forgotten and were not told"), " ")
	}
	if e.VM != "" {
		words = append(words, e.VM)
	}
	if e.Reason != "" {
		words = append(words, fmt.Sprintf("reason=%q", e.Reason))
	}
	for _, key := range slices.Sorted(maps.Keys(e.Detail)) {
		words = append(words, fmt.Sprintf("%s=%q", key, e.Detail[key]))
	}
	if e.Request != "" {
		words = append(words, "request="+e.Request)
	}
	return strings.Join(words, " ")
}
