package cli

import (
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

// credentials are what docker login, or a helper that the user has set up, knows
// of these registries. They are read here, for the daemon knows nothing of the
// user's environment, and given to it for one pull.
func credentials(hosts []string) (map[string]api.RegistryCredential, error) {
	list := map[string]api.RegistryCredential{}
	for _, host := range hosts {
		registry, err := name.NewRegistry(host)
		if err != nil {
			return nil, banger.Errorf(banger.KindInvalid, "%q is no registry: %w", host, err)
		}
		found, err := authn.DefaultKeychain.Resolve(registry)
		if err != nil {
			return nil, banger.Errorf(banger.KindUnavailable, "the credentials for %s cannot be read: %w", host, err).WithNext("docker login %s", host)
		}
		if found == authn.Anonymous {
			continue
		}
		c, err := found.Authorization()
		if err != nil {
			return nil, banger.Errorf(banger.KindUnavailable, "the credentials for %s cannot be read: %w", host, err).WithNext("docker login %s", host)
		}
		list[host] = api.RegistryCredential{Username: c.Username, Password: c.Password, IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken}
	}
	return list, nil
}
