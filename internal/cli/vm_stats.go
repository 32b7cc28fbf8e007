package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/client"
)

const (
	// statsBetween is how long the two samples of one answer are apart, by which
	// the use of CPUs is told.
	statsBetween = 500 * time.Millisecond
	// statsEvery is how often the live table is drawn.
	statsEvery = 2 * time.Second
)

func newStatsCommand(a *app) *cobra.Command {
	noStream := false
	cmd := &cobra.Command{
		Use:        "stats [flags] [NAME...]",
		SuggestFor: []string{"top"},
		Short:      "Show what running VMs take",
		Long: `Show what VMs take of this host and of what was given to them: those named, or all that run. On a terminal the
table is drawn anew every two seconds until interrupted; elsewhere, with --no-stream and with -o json, there is one
sample. CPU is of one CPU, so that two busy vCPUs are 200 %. MEMORY is the VMM's and its monitor's on this host, GUEST
what the guest says it uses of what it has, DISK what it has written since its start and what its disks take. What is
not known, because a guest does not answer, is a dash, and null in JSON.

  banger vm stats
  banger vm stats --no-stream web
  banger vm stats -o json`,
		ValidArgsFunction: a.completeVMs(banger.StateRunning, banger.StatePaused),
		RunE: func(cmd *cobra.Command, args []string) error {
			live := isTerminal(a.Stdout) && !a.json && !noStream
			return a.runStats(cmd.Context(), unique(args), live)
		},
	}
	cmd.Flags().BoolVar(&noStream, "no-stream", false, "show one sample, on a terminal too")
	return cmd
}

func (a *app) runStats(ctx context.Context, refs []string, live bool) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	before, err := d.Stats(ctx, refs)
	if err != nil {
		return err
	}
	if len(before) > 0 {
		if before, err = nextStats(ctx, d, refs, before, statsBetween); err != nil {
			return err
		}
	}
	if live {
		return a.drawStats(ctx, d, refs, before)
	}
	if a.json {
		return a.printJSON(append([]banger.Stats{}, before...)) // [] and never null
	}
	return printTable(a.Stdout, statsRows(before))
}

// nextStats is the sample that comes a while after another.
func nextStats(ctx context.Context, d *client.Client, refs []string, before []banger.Stats, while time.Duration) ([]banger.Stats, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(while):
	}
	after, err := d.Stats(ctx, refs)
	for i := range after {
		for _, b := range before {
			after[i].Since(b)
		}
	}
	return after, err
}

// What a terminal is told, see ECMA-48: to the upper left corner, and to clear
// the rest of a line, or of the screen.
const (
	toCorner  = "\x1b[H"
	clearLine = "\x1b[K"
	clearRest = "\x1b[J"
)

// drawStats draws the table until ctx ends or a VM that was named is gone.
func (a *app) drawStats(ctx context.Context, d *client.Client, refs []string, now []banger.Stats) error {
	for {
		if _, err := io.WriteString(a.Stdout, toCorner+a.fitted(tableOf(statsRows(now)))+clearRest); err != nil {
			return err
		}
		var err error
		if now, err = nextStats(ctx, d, refs, now, statsEvery); err != nil {
			return err
		}
	}
}

// fitted is table for this terminal: no line longer than it is wide, and no more
// of them than it has.
func (a *app) fitted(table string) string {
	rows, cols := a.terminalSize()
	var out strings.Builder
	n := uint16(0)
	for line := range strings.Lines(table) {
		runes := []rune(strings.TrimSuffix(line, "\n"))
		if cols > 0 && len(runes) > int(cols) {
			runes = runes[:cols]
		}
		if n++; rows > 0 && n >= rows {
			break
		}
		out.WriteString(string(runes) + clearLine + "\r\n")
	}
	return out.String()
}

func statsRows(all []banger.Stats) [][]string {
	rows := [][]string{{"NAME", "STATE", "CPU", "MEMORY", "GUEST", "NET IN", "NET OUT", "WRITTEN", "ALLOCATED", "PIDS", "UPTIME"}}
	for _, s := range all {
		var written, allocated *banger.Bytes
		for _, disk := range s.Disks {
			if disk.WrittenBytes != nil {
				written = sum(written, banger.Bytes(*disk.WrittenBytes))
			}
			if disk.AllocatedBytes != nil {
				allocated = sum(allocated, *disk.AllocatedBytes)
			}
		}
		memory := s.VMMRSSBytes
		if memory != nil && s.MonitorRSSBytes != nil {
			memory = sum(memory, *s.MonitorRSSBytes)
		}
		rows = append(rows, []string{
			s.Name, string(s.State), known(s.CPUPercent, func(p float64) string { return fmt.Sprintf("%.1f%%", p) }),
			known(memory, banger.Bytes.String), guestMemory(s), known(s.NetReceivedBytes, counted), known(s.NetSentBytes, counted),
			known(written, banger.Bytes.String), known(allocated, banger.Bytes.String), known(s.PIDs, strconv.Itoa), known(s.UptimeSeconds, uptimeLine),
		})
	}
	return rows
}

// sum is a+b, where a may be nothing yet.
func sum(a *banger.Bytes, b banger.Bytes) *banger.Bytes {
	if a != nil {
		b += *a
	}
	return &b
}

// known is v in words, or a dash where nobody knows.
func known[T any](v *T, words func(T) string) string {
	if v == nil {
		return "-"
	}
	return words(*v)
}

func counted(n uint64) string { return banger.Bytes(n).String() }

func guestMemory(s banger.Stats) string {
	if s.MemoryUsedBytes == nil || s.MemoryTotalBytes == nil {
		return "-"
	}
	return s.MemoryUsedBytes.String() + " / " + s.MemoryTotalBytes.String()
}

// uptimeLine is 5s, 3m20s, 4h5m, 3d4h.
func uptimeLine(seconds float64) string {
	d := time.Duration(seconds) * time.Second
	switch {
	case d < time.Hour:
		return d.String()
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	}
}
