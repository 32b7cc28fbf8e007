// Badinit is an initramfs's init that never gets a guest ready: it ends, which
// panics the kernel, or hangs after a first line, as its kernel command line's
// archive says by a file.
package main

import (
	"fmt"
	"os"
	"time"
)

func main() {
	fmt.Println("banger: stage root")
	if _, err := os.Stat("/hang"); err == nil {
		fmt.Println("waiting for a disk that never comes")
		time.Sleep(time.Hour)
	}
}
