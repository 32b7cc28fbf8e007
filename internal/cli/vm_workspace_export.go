package cli

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"banger.dev/banger/internal/workspace"
)

type workspaceExportOptions struct {
	ignored bool
	apply   bool
	files   bool
	tar     bool
	branch  string
}

func newWorkspaceExportCommand(a *app) *cobra.Command {
	opts := &workspaceExportOptions{}
	cmd := &cobra.Command{
		Use:   "export [flags] NAME [PATH]",
		Short: "Bring back what was changed in a VM's workspace",
		Long: `Bring back what was changed in a VM's workspace since it was prepared: files that are new, other, renamed or gone,
committed or not, but for ignored ones. PATH says which workspace, if the VM has several. Nothing in the VM changes.

Without a flag a patch goes to stdout, as git apply reads it.

  banger vm workspace export web | git apply --check
  banger vm workspace export --apply web           into the working tree it came from, merged; all of it or nothing
  banger vm workspace export --branch fix-1 web    the commits made there, as a branch of the repository it came from
  banger vm workspace export --files web           the names alone; A new, M other, D gone`,
		Args:              opts.takeArguments,
		ValidArgsFunction: a.completeVMThenFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			path := ""
			if len(args) > 1 {
				path = args[1]
			}
			return a.runWorkspaceExport(cmd, opts, args[0], path)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&opts.apply, "apply", false, "change the working tree that it was copied from")
	flags.StringVar(&opts.branch, "branch", "", "make this branch of the commits, in the repository that it was copied from")
	flags.BoolVar(&opts.files, "files", false, "list the files")
	flags.BoolVar(&opts.tar, "tar", false, "write a tar of the files that are new or other")
	flags.BoolVar(&opts.ignored, "include-ignored", false, "ignored files too")
	return cmd
}

func (o *workspaceExportOptions) takeArguments(cmd *cobra.Command, args []string) error {
	given := 0
	for _, name := range []string{"apply", "branch", "files", "tar"} {
		if cmd.Flags().Changed(name) {
			given++
		}
	}
	if given > 1 {
		return usageError(cmd, "of --apply, --branch, --files and --tar only one can be")
	}
	return between(1, 2, "the name of a VM and of a directory in it")(cmd, args)
}

func (a *app) runWorkspaceExport(cmd *cobra.Command, opts *workspaceExportOptions, ref, path string) error {
	if opts.tar && isTerminal(a.Stdout) {
		return usageError(cmd, "a tar is not for a terminal: write to a file or a pipe")
	}
	ctx := cmd.Context()
	vm, err := a.runningVM(ctx, ref)
	if err != nil {
		return err
	}
	progress := a.newProgress()
	defer progress.end()
	w, err := a.workspaces(vm, progress)
	if err != nil {
		return err
	}
	e, err := workspace.NewExport(ctx, w, workspace.ExportOptions{Path: path, Ignored: opts.ignored})
	progress.end()
	if err != nil {
		return err
	}
	defer e.Close()
	if e.Note != "" {
		a.remark("%s", e.Note)
	}
	if e.LeftOut > 0 {
		a.remark("%d entries are left out: devices, pipes or sockets", e.LeftOut)
	}
	return a.export(ctx, e, opts)
}

func (a *app) export(ctx context.Context, e *workspace.Export, opts *workspaceExportOptions) error {
	switch {
	case opts.branch != "":
		carried, err := e.Branch(ctx, opts.branch)
		if err != nil {
			return err
		}
		return a.printCarried(opts.branch, carried)
	case opts.tar:
		return e.Tar(ctx, a.Stdout)
	case opts.apply:
		return a.printFiles(e.Apply(ctx))
	case opts.files:
		return a.printFiles(e.Files(ctx))
	}
	if isTerminal(a.Stdout) {
		return a.showPatch(ctx, e)
	}
	return e.Patch(ctx, a.Stdout)
}

// branched is a branch that was made, and where else it was.
type branched struct {
	Branch     string              `json:"branch"`
	Commit     string              `json:"commit"` // "" if commits were made in submodules alone
	Submodules []workspace.Carried `json:"submodules"`
}

func (a *app) printCarried(branch string, carried []workspace.Carried) error {
	b := branched{Branch: branch, Submodules: []workspace.Carried{}}
	for _, c := range carried {
		where := branch
		if c.Path == "." {
			b.Commit = c.Commit
		} else {
			b.Submodules = append(b.Submodules, c)
			where += " in " + c.Path
		}
		if !a.json {
			a.say(where + ": " + c.Commit)
		}
	}
	if a.json {
		return a.printJSON(b)
	}
	return nil
}

// showPatch shows a patch on a terminal, which what is in it is not to steer.
func (a *app) showPatch(ctx context.Context, e *workspace.Export) error {
	var patch strings.Builder
	if err := e.Patch(ctx, &patch); err != nil {
		return err
	}
	_, err := io.WriteString(a.Stdout, escapeLines(patch.String()))
	return err
}

func (a *app) printFiles(files []workspace.File, err error) error {
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(files)
	}
	for _, f := range files {
		a.say(f.Status + " " + f.Path)
	}
	return nil
}
