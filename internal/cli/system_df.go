package cli

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"banger.dev/banger"
)

func newDfCommand(a *app) *cobra.Command {
	verbose := false
	cmd := &cobra.Command{
		Use:   "df [flags]",
		Short: "Say what VMs, images, kernels and the rest take on disk",
		Long: `Say what VMs, images, kernels and the rest take on disk: allocated blocks, each counted once, so that the sum is what
du says of the same directories. RECLAIMABLE is what "banger system prune --all" would remove.

  banger system df
  banger system df -v            each thing on a line of its own
  banger system df -o json`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.runDf(cmd.Context(), verbose) },
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "each thing, not each kind")
	return cmd
}

func (a *app) runDf(ctx context.Context, verbose bool) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	usage, err := d.Usage(ctx)
	switch {
	case err != nil:
		return err
	case a.json:
		return a.printJSON(usage)
	case verbose:
		return printTable(a.Stdout, entryRows(usage))
	}
	return printTable(a.Stdout, kindRows(usage))
}

// kindRows is a line for each kind, in the order of the entries.
func kindRows(usage banger.DiskUsage) [][]string {
	type sum struct {
		n, needed         int
		size, reclaimable banger.Bytes
	}
	var kinds []string
	sums := map[string]*sum{}
	for _, e := range usage.Entries {
		s := sums[e.Kind]
		if s == nil {
			s = &sum{}
			sums[e.Kind] = s
			kinds = append(kinds, e.Kind)
		}
		s.n++
		if e.NeededBy > 0 {
			s.needed++
		}
		s.size += e.Bytes
		s.reclaimable += e.Reclaimable
	}
	rows := [][]string{{"KIND", "COUNT", "NEEDED", "SIZE", "RECLAIMABLE"}}
	for _, kind := range kinds {
		s := sums[kind]
		rows = append(rows, []string{kind, strconv.Itoa(s.n), strconv.Itoa(s.needed), s.size.String(), s.reclaimable.String()})
	}
	return append(rows, []string{"total", "", "", usage.Total.String(), usage.Reclaimable.String()})
}

// entryRows is a line for each entry; of a VM, one for each of its parts.
func entryRows(usage banger.DiskUsage) [][]string {
	rows := [][]string{{"KIND", "NAME", "SIZE", "RECLAIMABLE", "NEEDED BY", "PATH"}}
	for _, e := range usage.Entries {
		needed := "-"
		if e.NeededBy > 0 {
			needed = plural(e.NeededBy, "VM")
		}
		rows = append(rows, []string{e.Kind, e.Name, e.Bytes.String(), e.Reclaimable.String(), needed, e.Path})
		for _, part := range []string{"system", "work", "logs", "other"} {
			if size := e.Parts[part]; size > 0 {
				rows = append(rows, []string{"", "  " + part, "  " + size.String(), "", "", ""})
			}
		}
	}
	return append(rows, []string{"total", "", usage.Total.String(), usage.Reclaimable.String(), "", ""})
}

func plural(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return strconv.Itoa(n) + " " + unit + "s"
}
