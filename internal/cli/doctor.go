package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/client"
	"banger.dev/banger/internal/doctor"
	"banger.dev/banger/internal/paths"
)

func newDoctorCommand(a *app) *cobra.Command {
	fix := false
	cmd := &cobra.Command{
		Use:   "doctor [flags]",
		Short: "Say what this host can do, what is missing, and what is left over",
		Long: `Say what this host can do, what is missing and how to install it, and what is left over that belongs to no VM.
It works without a daemon, and starts one only where there are VMs or a cache to be asked about. With -q only what
is wrong is said.

With --fix what is left over is removed. The directory of a VM that the database does not know is kept if it holds
disks, unless the VM is known to have been deleted: the database may have been lost, and the disks are not.

  banger doctor
  banger doctor --fix
  banger doctor -o json | jq .ok

Exit code: 0 if VMs can be made and run and nothing is left over, 1 if not.`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.runDoctor(cmd.Context(), fix) },
	}
	cmd.Flags().BoolVar(&fix, "fix", false, "remove what is left over")
	return cmd
}

func (a *app) runDoctor(ctx context.Context, fix bool) error {
	report := a.examine(ctx, fix)
	if err := ctx.Err(); err != nil {
		return err
	}
	report.Judge()
	if err := a.printReport(report); err != nil {
		return err
	}
	if !report.OK {
		return &exitError{code: exitFailed}
	}
	return nil
}

// examine asks the daemon about its home, and looks at the host itself.
func (a *app) examine(ctx context.Context, fix bool) doctor.Report {
	report := doctor.Report{Strays: []banger.Stray{}}
	layout, err := a.layout()
	if err != nil { // there is nothing to look at
		report.Checks = []banger.Check{banger.CheckOf("paths", err, "")}
		return report
	}
	_, err = a.settings()
	settings := banger.CheckOf("settings", err, layout.ConfigFile())
	daemon, home := a.askDaemon(ctx, layout, fix)
	report.Strays = append(report.Strays, home.Strays...)
	host := doctor.Examiner{Layout: layout, Root: "/", UID: os.Geteuid(), Find: doctor.Find, Cached: home.Cached}
	report.Profile, report.Checks = host.Examine(ctx)
	report.Checks = append(append(report.Checks, settings, daemon), home.Checks...)
	return report
}

// How long the daemon may take to answer: to look, which may ask a mirror, and
// to remove, for which guests may have to power off.
const (
	examineTimeout = time.Minute
	fixTimeout     = 10 * time.Minute
)

// askDaemon is a check of the daemon, and what it says of its home. One that
// does not run is started if there is something to ask it about.
func (a *app) askDaemon(ctx context.Context, layout paths.Layout, fix bool) (banger.Check, api.DoctorReply) {
	const name = "daemon"
	_, err := a.ping(ctx)
	running := !errors.Is(err, client.ErrNotRunning) // one that is slow to answer does
	if !running && !anything(layout) {
		return banger.CheckOf(name, nil, "not running; it starts when a verb needs it"), api.DoctorReply{}
	}
	patience := examineTimeout
	if fix {
		patience = fixTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d, err := a.connect(ctx)
	if err != nil {
		return unasked(name, err), api.DoctorReply{}
	}
	ping, err := d.Ping(ctx)
	if err != nil {
		return unasked(name, err), api.DoctorReply{}
	}
	home, err := d.Examine(ctx, fix)
	if err != nil {
		return unasked(name, err), home
	}
	found := fmt.Sprintf("running, pid %d, version %s", ping.PID, ping.Version)
	if !running {
		found += ", started by this"
	}
	return banger.CheckOf(name, nil, found), home
}

// unasked is the check of a daemon that could not be asked.
func unasked(name string, err error) banger.Check {
	c := banger.CheckOf(name, err, "")
	c.Message += "; so nobody knows what is left over"
	return c
}

// anything says whether this home has, or may have had, VMs or a cache.
func anything(l paths.Layout) bool {
	for _, path := range []string{l.State, l.Cache, l.RunVMs()} {
		if _, err := os.Lstat(path); err == nil {
			return true
		}
	}
	return false
}

func (a *app) printReport(r doctor.Report) error {
	if a.json {
		return a.printJSON(r)
	}
	var rows [][]string
	if !a.quiet {
		rows = append(rows, []string{"profile", "", r.Profile})
	}
	for _, c := range r.Checks {
		if !a.quiet || c.Status == banger.CheckFailed {
			rows = append(rows, []string{c.Name, checkMark(c.Status), withNext(c.Message, c.Next)})
		}
	}
	for _, s := range r.Strays {
		if !a.quiet || !s.Fixed {
			rows = append(rows, []string{"left over", strayMark(s), strayLine(s)})
		}
	}
	return printTable(a.Stdout, rows)
}

func checkMark(s banger.CheckStatus) string {
	switch s {
	case banger.CheckOK:
		return "ok"
	case banger.CheckAbsent:
		return "-"
	}
	return "FAILED"
}

func strayMark(s banger.Stray) string {
	switch {
	case s.Fixed:
		return "removed"
	case s.Error != "":
		return "FAILED"
	}
	return "FOUND"
}

func strayLine(s banger.Stray) string {
	line := s.What + ": " + s.Reason
	if s.Bytes > 0 {
		line += fmt.Sprintf(" (%s)", s.Bytes)
	}
	switch {
	case s.Fixed:
		return line
	case s.Error != "":
		return line + ": " + s.Error
	case s.Fixable:
		return withNext(line, "banger doctor --fix")
	}
	return withNext(line, s.Next)
}

func withNext(line, next string) string {
	if next == "" {
		return line
	}
	return line + "; try: " + next
}
