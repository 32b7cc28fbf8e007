package crashtest

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"banger.dev/banger"
	"banger.dev/banger/internal/image/ext4"
)

// What VMs here are made of, by the names that their specs give.
const (
	imageName  = "small"
	kernelName = "6.1-small"
)

// fillCache makes a cache with one image, one kernel and the template of the
// smallest work disk: as files, what a pull makes; sparse, and nothing in them.
func fillCache(dir string) error {
	image, kernel := strings.Repeat("1", 64), strings.Repeat("2", 64)
	imageDir, kernelDir := filepath.Join(dir, "images", image), filepath.Join(dir, "kernels", kernel)
	sizes := map[string]int64{}
	var errs []error
	for _, name := range []string{"vmlinux", "initramfs.cpio", "boot-modules.cpio", "modules.ext4", "config"} {
		sizes[name] = 1
		errs = append(errs, sparse(filepath.Join(kernelDir, name), 1))
	}
	return errors.Join(append(errs,
		writeJSON(filepath.Join(kernelDir, "manifest.json"), map[string]any{
			"format": 1, "digest": "sha256:" + kernel, "release": kernelName, "sizes": sizes,
		}),
		os.MkdirAll(imageDir, 0o755), os.MkdirAll(filepath.Join(dir, "images", "tmp"), 0o755),
		os.MkdirAll(filepath.Join(dir, "images", "layers"), 0o755), os.MkdirAll(filepath.Join(dir, "kernels", "refs"), 0o755),
		ext4.Empty(context.Background(), filepath.Join(imageDir, "rootfs.ext4"), ext4.Options{Size: banger.MinDisk}),
		writeJSON(filepath.Join(imageDir, "manifest.json"), struct {
			Version int `json:"version"`
			banger.Image
		}{1, banger.Image{Name: imageName, Digest: "sha256:" + image, Size: banger.MinDisk}}),
		writeJSON(filepath.Join(dir, "images", "refs", imageName+".json"), map[string]any{"digest": "sha256:" + image}),
		sparse(filepath.Join(dir, "templates", "work-"+strconv.FormatInt(int64(banger.MinDisk), 10)+".ext4"), int64(banger.MinDisk)),
	)...)
}

func sparse(path string, size int64) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o644))
}

// small is a VM of what is in such a cache.
func small() banger.Spec {
	return banger.Spec{
		Memory: banger.MinMemory, Disk: banger.MinDisk, Work: banger.MinDisk,
		Image: imageName, Kernel: kernelName, Net: banger.NetNone,
	}
}
