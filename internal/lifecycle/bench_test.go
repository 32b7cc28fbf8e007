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
	counts := []int{50, 1000}
	worlds := make([]*world, len(counts))
	for i, n := range counts {
		worlds[i] = newRoomyWorld(b)
		defer worlds[i].end()
		for j := range n {
			worlds[i].create(fmt.Sprint("vm-", j))
		}
	}
	for name, start := range map[string]*lifecycle.StartOptions{"stopped": nil, "started": {}} {
		b.Run(name, func(b *testing.B) {
			took := make([][]time.Duration, len(counts))
			for b.Loop() {
				for i, w := range worlds {
					begun := time.Now()
					if _, err := w.Create(context.Background(), "one-more", spec(), start, nil); err != nil {
						b.Fatal(err)
					}
					took[i] = append(took[i], time.Since(begun))
					w.delete("one-more")
				}
			}
			report(b, counts, took)
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

// BenchmarkReconcile starts a daemon over VMs of which every other one runs, in
// turn over few and over many.
func BenchmarkReconcile(b *testing.B) {
	counts := []int{50, 200, 800}
	worlds, took := make([]*world, len(counts)), make([][]time.Duration, len(counts))
	for i, n := range counts {
		worlds[i] = newRoomyWorld(b)
		defer worlds[i].end()
		for j := range n {
			if name := fmt.Sprint("vm-", j); j%2 == 0 {
				worlds[i].run(name)
			} else {
				worlds[i].create(name)
			}
		}
	}
	for b.Loop() {
		for i, w := range worlds {
			w.Close()
			w.boot()
			begun := time.Now()
			if err := w.Reconcile(context.Background()); err != nil {
				b.Fatal(err)
			}
			took[i] = append(took[i], time.Since(begun))
		}
	}
	report(b, counts, took)
}

// report gives the median for each number of VMs.
func report(b *testing.B, counts []int, took [][]time.Duration) {
	for i, n := range counts {
		slices.Sort(took[i])
		b.ReportMetric(took[i][len(took[i])/2].Seconds()*1e3, fmt.Sprintf("ms/n=%d", n))
	}
}
