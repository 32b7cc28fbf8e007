package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	docker "github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

// dockerHub is the host that docker.io's images come from, and dockerHubLogin
// the name that docker login keeps its credentials under.
const (
	dockerHub      = "index.docker.io"
	dockerHubLogin = "https://index.docker.io/v1/"
)

// credentials are what docker login, podman login or a helper that the user has
// set up knows of these registries. They are read here, for the daemon knows
// nothing of the user's environment, and given to it for one pull.
func credentials(hosts []string) (map[string]api.RegistryCredential, error) {
	list := map[string]api.RegistryCredential{}
	if len(hosts) == 0 {
		return list, nil
	}
	logins, err := readLogins()
	if err != nil {
		return nil, banger.Errorf(banger.KindUnavailable, "the credentials for registries cannot be read: %w", err)
	}
	for _, host := range hosts {
		server := host
		if host == dockerHub {
			server = dockerHubLogin
		}
		found, err := logins.GetAuthConfig(server)
		if err != nil {
			return nil, banger.Errorf(banger.KindUnavailable, "the credentials for %s cannot be read: %w", host, err).WithNext("docker login %s", host)
		}
		c := api.RegistryCredential{Username: found.Username, Password: found.Password, IdentityToken: found.IdentityToken, RegistryToken: found.RegistryToken}
		if c != (api.RegistryCredential{}) {
			list[host] = c
		}
	}
	return list, nil
}

// readLogins is the first login file that there is, empty if there is none.
func readLogins() (*configfile.ConfigFile, error) {
	for _, path := range loginFiles() {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // it was only read
		logins, err := docker.LoadFromReader(f)
		if err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
		return logins, err
	}
	return configfile.New(""), nil
}

// loginFiles are where docker login keeps credentials, and where podman login
// keeps them in the same form (containers-auth.json(5)).
func loginFiles() []string {
	dir := os.Getenv(docker.EnvOverrideConfigDir)
	if home, err := os.UserHomeDir(); err == nil && dir == "" {
		dir = filepath.Join(home, ".docker")
	}
	list := []string{filepath.Join(dir, docker.ConfigFileName)}
	if path := os.Getenv("REGISTRY_AUTH_FILE"); path != "" {
		list = append(list, path)
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		list = append(list, filepath.Join(dir, "containers", "auth.json"))
	}
	if dir, err := os.UserConfigDir(); err == nil {
		list = append(list, filepath.Join(dir, "containers", "auth.json"))
	}
	return list
}
