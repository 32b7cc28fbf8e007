// Package banger holds the nouns every other package speaks of: the VM, its
// spec, state and intent, the image and the kernel it boots from, progress and
// the kinds of error. It does no I/O and imports nothing of ours, so that every
// layer can share it. What happens to these nouns lives in internal/lifecycle.
package banger
