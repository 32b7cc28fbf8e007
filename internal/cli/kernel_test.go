package cli

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKernelVerbs(t *testing.T) {
	w := newWorld(t).withDaemon()
	got := w.run("kernel", "list")
	if got.code != 0 || !strings.HasPrefix(got.stdout, "NAME ") || !strings.Contains(got.stdout, "debian-trixie *  6.12.1-cloud  0123456789ab  40MiB ") {
		t.Errorf("%+v", got)
	}
	got = w.run("kernel", "show", "mine")
	if got.code != 0 || !strings.Contains(got.stdout, "modules        7\n") || !strings.Contains(got.stdout, "vms            web\n               db\n") || strings.Contains(got.stdout, "default") {
		t.Errorf("%+v", got)
	}
	w.run("kernel", "pull", "debian").want(t, 0, "sha256:abc\n", "banger: the newest kernel of debian is here already\n")
	w.run("kernel", "delete", "mine").want(t, 0, "mine\n", "")
	w.wantQuestions("kernels", "kernel?ref=mine", "pull kernel", "delete kernel?ref=mine")
	if got := w.bodies["pull kernel"]; !strings.Contains(got, `"release":"debian","leash":true`) {
		t.Errorf("asked for %s", got)
	}
}

// The client opens what is imported, and sends no more than a kernel is made of.
func TestKernelImport(t *testing.T) {
	w := newWorld(t).withDaemon()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"mine.deb": "a package", "bzImage": "the image",
		"root/boot/vmlinuz-6.1": "its image", "root/usr/lib/modules/6.1/a.ko": "a module", "root/usr/share/doc/secret": "a secret",
		"out/lib/modules/6.1/modules.order": "an order", "out/lib/modules/6.1/kernel/b.ko": "b",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.run("kernel", "import", "--name", "mine", dir+"/mine.deb").want(t, 0, "sha256:def\n", "")
	if got := w.bodies["import kernel"]; got != "a package" {
		t.Errorf("sent %q", got)
	}
	w.runWith("from a pipe", "kernel", "import", "--name", "mine", "-").want(t, 0, "sha256:def\n", "")
	if got := w.bodies["import kernel"]; got != "from a pipe" {
		t.Errorf("sent %q", got)
	}
	w.run("kernel", "import", "--name", "mine", dir+"/root").want(t, 0, "sha256:def\n", "")
	got := w.bodies["import kernel"]
	for _, want := range []string{"boot/vmlinuz-6.1", "its image", "usr/lib/modules/6.1/a.ko"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in what was sent", want)
		}
	}
	if strings.Contains(got, "secret") {
		t.Error("what has no part in a kernel was sent")
	}
	for _, modules := range []string{"/out", "/out/lib/modules", "/out/lib/modules/6.1"} {
		w.run("kernel", "import", "--name", "mine", "--modules", dir+modules, dir+"/bzImage").want(t, 0, "sha256:def\n", "")
		got := w.bodies["import kernel"]
		if !strings.Contains(got, "the image") || !strings.Contains(got, "modules/kernel/b.ko") || strings.Contains(got, "lib/modules") {
			t.Errorf("%s: sent %q", modules, got)
		}
	}
	w.run("kernel", "import", "--name", "mine", dir+"/no").want(t, 3, "", "banger: there is no "+dir+"/no\n")
	w.run("kernel", "import", "--name", "mine", "--modules", dir+"/no", dir+"/bzImage").want(t, 3, "", "banger: there is no "+dir+"/no\n")
	w.run("kernel", "import", "--name", "mine", "--modules", dir+"/root", dir+"/bzImage").
		want(t, 2, "", "banger: "+dir+"/root has no kernel's modules: there is no modules.order in it\n")
	w.run("kernel", "import", "--name", "mine", "--modules", dir, dir+"/root").
		want(t, 2, "", "banger: --modules is for a kernel file, and "+dir+"/root is a directory\n")
}

// What is typed at a terminal is no kernel.
func TestKernelImportOfATerminal(t *testing.T) {
	w := newWorld(t).withDaemon()
	_, tty, _ := openTerminal(t)
	for _, verb := range []string{"image", "kernel"} {
		var stderr bytes.Buffer
		code := Run(t.Context(), w.process(tty, io.Discard, &stderr), []string{verb, "import", "--name", "mine", "-"})
		if code != 2 || !strings.Contains(stderr.String(), "from standard input, which is a terminal; try: ") {
			t.Errorf("%s import: %d, %q", verb, code, stderr.String())
		}
	}
	w.wantQuestions()
}
