package cli

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/api"
)

// login is a user who has logged in to registry.example.
func login(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	config := `{"auths":{"registry.example":{"auth":"YWRhOnBhc3M="}}}` // ada:pass
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (w *world) pulled() api.PullRequest {
	w.mu.Lock()
	defer w.mu.Unlock()
	var req api.PullRequest
	if err := json.Unmarshal([]byte(w.bodies["pull"]), &req); err != nil {
		w.t.Errorf("nothing was pulled: %v", err)
	}
	return req
}

func TestImagePull(t *testing.T) {
	login(t)
	w := newWorld(t).withDaemon()
	w.lookup.Hosts = []string{"mirror.example", "registry.example"}
	w.run("image", "pull", "registry.example/mine").want(t, 0, "sha256:abc\n", "")
	want := api.PullRequest{Reference: "registry.example/mine", Leash: true, Credentials: map[string]api.RegistryCredential{"registry.example": {Username: "ada", Password: "pass"}}}
	if got := w.pulled(); !reflect.DeepEqual(got, want) {
		t.Errorf("asked for %+v", got)
	}
	w.lookup = api.ImageLookup{Image: &banger.Image{Name: "local", Digest: "sha256:def"}}
	w.run("image", "pull", "local").want(t, 0, "sha256:def\n", "banger: local is here already\n")
	w.run("image", "pull").want(t, 2, "", "banger: image pull needs REF, the image; try: banger image pull --help\n")
	w.run("image", "pull", "").want(t, 2, "", "banger: image pull takes REF, the image, and \"\" is none; try: banger image pull --help\n")
}

// What docker login has left to a helper, the helper is asked for: here, by the
// user's command, and not by the daemon.
func TestImagePullAsksTheHelper(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	helper := "#!/bin/sh\nread host\n[ \"$1 $host\" = 'get registry.example' ] && echo '{\"Username\":\"ada\",\"Secret\":\"pass\"}' || { echo 'credentials not found in native keychain'; exit 1; }\n"
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"credsStore":"broken","credHelpers":{"registry.example":"test","mirror.example":"test"}}`), 0o600),
		os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte(helper), 0o700),
	); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t).withDaemon()
	w.lookup.Hosts = []string{"mirror.example", "registry.example"}
	w.run("image", "pull", "registry.example/mine").want(t, 0, "sha256:abc\n", "")
	want := map[string]api.RegistryCredential{"registry.example": {Username: "ada", Password: "pass"}}
	if got := w.pulled().Credentials; !reflect.DeepEqual(got, want) {
		t.Errorf("gave %+v", got)
	}
	w.lookup.Hosts = []string{"other.example"} // whose helper is not there
	if got := w.run("image", "pull", "other.example/mine"); got.code != 0 && !strings.Contains(got.stderr, "try: docker login other.example") {
		t.Errorf("%+v", got)
	}
}

// A VM's image is pulled with the user's credentials if it is a registry's and
// not here, and not else.
func TestRunPulls(t *testing.T) {
	login(t)
	w := newWorld(t).withDaemon()
	w.lookup.Hosts = []string{"registry.example"}
	w.run("run", "--rm", "--image", "registry.example/mine", "--", "true").want(t, 0, "", "")
	w.wantQuestions("pull", "create", "lease", "exec [true]", "delete "+otter+"?force=true", "release")
	if got := w.pulled(); got.Credentials["registry.example"].Username != "ada" {
		t.Errorf("%+v", got)
	}
	w = newWorld(t).withDaemon()
	w.lookup = api.ImageLookup{Image: &banger.Image{Name: "registry.example/mine"}, Hosts: []string{"registry.example"}}
	w.run("vm", "create", "--image", "registry.example/mine").want(t, 0, "brave-otter\n", "")
	w.wantQuestions("create")
}

func TestImageList(t *testing.T) {
	w := newWorld(t).withDaemon()
	got := w.run("image", "list")
	if got.code != 0 || !strings.HasPrefix(got.stdout, "NAME ") {
		t.Errorf("%+v", got)
	}
}

func TestImageCatalog(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.run("image", "list", "--catalog").want(t, 0, "NAME    DIGEST        SOURCE         DESCRIPTION\n"+
		"debian  0123456789ab  debian:trixie  small\ndev     not here      debian:trixie  large\n", "")
	if got := w.run("image", "list", "--catalog", "-o", "json"); got.code != 0 || !strings.Contains(got.stdout, `"image": null`) {
		t.Errorf("%+v", got)
	}
}

func TestRunEntrypoint(t *testing.T) {
	for _, test := range []struct {
		args []string
		want []wire.Text
	}{
		{[]string{"--entrypoint", "/other", "--", "a"}, []wire.Text{"/other", "a"}},
		{[]string{"--entrypoint", "/other"}, []wire.Text{"/other"}},
		{[]string{"--entrypoint", "", "--", "a"}, []wire.Text{"a"}},
		{[]string{"--entrypoint="}, []wire.Text{"/bin/sh", "-c", shellScript}},
	} {
		w := newWorld(t).withDaemon()
		w.entrypoint, w.cmd = []string{"/entry"}, []string{"serve"}
		var got []wire.Text
		w.command = func(c *guestCall) wire.Exit {
			got = c.Argv
			return exitWith(0)
		}
		w.run(append([]string{"run", "--rm"}, test.args...)...).want(t, 0, "", "")
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q: ran %q, want %q", test.args, got, test.want)
		}
	}
	newWorld(t).run("run", "-d", "--entrypoint", "/x").want(t, 125, "", "banger: --entrypoint is for a command, and --detach runs none; try: banger run --help\n")
}

func TestImageShowAndDelete(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.lookup.Hosts = []string{"registry.example"}
	w.run("image", "show", "registry.example/a").want(t, 3, "", "banger: the image registry.example/a is not here; try: banger image pull registry.example/a\n")
	w.lookup.Image = &banger.Image{Name: "a", User: "ada", Cmd: []string{"x", "y"}}
	if got := w.run("image", "show", "a"); got.code != 0 || !strings.Contains(got.stdout, "cmd ") || !strings.Contains(got.stdout, "x y\n") || strings.Contains(got.stdout, "entrypoint") {
		t.Errorf("%+v", got)
	}
	w.run("image", "delete", "r.example/a:1").want(t, 0, "r.example/a:1\n", "")
	w.wantQuestions("delete image?ref=r.example%2Fa%3A1")
}

// The client opens what is imported, and says what is wrong with that.
func TestImageImport(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.runWith("a tar", "image", "import", "--name", "mine").want(t, 0, "sha256:abc\n", "")
	if got := w.bodies["import"]; got != "a tar" {
		t.Errorf("sent %q", got)
	}
	w.wantQuestions("import?name=mine")
	dir := t.TempDir()
	if err := os.Symlink("target", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	w.run("image", "import", "--name", "mine", dir).want(t, 0, "sha256:abc\n", "")
	if got := w.bodies["import"]; !strings.Contains(got, "link") || !strings.Contains(got, "target") {
		t.Errorf("sent %q", got)
	}
	w.run("image", "import", "--name", "mine", dir+"/no").want(t, 3, "", "banger: there is no "+dir+"/no\n")
	w.run("image", "import", dir).want(t, 2, "", "banger: image import needs --name NAME, the name of the image; try: banger image import --help\n")
}

// What others call an archive's reference is imported here: the daemon opens no
// file of the user's.
func TestImagePullOfAnArchive(t *testing.T) {
	w := newWorld(t).withDaemon()
	file := filepath.Join(t.TempDir(), "mine.tar.gz")
	if err := os.WriteFile(file, []byte("an archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.run("image", "pull", "docker-archive:"+file).want(t, 0, "sha256:abc\n", "banger: its name is mine\n")
	if got := w.bodies["import"]; got != "an archive" {
		t.Errorf("sent %q", got)
	}
	w.wantQuestions("import?name=mine")
	w.run("image", "pull", "oci:no/such").want(t, 3, "", "banger: there is no no/such\n")
	strange := filepath.Join(t.TempDir(), "Not!")
	if err := os.Mkdir(strange, 0o700); err != nil {
		t.Fatal(err)
	}
	w.run("image", "pull", "oci:"+strange).want(t, 2, "", "banger: \""+strange+"\" gives no image a name; try: banger image import --name NAME "+strange+"\n")
	w.run("run", "--rm", "--image", "oci:layout", "--", "true").want(t, 125, "", "banger: layout is no image yet: it has to be imported; try: banger image pull oci:layout\n")
}

func TestImageRegister(t *testing.T) {
	w := newWorld(t).withDaemon()
	file := filepath.Join(t.TempDir(), "fs")
	if err := os.WriteFile(file, []byte("a file system"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("fs", file+".link"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, file + ".link"} {
		w.run("image", "register", "--name", "mine", path).want(t, 0, "sha256:abc\n", "")
		if got := w.bodies["register"]; !strings.HasPrefix(got, "rootfs.ext4\x00") || !strings.Contains(got, "a file system") {
			t.Errorf("sent %.600q", got)
		}
	}
	w.run("image", "register", "--name", "mine", file+".no").want(t, 3, "", "banger: there is no "+file+".no\n")
	w.run("image", "register", "--name", "mine", filepath.Dir(file)).want(t, 2, "", "banger: "+filepath.Dir(file)+" is no file\n")
	w.run("image", "register", file).want(t, 2, "", "banger: image register needs --name NAME, the name of the image; try: banger image register --help\n")
}

func TestImageCommit(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.add("box", banger.StateStopped)
	w.run("image", "commit", "box", "mine").want(t, 0, "sha256:abc\n", "")
	var req api.CommitRequest
	if err := json.Unmarshal([]byte(w.bodies["commit"]), &req); err != nil || req != (api.CommitRequest{Name: "mine", Leash: true}) {
		t.Errorf("asked for %+v, %v", req, err)
	}
	w.run("image", "commit", "nosuch", "mine").want(t, 3, "", "banger: there is no VM \"nosuch\"; try: banger vm list\n")
	w.run("image", "commit", "box").want(t, 2, "", "banger: image commit needs VM, its name or id, and NAME, the name of the image; try: banger image commit --help\n")
}

func TestImagePrune(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.pruned = banger.Pruned{Entries: []banger.PrunedEntry{{DiskEntry: banger.DiskEntry{Kind: "image", Name: "old", Bytes: banger.MiB}, Removed: true}}, Freed: banger.MiB}
	w.run("image", "prune", "-a", "--force").want(t, 0, "image old: removed (1MiB)\n1MiB freed\n", "")
	w.wantQuestions("prune?all=true&dry=false&kind=image")
	w.run("image", "prune").want(t, 2, "", "banger: image old (1MiB)\nbanger: image prune asks first, and here is nobody to ask; try: banger image prune --force\n")
}
