package cli

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"banger.dev/banger/internal/api"
)

// noLogins is a user without any credentials.
func noLogins(t *testing.T) (home string) {
	home = t.TempDir()
	t.Setenv("HOME", home)
	for _, name := range []string{"REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"} {
		t.Setenv(name, "")
	}
	return home
}

func put(t *testing.T, content string, mode os.FileMode, path ...string) string {
	t.Helper()
	file := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return file
}

func wantCredentials(t *testing.T, want map[string]api.RegistryCredential, hosts ...string) {
	t.Helper()
	got, err := credentials(hosts)
	if err != nil {
		t.Error(err)
	} else if !reflect.DeepEqual(got, want) {
		t.Errorf("credentials of %q are %+v, not %+v", hosts, got, want)
	}
}

func TestCredentials(t *testing.T) {
	home := noLogins(t)
	ada, bob := api.RegistryCredential{Username: "ada", Password: "pass"}, api.RegistryCredential{Username: "bob", Password: "word"}
	const adas, bobs = `"auth":"YWRhOnBhc3M="`, `"auth":"Ym9iOndvcmQ="`
	wantCredentials(t, map[string]api.RegistryCredential{}, "registry.example")

	put(t, `{"auths":{"registry.example":{`+bobs+`}}}`, 0o600, home, ".config", "containers", "auth.json")
	wantCredentials(t, map[string]api.RegistryCredential{"registry.example": bob}, "registry.example")

	t.Setenv("REGISTRY_AUTH_FILE", put(t, `{"auths":{"other.example":{`+bobs+`}}}`, 0o600, home, "logins.json"))
	wantCredentials(t, map[string]api.RegistryCredential{"other.example": bob}, "registry.example", "other.example")

	put(t, `{"auths":{"https://index.docker.io/v1/":{`+adas+`}}}`, 0o600, home, ".docker", "config.json")
	wantCredentials(t, map[string]api.RegistryCredential{"index.docker.io": ada}, "index.docker.io", "other.example")
}

// A helper is asked as docker would ask it, and its failure is told.
func TestCredentialHelper(t *testing.T) {
	home := noLogins(t)
	put(t, `{"credHelpers":{"registry.example":"safe"}}`, 0o600, home, ".docker", "config.json")
	put(t, "#!/bin/sh\nread server; echo \"{\\\"Username\\\":\\\"ada\\\",\\\"Secret\\\":\\\"$1 $server\\\"}\"\n", 0o700, home, "docker-credential-safe")
	t.Setenv("PATH", home+":"+os.Getenv("PATH"))
	wantCredentials(t, map[string]api.RegistryCredential{"registry.example": {Username: "ada", Password: "get registry.example"}}, "registry.example")

	put(t, "#!/bin/sh\necho locked; exit 1\n", 0o700, home, "docker-credential-safe")
	if _, err := credentials([]string{"registry.example"}); err == nil || !strings.Contains(err.Error(), "locked") {
		t.Errorf("the helper's failure became %v", err)
	}
}

func TestDamagedLogins(t *testing.T) {
	home := noLogins(t)
	put(t, `{"auths":`, 0o600, home, ".docker", "config.json")
	if _, err := credentials([]string{"registry.example"}); err == nil {
		t.Error("a cut-off login file was taken for none")
	}
}
