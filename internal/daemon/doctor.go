package daemon

import (
	"context"
	"os"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/space"
	"banger.dev/banger/internal/store"
	"banger.dev/banger/internal/stray"
)

// examiner is server.Doctor.
type examiner struct {
	cache
	finder *stray.Finder
	space  space.Home
}

func newExaminer(l paths.Layout, db *store.DB, vms space.VMs, c cache) examiner {
	f := &stray.Finder{Owner: os.Getuid(), Layout: l, Rows: db, Caches: []stray.Cache{c.images, c.kernels, c.archive}}
	if os.Geteuid() == 0 {
		f.Sys = "/sys"
	}
	return examiner{cache: c, finder: f, space: space.Home{Layout: l, VMs: vms, Caches: []space.Cache{c.images, c.kernels, c.archive}}}
}

func (e examiner) Strays(ctx context.Context, fix bool) ([]banger.Stray, error) {
	if fix {
		return e.finder.Fix(ctx)
	}
	return e.finder.Find(ctx)
}

// reachTimeout bounds how long the mirror may take to answer.
const reachTimeout = 30 * time.Second

func (e examiner) Checks(ctx context.Context) (checks []banger.Check, cached bool) {
	image, haveImage, err := e.images.Have(ctx, banger.DefaultImage)
	imageCheck := banger.CheckOf("image", err, banger.DefaultImage+" is here ("+image.Source+")")
	kernel, haveKernel, err := e.kernels.Have(ctx)
	kernelCheck := banger.CheckOf("kernel", err, kernel.Release+" is here")
	unreachable := error(nil)
	if !haveImage || !haveKernel {
		ctx, cancel := context.WithTimeout(ctx, reachTimeout)
		defer cancel()
		unreachable = e.archive.Reach(ctx)
	}
	for check, have := range map[*banger.Check]bool{&imageCheck: haveImage, &kernelCheck: haveKernel} {
		if !have && check.Status == banger.CheckOK {
			*check = banger.CheckOf(check.Name, unreachable, "not here; it is made at first use, and the mirror answers")
		}
	}
	return []banger.Check{imageCheck, kernelCheck}, haveImage && haveKernel
}
