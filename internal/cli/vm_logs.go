package cli

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/client"
)

// The log that is not the default one, as the daemon calls it.
const sourceVMM = "vmm"

type logsOptions struct {
	client.LogOptions
	serial, vmm bool
}

func newLogsCommand(a *app) *cobra.Command {
	opts := &logsOptions{LogOptions: client.LogOptions{Tail: -1}}
	cmd := &cobra.Command{
		Use:   "logs [flags] NAME",
		Short: "Print a VM's console, or what its VMM says",
		Long: `Print what a VM's kernel and init have written to its serial console, a time stamp a line, or with --vmm what
the VMM has said in its last run. On a terminal control characters are shown rather than obeyed. With --follow it
goes on until the VM has ended; a daemon that is stopped or replaced meanwhile ends nothing, and no line is lost or
repeated: it goes on with the next one, which others start.

  banger vm logs web | tail
  banger vm logs -f --since 5m web
  banger vm logs --vmm web`,
		Args:              oneVM(),
		ValidArgsFunction: a.completeVMs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case opts.Follow && a.json:
				return usageError(cmd, "--follow and -o json do not go together: what follows has no end")
			case opts.serial && opts.vmm:
				return usageError(cmd, "--serial and --vmm do not go together: they are two logs")
			case opts.vmm && !opts.Since.IsZero():
				return usageError(cmd, "--vmm and --since do not go together: the VMM's lines have no time stamps")
			case opts.vmm:
				opts.Source = sourceVMM
			}
			return a.runLogs(cmd.Context(), args[0], opts.LogOptions)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&opts.serial, "serial", false, "the serial console; this is the default")
	flags.BoolVar(&opts.vmm, "vmm", false, "what the VMM itself says")
	flags.BoolVarP(&opts.Follow, "follow", "f", false, "go on with what is written, until the VM has ended")
	flags.Var(&sinceValue{&opts.Since}, "since", "leave out what is older: how long ago (5m), or a time as in RFC 3339")
	flags.VarP(&linesValue{&opts.Tail}, "tail", "n", "of what is there already only the last `N` lines")
	return cmd
}

func (a *app) runLogs(ctx context.Context, ref string, opts client.LogOptions) error {
	ctx, unread := a.whileRead(ctx)
	defer unread()
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	stream, err := d.LogsVM(ctx, ref, opts)
	if err != nil {
		return err
	}
	if a.json {
		defer stream.Close()
		return a.printLogJSON(opts.Source, stream)
	}
	for {
		err := a.printLog(stream)
		stream.Close()
		if !opts.Follow && banger.KindOf(err) == banger.KindUnavailable {
			return banger.Errorf(banger.KindUnavailable, "the daemon ended while the log of %s was printed: %w", ref, err).WithNext("banger vm logs %s", ref)
		}
		if ctx.Err() != nil || banger.KindOf(err) != banger.KindUnavailable {
			return a.outcome(ctx, err)
		}
		stream, err = a.resumeLog(ctx, stream, opts)
		if banger.KindOf(err) == banger.KindNotFound {
			a.remark("%s was deleted meanwhile, and the rest of its log with it", ref)
			return nil
		}
		if err != nil {
			return a.outcome(ctx, err)
		}
	}
}

// resumeLog goes on behind a stream that was cut off, with the next daemon.
func (a *app) resumeLog(ctx context.Context, cut *client.LogStream, opts client.LogOptions) (*client.LogStream, error) {
	if cut.After != "" {
		opts.After, opts.Tail = cut.After, -1
	}
	for {
		d, err := a.nextDaemon(ctx)
		if err != nil {
			return nil, err
		}
		stream, err := d.LogsVM(ctx, cut.VM, opts)
		if err != nil && banger.KindOf(err) == banger.KindUnavailable && !errors.Is(err, client.ErrSkew) && ctx.Err() == nil {
			continue // it has just gone too
		}
		if err == nil && stream.Lost {
			a.remark("so much was written meanwhile that some of it is gone")
		}
		return stream, err
	}
}

// printLog prints a log until its end, which is nil.
func (a *app) printLog(stream *client.LogStream) error {
	show := func(line []byte) string { return string(line) }
	if isTerminal(a.Stdout) {
		show = func(line []byte) string { return escapeLines(string(line)) }
	}
	for {
		line, err := stream.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := io.WriteString(a.Stdout, show(line)); err != nil {
			return err
		}
	}
}

// printLogJSON prints an object with the whole log for its one key's value.
func (a *app) printLogJSON(key string, stream *client.LogStream) error {
	if key == "" {
		key = "console"
	}
	var whole strings.Builder
	for {
		line, err := stream.Next()
		if errors.Is(err, io.EOF) {
			return a.printJSON(map[string]string{key: whole.String()})
		}
		if err != nil {
			return err
		}
		whole.Write(line)
	}
}
