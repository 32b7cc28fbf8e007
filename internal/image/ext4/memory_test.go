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
// 300,000: it takes 128 MiB and 500 bytes for each at most.
func TestMemoryOfManyFiles(t *testing.T) {
	files := 50_000
	if os.Getenv("BANGER_SOAK") != "" {
		files = 300_000
	}
	path, said := alone(t, files)
	if said != "" {
		t.Fatal(said)
	}
	run(t, "e2fsck", "-fn", path)
}

// TestTenMillionEntries: a layer of so many is refused, no more memory is taken
// than by as many as there can be, and nothing is left.
func TestTenMillionEntries(t *testing.T) {
	if os.Getenv("BANGER_SOAK") == "" {
		t.Skip("only with BANGER_SOAK, as in make soak: it takes minutes with -race")
	}
	path, said := alone(t, 10_000_000)
	if !strings.Contains(said, "the image has more than 1000000 entries") {
		t.Errorf("it ended with %q", said)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// alone makes a file system of so many files in a process of its own, within the
// memory that as many may take as there can be, and gives its path and the error.
func alone(t *testing.T, files int) (path, said string) {
	t.Helper()
	const pathVariable, filesVariable = "BANGER_TEST_MEMORY", "BANGER_TEST_FILES"
	limits := layer.DefaultLimits()
	if path := os.Getenv(pathVariable); path != "" {
		files, err := strconv.Atoi(os.Getenv(filesVariable))
		if err == nil {
			_, err = ext4.FromLayers(t.Context(), path, []ext4.Layer{manySmall(files)}, limits, ext4.Options{Size: 8 * banger.GiB})
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Printf("heap %d %v\n", m.HeapSys, err) // of the heap nothing is given back
		os.Exit(0)
	}
	need(t, "mke2fs", "e2fsck")
	path = filepath.Join(t.TempDir(), "root.ext4")
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), pathVariable+"="+path, filesVariable+"="+strconv.Itoa(files))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var heap int64
	_, rest, _ := strings.Cut(string(out), "heap ")
	if _, err := fmt.Sscan(rest, &heap); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	counted := min(files, limits.Entries)
	if most := 128<<20 + 500*int64(counted); heap > most {
		t.Errorf("%d files took %d bytes of heap, more than %d", counted, heap, most)
	}
	t.Logf("%d files took %s of heap", counted, banger.Bytes(heap))
	_, said, _ = strings.Cut(strings.TrimSpace(rest), " ")
	return path, strings.TrimSuffix(said, "<nil>")
}
