package cli

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/guest"
	"banger.dev/banger/internal/transfer"
)

type cpOptions struct {
	archive bool
	follow  bool
}

func newCpCommand(a *app) *cobra.Command {
	opts := &cpOptions{}
	cmd := &cobra.Command{
		Use:        "cp [flags] SRC|- NAME:DST, or cp [flags] NAME:SRC DST|-",
		SuggestFor: []string{"copy", "scp", "transfer"},
		Short:      "Copy files to and from a running VM",
		Long: `Copy files to and from a running VM, by the rules of docker cp. A directory is copied with all that is in it: into
DST if that is a directory, as DST if there is none. SRC/. is what is in SRC. A directory that DST would be in must be
there. Paths in the VM begin at its root. A local path with a colon is written ./a:b.

With - as the source a tar from stdin is unpacked, with - as the destination a tar is written to stdout.

  banger cp notes.txt web:/root/
  banger cp src/. web:/srv/app
  banger cp web:/var/log/app.log .
  banger cp web:/etc - | tar -t

Files in the VM belong to root, and on this side to you, unless --archive keeps the numbers of their owners. No program
in the VM is needed. Whatever the VM sends, nothing but DST is written to; devices and pipes of its are left out.`,
		Args: between(2, 2, "a source and a destination"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runCp(cmd, opts, parsePlace(args[0]), parsePlace(args[1]))
		},
	}
	cmd.Flags().BoolVarP(&opts.archive, "archive", "a", false, "keep the numbers of owners and groups")
	cmd.Flags().BoolVarP(&opts.follow, "follow-link", "L", false, "copy what SRC leads to, if it is a link")
	return cmd
}

// copyPlace is a path on this side, or in a VM.
type copyPlace struct {
	vm   string // "" is this side
	path string
}

// parsePlace reads NAME:PATH as docker does: what begins with a slash or a dot
// is a local path whatever colons it has.
func parsePlace(arg string) copyPlace {
	vm, path, found := strings.Cut(arg, ":")
	if !found || filepath.IsAbs(arg) || strings.HasPrefix(vm, ".") || vm == "" {
		return copyPlace{path: arg}
	}
	return copyPlace{vm: vm, path: path}
}

func (p copyPlace) isStream() bool { return p.vm == "" && p.path == "-" }

func (a *app) runCp(cmd *cobra.Command, opts *cpOptions, src, dst copyPlace) error {
	switch {
	case src.vm == "" && dst.vm == "":
		return usageError(cmd, "neither %q nor %q is in a VM: write NAME:PATH", src.path, dst.path)
	case src.vm != "" && dst.vm != "":
		return usageError(cmd, "both are in a VM; copy to this side first, or pipe: banger cp %s:%s - | banger cp - %s:%s", src.vm, src.path, dst.vm, dst.path)
	case src.path == "" || dst.path == "":
		return usageError(cmd, "a path is missing behind the name of the VM")
	case dst.isStream() && isTerminal(a.Stdout):
		return usageError(cmd, "a tar is not for a terminal: write to a file or a pipe")
	}
	ctx := cmd.Context()
	c, err := a.newCopy(ctx, src.vm+dst.vm)
	if err != nil {
		return err
	}
	c.Archive, c.Follow = opts.archive, opts.follow
	progress := a.newProgress()
	defer progress.end()
	c.Progress = progress.report
	if dst.isStream() {
		return c.StreamOut(ctx, src.path, a.Stdout)
	}
	done, err := a.copy(ctx, c, src, dst)
	progress.end()
	if err != nil {
		return err
	}
	if done.LeftOut > 0 {
		a.remark("%d entries are left out: sockets, devices or pipes", done.LeftOut)
	}
	if a.json {
		return a.printJSON(done)
	}
	return nil
}

func (a *app) copy(ctx context.Context, c transfer.Copy, src, dst copyPlace) (transfer.Done, error) {
	switch {
	case src.isStream():
		return c.StreamIn(ctx, a.Stdin, dst.path)
	case src.vm == "":
		return c.In(ctx, src.path, dst.path)
	}
	return c.Out(ctx, src.path, dst.path)
}

// newCopy reaches the guest of a VM that runs.
func (a *app) newCopy(ctx context.Context, ref string) (transfer.Copy, error) {
	vm, err := a.runningVM(ctx, ref)
	if err != nil {
		return transfer.Copy{}, err
	}
	return transfer.Copy{Guest: filesOf(vm)}, nil
}

func filesOf(vm banger.Detail) guest.Files { return guest.NewFiles(vm.Name, vm.Paths["guest_socket"]) }
