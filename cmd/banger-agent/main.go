// Command banger-agent runs inside banger's virtual machines. It travels in the
// initramfs, never in an image, and is not for use by hand.
package main

import (
	"os"

	"banger.dev/banger/internal/agent"
)

func main() { os.Exit(agent.Main(os.Args)) }
