package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rogpeppe/go-internal/testscript"
)

// startRegistry is `registry`: a registry on loopback for the time of the story,
// with an image of two layers in it as others make them, without an init, a
// shell by the name of sh and a user of its own. $REGISTRY is its host.
func startRegistry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: registry")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	host := l.Addr().String()
	ts.Check(l.Close())
	dir := ts.MkAbs("registry")
	ts.Check(os.Mkdir(dir, 0o755))
	config := filepath.Join(dir, "config.yml")
	ts.Check(os.WriteFile(config, fmt.Appendf(nil, "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s}\n", dir, host), 0o600))
	cmd := exec.Command("docker-registry", "serve", config)
	ts.Check(cmd.Start())
	dead := make(chan struct{})
	go func() { _ = cmd.Wait(); close(dead) }()
	ts.Defer(func() { _ = cmd.Process.Kill(); <-dead })
	for {
		if reply, err := http.Get("http://" + host + "/v2/"); err == nil {
			_ = reply.Body.Close()
			break
		}
		select {
		case <-dead:
			ts.Fatalf("docker-registry ended by itself")
		case <-time.After(20 * time.Millisecond):
		}
	}
	out := filepath.Join(dir, "layout")
	ts.Check(writeLayout(out))
	said, err := exec.Command("skopeo", "copy", "--dest-tls-verify=false", "--insecure-policy", "oci:"+out, "docker://"+host+"/tools/box:1").CombinedOutput()
	if err != nil {
		ts.Fatalf("skopeo: %v\n%s", err, said)
	}
	ts.Setenv("REGISTRY", host)
}

// saveImage is `saved FILE`: the image of the registry as docker save writes it.
func saveImage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: saved FILE")
	}
	img, err := newImage()
	ts.Check(err)
	tag, err := name.NewTag("tools/box:1")
	ts.Check(err)
	ts.Check(tarball.WriteToFile(ts.MkAbs(args[0]), tag, img))
}

// writeLayout makes the image as an OCI layout.
func writeLayout(dir string) error {
	img, err := newImage()
	if err != nil {
		return err
	}
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return p.AppendImage(img)
}

// newImage is the image. Its config has all that docker run honours.
func newImage() (v1.Image, error) {
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return nil, err
	}
	file := func(name, content string, mode int64) *tar.Header {
		return &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(content)), Uid: 70000, Gid: 70000, PAXRecords: map[string]string{"BANGER.content": content}}
	}
	link := func(kind byte, name, to string) *tar.Header {
		return &tar.Header{Name: name, Typeflag: kind, Linkname: to, Mode: 0o777}
	}
	low := []*tar.Header{file("bin/busybox", string(busybox), 0o755), link(tar.TypeLink, "bin/sh", "bin/busybox"),
		file("etc/passwd", "root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n", 0o644), file("srv/gone", "", 0o644), file("srv/low", "low", 0o644)}
	up := []*tar.Header{file("srv/.wh.gone", "", 0), file("srv/up", "up", 0o600),
		file("entry", "#!/bin/sh\necho \"entry $*\"\nexec \"$@\"\n", 0o755)}
	for _, applet := range []string{"id", "cat", "ls", "env", "pwd", "df", "stat", "echo", "dd", "rm", "sync", "fallocate", "grep", "touch"} {
		up = append(up, link(tar.TypeSymlink, "bin/"+applet, "busybox"))
	}
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: v1.RootFS{Type: "layers"}, Config: v1.Config{
		Env: []string{"GREETING=from the image", "PATH=/bin"}, WorkingDir: "/srv", User: "ada", Entrypoint: []string{"/entry"}, Cmd: []string{"echo", "cmd"},
	}})
	for _, headers := range [][]*tar.Header{low, up} {
		if err != nil {
			return nil, err
		}
		img, err = appendLayer(img, headers)
	}
	return img, err
}

func appendLayer(img v1.Image, headers []*tar.Header) (v1.Image, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		content := h.PAXRecords["BANGER.content"]
		h.PAXRecords = nil
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := io.Copy(w, strings.NewReader(content)); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(img, l)
}
