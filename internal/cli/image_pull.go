package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

func newImagePullCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "pull REF",
		Short: "Get an image from a registry, or make one of the catalog's",
		Long: `Get the newest image of a name from a registry, or make one of the catalog's, and print its digest. VMs that use an
older one of that name keep it.

REF is a tag or a digest of any OCI or Docker registry. What is for this host's architecture is taken, layers that are
here are not fetched again, and a pull that was cut off is gone on with. Credentials are those of docker login.
With docker-archive:, oci-archive: or oci: before it, a file or directory of this host is imported, under its own name.

  banger image pull alpine:3
  banger image pull ghcr.io/owner/name@sha256:…
  banger image pull 127.0.0.1:5000/mine
  banger image pull docker-archive:mine.tar`,
		Args:              between(1, 1, "REF, the image"),
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runImagePull(cmd.Context(), args[0])
		},
	}
}

func (a *app) runImagePull(ctx context.Context, ref string) error {
	if path, ok := archiveOf(ref); ok {
		return a.pullArchive(ctx, path)
	}
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	found, err := d.LookupImage(ctx, ref)
	if err != nil {
		return err
	}
	if found.Image != nil && len(found.Hosts) == 0 {
		a.remark("%s is here already", found.Image.Name)
		return a.printImage(*found.Image)
	}
	img, err := a.pull(ctx, ref, found.Hosts)
	if err != nil {
		return err
	}
	return a.printImage(img)
}

// archiveOf is the file or directory that ref names, in the words of skopeo and
// podman, if it is no reference of a registry.
func archiveOf(ref string) (path string, ok bool) {
	for _, transport := range []string{"docker-archive:", "oci-archive:", "oci:"} {
		if path, ok = strings.CutPrefix(ref, transport); ok {
			return path, true
		}
	}
	return "", false
}

// pullArchive imports an archive under the name that its file has.
func (a *app) pullArchive(ctx context.Context, path string) error {
	if _, err := statSource(path); err != nil {
		return err
	}
	name, _, _ := strings.Cut(filepath.Base(path), ".tar")
	if banger.ValidateImageName(name) != nil {
		return banger.Errorf(banger.KindInvalid, "%q gives no image a name", path).WithNext("banger image import --name NAME %s", path)
	}
	if err := a.runImageImport(ctx, path, name); err != nil {
		return err
	}
	a.remark("its name is %s", name)
	return nil
}

func (a *app) printImage(img banger.Image) error {
	if a.json {
		return a.printJSON(img)
	}
	_, err := fmt.Fprintln(a.Stdout, img.Digest)
	return err
}

// pull has the daemon get an image from these hosts, and shows how far it is.
func (a *app) pull(ctx context.Context, ref string, hosts []string) (banger.Image, error) {
	known, err := credentials(hosts)
	if err != nil {
		return banger.Image{}, err
	}
	d, err := a.connect(ctx)
	if err != nil {
		return banger.Image{}, err
	}
	progress := a.newProgress()
	defer progress.end()
	return imageOf(d.PullImage(ctx, api.PullRequest{Reference: ref, Credentials: known, Leash: true}, progress.report))
}

// imageOf is what an operation has made.
func imageOf(op api.Operation, err error) (banger.Image, error) {
	if err == nil && op.Image == nil {
		err = banger.Errorf(banger.KindInternal, "the daemon has the image %s but does not describe it", op.Target)
	}
	if err != nil {
		return banger.Image{}, err
	}
	return *op.Image, nil
}

// prepareImage pulls the image of a VM that is to be made, if it is a registry's
// and not here. What else an image may be, the create itself makes.
func (a *app) prepareImage(ctx context.Context, ref string) error {
	if ref == banger.DefaultImage {
		return nil
	}
	if path, ok := archiveOf(ref); ok {
		return banger.Errorf(banger.KindInvalid, "%s is no image yet: it has to be imported", path).WithNext("banger image pull %s", ref)
	}
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	found, err := d.LookupImage(ctx, ref)
	if err != nil || found.Image != nil || len(found.Hosts) == 0 {
		return err
	}
	_, err = a.pull(ctx, ref, found.Hosts)
	return err
}
