package cli

import (
	"bufio"
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"
)

func newLogsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "logs NAME",
		Short: "Print a VM's console",
		Long: `Print what a VM's kernel and init have written to its console, a time stamp a line. On a terminal
control characters are shown rather than obeyed.

  banger vm logs web | tail`,
		Args:              oneVM(),
		ValidArgsFunction: a.completeVMs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runLogs(cmd.Context(), args[0])
		},
	}
}

func (a *app) runLogs(ctx context.Context, ref string) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	console, err := d.LogsVM(ctx, ref)
	if err != nil {
		return err
	}
	defer console.Close()
	return a.printText("console", console)
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
