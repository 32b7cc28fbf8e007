package daemon

import (
	"context"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/image"
	"banger.dev/banger/internal/image/oci"
)

// images is the store as the server knows it.
type images struct{ *image.Store }

func (i images) Pull(ctx context.Context, ref string, credentials map[string]api.RegistryCredential, report banger.ProgressFunc) (banger.Image, bool, error) {
	list := map[string]oci.Credential{}
	for host, c := range credentials {
		list[host] = oci.Credential(c)
	}
	return i.Store.Pull(ctx, ref, list, report)
}
