package cli

import (
	"context"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/workspace"
)

func newWorkspaceCommand(a *app) *cobra.Command {
	cmd := newGroup("workspace", "Copy a repository into a VM, and bring the changes back", `Copy a repository into a VM, and bring the changes back. Files come as they are in the working tree, tracked or not,
but for ignored ones, with a .git of their own. No git is needed in the VM.

  banger vm workspace prepare web .
  banger vm workspace export --apply web`)
	cmd.AddCommand(newWorkspacePrepareCommand(a), newWorkspaceExportCommand(a))
	return cmd
}

// workspaces are those of a VM.
func (a *app) workspaces(vm banger.Detail, progress *progress) (workspace.VM, error) {
	layout, err := a.layout()
	if err != nil {
		return workspace.VM{}, err
	}
	files := layout.VM(vm.ID)
	return workspace.VM{
		Name: vm.Name, Guest: filesOf(vm), Dir: files.Workspaces(), Lock: files.WorkspaceLock(), Progress: progress.report,
	}, nil
}

// prepare copies a directory into a VM and shows how far that is.
func (a *app) prepare(ctx context.Context, vm banger.Detail, name string, how workspace.Options) (workspace.Prepared, error) {
	progress := a.newProgress()
	defer progress.end()
	w, err := a.workspaces(vm, progress)
	if err != nil {
		return workspace.Prepared{}, err
	}
	p, err := workspace.Prepare(ctx, w, name, how)
	progress.end()
	if err == nil && p.Note != "" {
		a.remark("%s", p.Note)
	}
	return p, err
}
