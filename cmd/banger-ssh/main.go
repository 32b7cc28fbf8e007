// Command banger-ssh is the ssh server of banger's virtual machines, which the
// agent starts at the first connection. It lies on the modules disk and is not
// for use by hand.
package main

import (
	"os"

	"banger.dev/banger/internal/agent/sshd"
)

func main() { os.Exit(sshd.Main(os.Args)) }
