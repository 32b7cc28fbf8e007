//go:build !faults

package main

import (
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/steps"
)

// faults are none: only a bangerd built with the tag faults has any.
func faults(paths.Layout) func(steps.Point) error { return nil }
