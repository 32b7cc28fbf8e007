package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cavaliergopher/cpio"
	"github.com/rogpeppe/go-internal/testscript"

	"banger.dev/banger/internal/image"
	"banger.dev/banger/internal/paths"
)

// privateCache: the story gets a cache of its own that begins as the shared
// one, so that what it spoils is its own. Big files are hard links. Another story
// may be having an image made meanwhile.
func privateCache(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: privatecache")
	}
	h := homeOf(ts)
	own := filepath.Join(h.dir, "cache")
	ts.Check(os.Mkdir(own, 0o755))
	for _, dir := range []string{"images", "kernels", "templates"} {
		from := filepath.Join(cache, dir)
		ts.Check(eventually(func() error { // again if something has got its name, or lost it, under rsync's eyes
			out, err := exec.Command("rsync", "-a", "--exclude=/tmp", "--exclude=/locks", "--link-dest="+from, from+"/", filepath.Join(own, dir)).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("copy the cache: %w\n%s", err, out)
			}
			return err
		}))
	}
	h.cache = own
	ts.Setenv("BANGER_CACHE", own)
}

// makeImage NAME static | noroot | full: an image of one static binary, one
// whose root is no file system, one whose root has no free block.
func makeImage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: image NAME static | noroot | full")
	}
	h := homeOf(ts)
	if h.cache == cache {
		ts.Fatalf("image: privatecache first")
	}
	store := image.New(paths.Layout{Cache: h.cache}, nil)
	program := buildProgram(ts, "hello")
	img, err := store.AddTar(context.Background(), args[0], tarOf(ts, args[0], program), image.Config{}, nil)
	ts.Check(err)
	switch args[1] {
	case "static":
	case "noroot":
		ts.Check(os.Remove(img.RootFS))
		ts.Check(os.WriteFile(img.RootFS, nil, 0o644))
		ts.Check(os.Truncate(img.RootFS, int64(img.Size)))
	case "full":
		fill(ts, img.RootFS)
	default:
		ts.Fatalf("no image is %q", args[1])
	}
}

// fill puts a root of 1 GiB without a free inode in an image's place: nothing
// can be made in it, and --disk 1GiB leaves no room to grow.
func fill(ts *testscript.TestScript, rootfs string) {
	const size = 1 << 30
	tree, err := os.MkdirTemp("", "bng-tree")
	ts.Check(err)
	defer func() { _ = os.RemoveAll(tree) }()
	const inodes = 256
	for i := range inodes {
		ts.Check(os.WriteFile(filepath.Join(tree, strconv.Itoa(i)), nil, 0o600))
	}
	for i := 0; ; i++ { // as many of them as fit
		replace(ts, rootfs, nil)
		ts.Check(os.Truncate(rootfs, size))
		out, err := exec.Command("/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-N", strconv.Itoa(inodes/2), "-d", tree, rootfs).CombinedOutput()
		if err == nil {
			break
		}
		if i == inodes {
			ts.Fatalf("mke2fs makes no full file system: %s", out)
		}
		ts.Check(os.Remove(filepath.Join(tree, strconv.Itoa(i))))
	}
	path := filepath.Join(filepath.Dir(rootfs), "manifest.json")
	var manifest map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(path)), &manifest))
	manifest["size"] = size
	b, err := json.Marshal(manifest)
	ts.Check(err)
	replace(ts, path, b)
}

// badKernel VARIABLE panic | hang: a kernel whose initramfs gets no guest ready;
// its digest goes to VARIABLE.
func badKernel(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: badkernel VARIABLE panic | hang")
	}
	h := homeOf(ts)
	if h.cache == cache {
		ts.Fatalf("badkernel: privatecache first")
	}
	kernels := filepath.Join(h.cache, "kernels")
	manifests, err := filepath.Glob(filepath.Join(kernels, "*", "manifest.json"))
	if err != nil || len(manifests) == 0 {
		ts.Fatalf("no kernel in %s: %v", kernels, err)
	}
	good := filepath.Dir(manifests[0])
	hex := strings.Repeat(map[string]string{"panic": "ba", "hang": "be"}[args[1]], 32)
	bad := filepath.Join(kernels, hex)
	if out, err := exec.Command("cp", "-al", good, bad).CombinedOutput(); err != nil {
		ts.Fatalf("%v\n%s", err, out)
	}
	initramfs := badInitramfs(ts, args[1])
	replace(ts, filepath.Join(bad, "initramfs.cpio"), initramfs)
	var manifest map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(filepath.Join(bad, "manifest.json"))), &manifest))
	manifest["digest"] = "sha256:" + hex
	manifest["sizes"].(map[string]any)["initramfs.cpio"] = len(initramfs)
	b, err := json.Marshal(manifest)
	ts.Check(err)
	replace(ts, filepath.Join(bad, "manifest.json"), b)
	ts.Setenv(args[0], "sha256:"+hex)
}

// replace gives a file other content without writing to what it is linked to.
func replace(ts *testscript.TestScript, path string, content []byte) {
	ts.Check(os.Remove(path))
	ts.Check(os.WriteFile(path, content, 0o644))
}

func badInitramfs(ts *testscript.TestScript, how string) []byte {
	program, err := os.ReadFile(buildProgram(ts, "badinit"))
	ts.Check(err)
	var b bytes.Buffer
	w := cpio.NewWriter(&b)
	entry := func(name string, mode cpio.FileMode, content []byte) {
		ts.Check(w.WriteHeader(&cpio.Header{Name: name, Mode: mode, Size: int64(len(content))}))
		_, err := w.Write(content)
		ts.Check(err)
	}
	entry("init", cpio.TypeReg|0o755, program)
	entry(how, cpio.TypeReg|0o644, nil)
	ts.Check(w.Close())
	return b.Bytes()
}

// buildProgram builds a static program of testdata/programs for the guest.
func buildProgram(ts *testscript.TestScript, name string) string {
	out := filepath.Join(homeOf(ts).dir, name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "./testdata/programs/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		ts.Fatalf("build %s: %v\n%s", name, err, text)
	}
	return out
}

// tarOf is a root with one file; the name makes it different from other tests'.
func tarOf(ts *testscript.TestScript, name, program string) io.Reader {
	content, err := os.ReadFile(program)
	ts.Check(err)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "hello", Mode: 0o755, Size: int64(len(content))})
	_, werr := w.Write(content)
	ts.Check(errors.Join(err, werr))
	ts.Check(w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "." + name, Mode: 0o644}))
	ts.Check(w.Close())
	return &b
}
