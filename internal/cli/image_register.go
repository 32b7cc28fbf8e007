package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/archive"
	"banger.dev/banger/internal/client"
)

func newImageRegisterCommand(a *app) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "register --name NAME FILE",
		Short: "Make an image of an ext4 file system in a file",
		Long: `Make an image of an ext4 file system in a file, by copy, and print its digest. Its holes stay holes. The file system has to
be whole, as e2fsck sees it, and not in use; it is grown to the size of a VM's disk when that is first booted.

An image that had that name loses it; VMs that use it keep it.

  banger image register --name mine rootfs.ext4`,
		Args: between(1, 1, "FILE, with an ext4 file system in it"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if name == "" {
				return usageError(cmd, "image register needs --name NAME, the name of the image")
			}
			return a.runImageRegister(cmd.Context(), args[0], name)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name of the image")
	return cmd
}

func (a *app) runImageRegister(ctx context.Context, from, name string) error {
	in, err := packFile(from)
	if err != nil {
		return err
	}
	up := &sending{in: in, from: from, stage: "image", then: "check the file system"}
	img, err := upload(ctx, a, up, func(d *client.Client) (banger.Image, error) { return d.RegisterImage(ctx, name, up) })
	if err != nil {
		return err
	}
	return a.printImage(img)
}

// packFile is a tar of a file alone, under the name that the daemon wants.
func packFile(name string) (io.ReadCloser, error) {
	st, err := statSource(name)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, banger.Errorf(banger.KindInvalid, "%s is no file", name)
	}
	path, err := filepath.EvalSymlinks(name) // else the link would be packed
	if err != nil {
		return nil, banger.Errorf(banger.KindInvalid, "%w", err)
	}
	in, err := packTar(filepath.Dir(path), func(p *archive.Packer, dir *os.File) error {
		return p.AddOne(dir, filepath.Base(path), "rootfs.ext4")
	})
	if err != nil {
		return nil, banger.Errorf(banger.KindInvalid, "%w", err)
	}
	return in, nil
}
