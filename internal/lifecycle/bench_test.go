package lifecycle_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"banger.dev/banger/internal/lifecycle"
)

// BenchmarkCreate makes one more VM where there are 50, and where there are
// 1,000, in turn, with and without a start.
func BenchmarkCreate(b *testing.B) {
	ctx := context.Background()
	for name, start := range map[string]*lifecycle.StartOptions{"stopped": nil, "started": {}} {
		b.Run(name, func(b *testing.B) {
			counts := []int{50, 1000}
			worlds, took := make([]*world, len(counts)), make([][]time.Duration, len(counts))
			for i, n := range counts {
				worlds[i] = newWorld(b, b.TempDir())
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
