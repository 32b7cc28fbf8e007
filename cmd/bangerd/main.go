// Bangerd is banger's daemon, which the CLI starts on demand, and as
// `bangerd monitor` the process beside each running VM.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/config"
	"banger.dev/banger/internal/daemon"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/steps"
	"banger.dev/banger/internal/vmm"
	"banger.dev/banger/internal/vmm/qemu"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 0:
		err := serve()
		if err != nil {
			lastWords(err)
		}
		return err
	case args[0] == "monitor":
		syscall.Umask(0o077)
		log := slog.New(slog.NewTextHandler(monitor.NewOwnLog(os.Stderr), nil))
		drivers := map[banger.VMM]vmm.Driver{banger.VMMQEMU: qemu.Driver{}}
		err := monitor.Run(context.Background(), drivers, os.Stdin, os.Stdout, log)
		if err != nil {
			log.Error("bangerd ends", "err", err)
		}
		return err
	default:
		err := fmt.Errorf("%q is no argument: banger starts it when it is needed; try: banger daemon --help", args[0])
		fmt.Fprintln(os.Stderr, "bangerd:", err)
		return err
	}
}

func serve() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := daemon.Settle(); err != nil {
		return err
	}
	layout, err := paths.FromEnv(os.Getenv)
	if err != nil {
		return err
	}
	load := func() (config.Config, error) { return config.Load(layout.ConfigFile(), os.LookupEnv) }
	settings, err := load()
	if err != nil {
		return err
	}
	level := new(slog.LevelVar)
	log := slog.New(slog.NewTextHandler(daemon.NewLog(layout), &slog.HandlerOptions{Level: level}))
	return daemon.Run(ctx, daemon.Config{
		Layout: layout, Settings: settings, Reload: load, Steps: steps.Runner{Fault: faults(layout)}, Log: log, Level: level,
	})
}

// lastWords says in one line why the daemon ends: to people, and on standard
// output to the client that waits. The log's disk may be the one that is full.
func lastWords(err error) {
	known := banger.Error{Kind: banger.KindOf(err), Message: strings.ReplaceAll(err.Error(), "\n", "; "), Next: banger.NextOf(err)}
	slog.New(slog.NewTextHandler(os.Stderr, nil)).Error("bangerd ends", "err", known.Message, "next", known.Next)
	_ = json.NewEncoder(os.Stdout).Encode(api.ErrorReply{Error: known})
}
