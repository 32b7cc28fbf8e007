// Package crashtest is the crash matrix: every verb, at every step, dies or
// fails in every way, and the next daemon finds its way. The daemon, the
// monitors, their sockets and the database are real; the VMM is vmmtest's fake,
// and images and kernels are a few small files. It has tests alone.
package crashtest
