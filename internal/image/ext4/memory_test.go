package ext4_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/image/ext4"
	"banger.dev/banger/internal/image/layer"
)

// manySmall is a layer of so many small files, made while it is read.
type manySmall int

func (n manySmall) Open() (io.ReadCloser, error) {
	out, in := io.Pipe()
	go func() { _ = in.CloseWithError(n.write(in)) }()
	return out, nil
}

func (n manySmall) write(out io.Writer) error {
	w := tar.NewWriter(out)
	content := bytes.Repeat([]byte{'x'}, 100)
	for i := range int(n) {
		h := &tar.Header{Name: fmt.Sprintf("usr/lib/d%d/s%d/small-file-%d", i%7, i%100, i), Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(content); err != nil {
			return err
		}
	}
	return w.Close()
}

// TestMemoryOfManyFiles makes a file system of many files, in make soak of
// 300,000, in a process of its own: it takes 128 MiB and 500 bytes for each at
// most.
func TestMemoryOfManyFiles(t *testing.T) {
	const variable = "BANGER_TEST_MEMORY"
	files := int64(50_000)
	if os.Getenv("BANGER_SOAK") != "" {
		files = 300_000
	}
	if path := os.Getenv(variable); path != "" {
		if _, err := ext4.FromLayers(t.Context(), path, []ext4.Layer{manySmall(files)}, layer.DefaultLimits(), ext4.Options{Size: 8 * banger.GiB}); err != nil {
			t.Fatal(err)
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Printf("heap %d\n", m.HeapSys) // of which nothing is given back
		return
	}
	need(t, "mke2fs", "e2fsck")
	path := filepath.Join(t.TempDir(), "root.ext4")
	cmd := exec.Command(os.Args[0], "-test.run=^TestMemoryOfManyFiles$")
	cmd.Env = append(os.Environ(), variable+"="+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, rest, _ := strings.Cut(string(out), "heap ")
	line, _, _ := strings.Cut(rest, "\n")
	heap, err := strconv.ParseInt(line, 10, 64)
	if most := 128<<20 + 500*files; err != nil || heap > most {
		t.Errorf("%d files took %d bytes of heap, more than %d: %v", files, heap, most, err)
	}
	t.Logf("%d files took %s of heap", files, banger.Bytes(heap))
	run(t, "e2fsck", "-fn", path)
}
