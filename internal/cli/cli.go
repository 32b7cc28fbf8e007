// Package cli is the banger command: it parses, asks the daemon through
// internal/client, or the guest through internal/guest, and renders the answer.
// It decides nothing about VMs and never reaches the daemon's side of the house.
// One verb is one file: a constructor, an options struct, and what it runs.
package cli

import (
	"context"
	"io"
	"os"

	"banger.dev/banger/internal/client"
	"banger.dev/banger/internal/paths"
)

// Process is what the command takes from the process it runs in.
type Process struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	LookupEnv      func(string) (string, bool)
}

// Main runs the command with args (without the program's name) in this process
// and returns its exit code. It is the only function of the package that looks
// at the process itself.
func Main(args []string) int {
	return Run(context.Background(), Process{
		Stdin:     os.Stdin,
		Stdout:    os.Stdout,
		Stderr:    os.Stderr,
		LookupEnv: os.LookupEnv,
	}, args)
}

// Run runs the command with args (without the program's name) and returns its
// exit code. Signals for this process cancel it, or go to the guest while a
// command runs there, so there must be one Run at a time.
func Run(ctx context.Context, p Process, args []string) int {
	a := &app{Process: p, args: args}
	ctx, a.signals = newSignals(ctx)
	defer a.signals.stop()
	defer a.closeClients()
	root := newRootCommand(a, args)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return a.finish(cmd, args, err)
}

// app is one run of the command: its process and what every verb's flags share.
type app struct {
	Process
	args    []string // as they were typed
	signals *signals
	clients []*client.Client // closed at the end
	json    bool             // -o json
	quiet   bool             // -q
	unsaid  error            // the first failure of say
	ran     bool             // parsing is over: an error is no longer one of usage
}

func (a *app) closeClients() {
	for _, c := range a.clients {
		c.Close()
	}
}

// layout is where this user's banger keeps its files.
func (a *app) layout() (paths.Layout, error) {
	return paths.FromEnv(func(name string) string {
		value, _ := a.LookupEnv(name)
		return value
	})
}
