package lifecycle_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"banger.dev/banger/internal/lifecycle"
)

// newRoomyWorld has memory for as many VMs as are wanted.
func newRoomyWorld(b *testing.B) *world {
	w := newWorld(b, b.TempDir())
	w.memory = 1 << 50
	return w
}

// BenchmarkCreate makes one more VM where there are 50, and where there are
// 1,000, in turn, with and without a start.
func BenchmarkCreate(b *testing.B) {
	ctx := context.Background()
	for name, start := range map[string]*lifecycle.StartOptions{"stopped": nil, "started": {}} {
		b.Run(name, func(b *testing.B) {
			counts := []int{50, 1000}
			worlds, took := make([]*world, len(counts)), make([][]time.Duration, len(counts))
			for i, n := range counts {
				worlds[i] = newRoomyWorld(b)
				defer worlds[i].end()
				for j := range n {
					worlds[i].create(fmt.Sprint("vm-", j))
				}
			}
			for b.Loop() {
				for i, w := range worlds {
					begun := time.Now()
					if _, err := w.Create(ctx, "one-more", spec(), start, nil); err != nil {
						b.Fatal(err)
					}
					took[i] = append(took[i], time.Since(begun))
					w.delete("one-more")
				}
			}
			for i, n := range counts {
				slices.Sort(took[i])
				b.ReportMetric(took[i][len(took[i])/2].Seconds()*1e3, fmt.Sprintf("ms/create-of-%d", n))
			}
		})
	}
}

// BenchmarkList lists 1,000 VMs of which 100 run.
func BenchmarkList(b *testing.B) {
	w := newRoomyWorld(b)
	defer w.end()
	for n := range 1000 {
		if name := fmt.Sprint("vm-", n); n%10 == 0 {
			w.run(name)
		} else {
			w.create(name)
		}
	}
	for b.Loop() {
		if list, err := w.List(context.Background()); err != nil || len(list) != 1000 {
			b.Fatal(len(list), err)
		}
	}
}

// BenchmarkReconcile starts a daemon over VMs of which every other one runs.
func BenchmarkReconcile(b *testing.B) {
	for _, n := range []int{50, 100, 200, 400} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newRoomyWorld(b)
			defer w.end()
			for i := range n {
				if name := fmt.Sprint("vm-", i); i%2 == 0 {
					w.run(name)
				} else {
					w.create(name)
				}
			}
			for b.Loop() {
				if err := w.restart(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
