package banger

import (
	"slices"
	"strings"
)

// maxKernelArgs bounds KernelArgs: the kernel takes 2047 bytes, of which
// banger's own words need up to 600.
const maxKernelArgs = 1024

// ownKernelArgs are the parameters that banger depends on: where the console is
// read, who is PID 1, what the root is, how a panic ends, the guest's identity.
var ownKernelArgs = []string{
	"console", "init", "rdinit", "root", "panic", "net.ifnames", "systemd.hostname", "systemd.machine_id",
}

// validateKernelArgs says whether a user's words may stand behind banger's on a
// guest's kernel command line.
func validateKernelArgs(args string) error {
	if len(args) > maxKernelArgs {
		return Errorf(KindInvalid, "--kernel-args has %d bytes; it can have %d", len(args), maxKernelArgs)
	}
	if strings.ContainsFunc(args, func(r rune) bool { return r < ' ' || r > '~' }) {
		return Errorf(KindInvalid, "--kernel-args %q: must be printable ASCII on one line", args)
	}
	if strings.Count(args, `"`)%2 != 0 {
		return Errorf(KindInvalid, "--kernel-args %q: a quote is not closed", args)
	}
	for _, word := range kernelWords(args) {
		key, _, _ := strings.Cut(strings.TrimPrefix(word, `"`), "=")
		switch {
		case key == "--":
			return Errorf(KindInvalid, "--kernel-args %q: what follows -- would be arguments of PID 1, which takes none", args)
		case slices.ContainsFunc(ownKernelArgs, func(own string) bool { return sameParameter(own, key) }):
			return Errorf(KindInvalid, "--kernel-args %q: %s is banger's to set, and VMs would not work with another one", args, key)
		}
	}
	return nil
}

// kernelWords are the words of a command line, as the kernel takes it apart: at
// blanks that are not in double quotes.
func kernelWords(line string) []string {
	quoted := false
	return strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	})
}

// sameParameter compares names as the kernel does, to which '-' is '_'.
func sameParameter(a, b string) bool {
	return strings.ReplaceAll(a, "-", "_") == strings.ReplaceAll(b, "-", "_")
}
