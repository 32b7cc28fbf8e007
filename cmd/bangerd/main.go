// Bangerd is banger's daemon, which the CLI starts on demand, and as
// `bangerd monitor` the process beside each running VM.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"banger.dev/banger"
	"banger.dev/banger/internal/daemon"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/vmm"
	"banger.dev/banger/internal/vmm/qemu"
)

func main() {
	syscall.Umask(0o077)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(log, os.Args[1:]); err != nil {
		log.Error("bangerd ends", "err", err)
		os.Exit(1)
	}
}

func run(log *slog.Logger, args []string) error {
	switch {
	case len(args) == 0:
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		layout, err := paths.FromEnv(os.Getenv)
		if err != nil {
			return err
		}
		return daemon.Run(ctx, daemon.Config{Layout: layout, Fault: os.Getenv("BANGER_FAULT"), Log: log})
	case args[0] == "monitor":
		drivers := map[banger.VMM]vmm.Driver{banger.VMMQEMU: qemu.Driver{}}
		return monitor.Run(context.Background(), drivers, os.Stdin, os.Stdout, log)
	default:
		return fmt.Errorf("%q is no argument of bangerd: the CLI starts it, see banger help", args[0])
	}
}
