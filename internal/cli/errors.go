package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"banger.dev/banger"
)

// The exit codes that are not a kind's.
const (
	exitFailed    = 1
	exitUsage     = 2
	exitOurs      = 125 // run and exec: banger failed, not the command
	exitCannotRun = 126
	exitNotFound  = 127
	exitSignal    = 128 // + the signal's number
	exitSIGPIPE   = exitSignal + 13
)

// exitCodes is the one map from error kinds to exit codes.
var exitCodes = map[banger.Kind]int{
	banger.KindInternal:    exitFailed,
	banger.KindUnavailable: exitFailed,
	banger.KindInvalid:     exitUsage,
	banger.KindNotFound:    3,
	banger.KindConflict:    4,
	banger.KindCancelled:   130,
}

// exitError ends the command with a code of its own; err is printed unless it
// is nil, because then everything has been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// ownExitCodes marks the verbs whose exit code is that of a command in a
// guest, so that every failure of ours is 125.
const ownExitCodes = "exit-code-is-the-commands"

func runsACommand(cmd *cobra.Command) bool { return cmd.Annotations[ownExitCodes] != "" }

// finish prints what is left to say about err and gives the exit code. cmd is
// the verb that was found, or the root.
func (a *app) finish(cmd *cobra.Command, args []string, err error) int {
	if err == nil {
		err = a.unsaid
	}
	if err == nil {
		return 0
	}
	if !a.ran {
		// Parsing may have stopped before it came to -o json.
		a.json = a.json || asksForJSON(args)
		err = asUsageError(cmd, err)
	}
	if a.signals.interrupted() && !isExit(err) && banger.KindOf(err) != banger.KindCancelled {
		err = banger.Errorf(banger.KindCancelled, "interrupted")
	}
	var exit *exitError
	if errors.As(err, &exit) {
		if exit.err != nil {
			a.printError(exit.err)
		}
		return exit.code
	}
	a.printError(err)
	return exitCode(cmd, err)
}

func isExit(err error) bool {
	var exit *exitError
	return errors.As(err, &exit)
}

func exitCode(cmd *cobra.Command, err error) int {
	kind := kindOf(err)
	if kind != banger.KindCancelled && runsACommand(cmd) {
		return exitOurs
	}
	return exitCodes[kind]
}

// verbOf is cmd as it is typed behind banger.
func verbOf(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
}

func kindOf(err error) banger.Kind {
	if errors.Is(err, context.Canceled) {
		return banger.KindCancelled
	}
	if kind := banger.KindOf(err); exitCodes[kind] != 0 {
		return kind
	}
	return banger.KindInternal
}

// asUsageError turns an error of cobra's own into one of ours.
func asUsageError(cmd *cobra.Command, err error) error {
	var ours *banger.Error
	if errors.As(err, &ours) {
		return err
	}
	return usageError(cmd, "%s", firstLine(err.Error()))
}

// flagError words what pflag refuses in our manner: the flag, then why.
func flagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	var value *pflag.InvalidValueError
	if !errors.As(err, &value) {
		return usageError(cmd, "%s", firstLine(err.Error()))
	}
	flag := "--" + value.GetFlag().Name
	message := value.Unwrap().Error()
	if strings.HasPrefix(message, flag) {
		return usageError(cmd, "%s", message)
	}
	return usageError(cmd, "%s: %s", flag, message)
}

// asksForJSON says whether -o json is among args that could not be parsed.
func asksForJSON(args []string) bool {
	for i, arg := range args {
		switch arg {
		case "--":
			return false
		case "-ojson", "-o=json", "--output=json":
			return true
		case "-o", "--output":
			return i+1 < len(args) && args[i+1] == "json"
		}
	}
	return false
}

// printError writes err to stderr: one line with what to type next, or the
// JSON object.
func (a *app) printError(err error) {
	if a.json {
		var reply struct {
			Error struct {
				Kind    banger.Kind `json:"kind"`
				Message string      `json:"message"`
				Next    string      `json:"next"`
				Request string      `json:"request,omitempty"`
			} `json:"error"`
		}
		reply.Error.Kind, reply.Error.Message, reply.Error.Next = kindOf(err), err.Error(), banger.NextOf(err)
		reply.Error.Request = banger.RequestOf(err)
		_ = writeJSON(a.Stderr, reply, "")
		return
	}
	line := "banger: " + err.Error()
	if id := banger.RequestOf(err); id != "" && kindOf(err) == banger.KindInternal {
		line += " (request " + id + ")"
	}
	if next := banger.NextOf(err); next != "" {
		line += "; try: " + next
	}
	_, _ = fmt.Fprintln(a.Stderr, escapeLines(line))
}

// remark says something beside the answer, on stderr.
func (a *app) remark(format string, args ...any) {
	if !a.quiet && !a.json {
		_, _ = fmt.Fprintln(a.Stderr, escapeLines("banger: "+fmt.Sprintf(format, args...)))
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
