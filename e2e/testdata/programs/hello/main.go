// Hello is the one file of an image that has nothing else.
package main

import (
	"fmt"
	"os"
)

func main() {
	wd, _ := os.Getwd()
	fmt.Println("hello from", wd, os.Args[1:], "uid", os.Getuid())
	if len(os.Args) > 1 && os.Args[1] == "fail" {
		os.Exit(9)
	}
}
