package cli

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/archive"
	"banger.dev/banger/internal/client"
)

func newImageImportCommand(a *app) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "import --name NAME [FILE|DIR|-]",
		Short: "Make an image of a docker archive, an OCI layout or a tar or directory of a root",
		Long: `Make an image of a file, a directory or standard input, and print its digest. What it is is seen from what is in it: what
docker save writes, an OCI layout, as a tar or as a directory, or else a root file system, as a tar or as a directory.
A tar may be compressed by gzip or zstd. Files of yours in a directory become root's.

An image that had that name loses it; VMs that use it keep it.

  docker save mine | banger image import --name mine
  banger image import --name mine layout/
  banger image import --name ubuntu ubuntu-base-24.04-base-amd64.tar.gz`,
		Args: between(0, 1, "FILE, DIR or -"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if name == "" {
				return usageError(cmd, "image import needs --name NAME, the name of the image")
			}
			return a.runImageImport(cmd.Context(), append(args, "-")[0], name)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name of the image")
	return cmd
}

func (a *app) runImageImport(ctx context.Context, from, name string) error {
	img, err := a.importImage(ctx, from, name)
	if err != nil {
		return err
	}
	return a.printImage(img)
}

func (a *app) importImage(ctx context.Context, from, name string) (banger.Image, error) {
	in, size, err := a.openArchive(from)
	if err != nil {
		return banger.Image{}, err
	}
	up := &sending{in: in, from: from, stage: "image", then: "unpack and write the file system", total: size}
	return upload(ctx, a, up, func(d *client.Client) (banger.Image, error) { return d.ImportImage(ctx, name, up) })
}

// openArchive is what is to be imported as a stream, and its size if that is known.
func (a *app) openArchive(from string) (in io.ReadCloser, size int64, err error) {
	if from == "-" {
		in, err = a.standardInput("image import reads an archive", "docker save IMAGE | banger image import --name NAME")
		return in, 0, err
	}
	st, err := statSource(from)
	if err != nil {
		return nil, 0, err
	}
	if st.IsDir() {
		in, err = packRoot(from)
	} else {
		in, err = os.Open(from)
		size = st.Size()
	}
	if err != nil {
		return nil, 0, banger.Errorf(banger.KindInvalid, "%w", err)
	}
	return in, size, nil
}

// packRoot is a tar of what is in a directory.
func packRoot(name string) (io.ReadCloser, error) {
	return packTar(name, func(p *archive.Packer, dir *os.File) error {
		p.Xattrs = true
		return p.Add(dir, ".", ".")
	})
}
