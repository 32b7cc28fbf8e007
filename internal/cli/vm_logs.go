package cli

import (
	"bufio"
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/client"
)

func newLogsCommand(a *app) *cobra.Command {
	opts := &client.LogOptions{Tail: -1}
	cmd := &cobra.Command{
		Use:   "logs [flags] NAME",
		Short: "Print a VM's console",
		Long: `Print what a VM's kernel and init have written to its console, a time stamp a line. On a terminal
control characters are shown rather than obeyed. With --follow it goes on until the VM has ended.

  banger vm logs web | tail
  banger vm logs -f --since 5m web`,
		Args:              oneVM(),
		ValidArgsFunction: a.completeVMs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.Follow && a.json {
				return usageError(cmd, "--follow and -o json do not go together: what follows has no end")
			}
			return a.runLogs(cmd.Context(), args[0], *opts)
		},
	}
	cmd.Flags().BoolVarP(&opts.Follow, "follow", "f", false, "go on with what is written, until the VM has ended")
	cmd.Flags().Var(&sinceValue{&opts.Since}, "since", "leave out what is older: how long ago (5m), or a time as in RFC 3339")
	cmd.Flags().VarP(&linesValue{&opts.Tail}, "tail", "n", "of what is there already only the last `N` lines")
	return cmd
}

func (a *app) runLogs(ctx context.Context, ref string, opts client.LogOptions) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	console, err := d.LogsVM(ctx, ref, opts)
	if err != nil {
		return err
	}
	defer console.Close()
	err = a.printText("console", console)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return banger.Errorf(banger.KindUnavailable, "the daemon ended while the console of %s was printed", ref).
			WithNext("banger vm logs --follow --since 1m %s", ref)
	}
	return err
}

// printText copies text to stdout, escaped if that is a terminal; with -o json
// it is the value of an object's one key.
func (a *app) printText(key string, text io.Reader) error {
	if a.json {
		whole, err := io.ReadAll(text)
		if err != nil {
			return err
		}
		return a.printJSON(map[string]string{key: string(whole)})
	}
	if !isTerminal(a.Stdout) {
		_, err := io.Copy(a.Stdout, text)
		return err
	}
	return copyEscaped(a.Stdout, text)
}

// copyEscaped copies in to out with control characters escaped, whole lines at
// a time where they are not huge, so that no character is cut in two.
func copyEscaped(out io.Writer, in io.Reader) error {
	reader := bufio.NewReaderSize(in, 64<<10)
	for {
		line, err := reader.ReadSlice('\n')
		if _, werr := io.WriteString(out, escapeLines(string(line))); werr != nil {
			return werr
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
