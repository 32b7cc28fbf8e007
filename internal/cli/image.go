package cli

import "github.com/spf13/cobra"

func newImageCommand(a *app) *cobra.Command {
	cmd := newGroup("image", "Get and see images, the root file systems of VMs", `Get and see images, the root file systems of VMs.

An image is named by a local name, its digest or the first 12 digits of that, an entry of the catalog such as debian, or
a reference of any registry.

  banger image pull alpine:3
  banger image list
  docker save mine | banger image import --name mine
  banger run --rm --image alpine:3 -- cat /etc/os-release
  banger image commit box mine
  banger image prune`)
	cmd.AddCommand(newImagePullCommand(a), newImageListCommand(a), newImageShowCommand(a), newImageImportCommand(a),
		newImageRegisterCommand(a), newImageCommitCommand(a), newImagePruneCommand(a), newImageDeleteCommand(a))
	return cmd
}
