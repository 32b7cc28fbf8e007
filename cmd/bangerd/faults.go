//go:build faults

package main

import (
	"os"

	"banger.dev/banger/internal/daemon/fault"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/steps"
)

// faults are those of the directory that BANGER_FAULTS names: this is a bangerd
// for tests.
func faults(l paths.Layout) func(steps.Point) error {
	dir := os.Getenv(fault.Variable)
	if dir == "" {
		return nil
	}
	return fault.Dir(dir).Faults(l)
}
