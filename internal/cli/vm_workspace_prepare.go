package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"banger.dev/banger"
	"banger.dev/banger/internal/workspace"
)

func newWorkspacePrepareCommand(a *app) *cobra.Command {
	opts := &workspace.Options{}
	cmd := &cobra.Command{
		Use:   "prepare [flags] NAME [PATH]",
		Short: "Copy a repository, or another directory, into a running VM",
		Long: `Copy the repository that PATH is in (. without one) into a running VM, below the home of the VM's user, and print
where it is. Files come as they are in the working tree: tracked ones, and untracked ones that are not ignored. The copy
has a .git with the history, the branches and what is staged, without hooks and passwords.

A second time only what has changed is sent. What was changed in the VM stays, unless it was changed here too: that is an
error, and --force overwrites it, as it does a copy of something else. A directory that is no repository is copied
without node_modules, target and the like.

  banger vm workspace prepare web
  banger vm workspace prepare --branch fix-1 --depth 1 web ~/src/app`,
		Args:              between(1, 2, "the name of a VM and a directory"),
		ValidArgsFunction: a.completeVMThenFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "."
			if len(args) > 1 {
				path = args[1]
			}
			vm, err := a.runningVM(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			p, err := a.prepare(cmd.Context(), vm, path, *opts)
			if err != nil {
				return err
			}
			return a.printPrepared(p)
		},
	}
	flags := cmd.Flags()
	addWorkspaceFlags(flags, opts)
	flags.StringVar(&opts.Target, "target", "", "where it goes in the VM, absolute or below the home of its user; the directory's name otherwise")
	flags.BoolVar(&opts.Force, "force", false, "overwrite what was changed both here and in the VM, and what is no copy of this directory")
	return cmd
}

// addWorkspaceFlags are the flags of prepare and run that say what is copied.
func addWorkspaceFlags(flags *pflag.FlagSet, opts *workspace.Options) {
	flags.StringVar(&opts.Branch, "branch", "", "begin a new branch with this name in the copy")
	flags.StringVar(&opts.From, "from", "", "copy the files of this commit, and not the working tree's")
	flags.Var(&depthValue{&opts.Depth}, "depth", "commits of history that come along; all otherwise")
	flags.BoolVar(&opts.ReadOnly, "readonly", false, "nobody in the VM can write to the copy")
	flags.StringArrayVar(&opts.Include, "include-ignored", nil, "ignored files that come too, as git's pathspec (may be repeated)")
	flags.StringArrayVar(&opts.Exclude, "exclude", nil, "files that do not come, where it is no repository, as NAME, PATH or PATTERN (may be repeated)")
}

// depthValue is a number of commits, 1 or more.
type depthValue struct{ n *int }

func (v *depthValue) String() string {
	if v.n == nil || *v.n == 0 {
		return ""
	}
	return fmt.Sprint(*v.n)
}
func (v *depthValue) Type() string { return "N" }
func (v *depthValue) Set(s string) error {
	n := 0
	if err := (&countValue{&n}).Set(s); err != nil {
		return err
	}
	if n < 1 {
		return banger.Errorf(banger.KindInvalid, "%d must be 1 or more", n)
	}
	*v.n = n
	return nil
}

func (a *app) printPrepared(p workspace.Prepared) error {
	if a.json {
		return a.printJSON(p)
	}
	a.remark("%d files, of which %d were sent and %d removed", p.Files, p.Sent, p.Removed)
	_, err := fmt.Fprintln(a.Stdout, escape(p.Dir))
	return err
}

// completeVMThenFiles offers a VM first, and then what the shell has.
func (a *app) completeVMThenFiles(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || strings.Contains(prefix, "/") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.completeVMs(banger.StateRunning)(cmd, args, prefix)
}
