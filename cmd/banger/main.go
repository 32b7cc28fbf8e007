// Command banger runs Linux microVMs on a developer's own machine. Everything
// it does is in internal/cli; only the exit happens here.
package main

import (
	"os"

	"banger.dev/banger/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:]))
}
