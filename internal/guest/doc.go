// Package guest is the host's half of the guest channel: reaching a port in a
// guest, running a command there, and the calls of the control port. The CLI
// uses it over a VM's guest.sock, the monitor serves that socket with it. What
// answers is internal/agent; what both speak is internal/agent/wire.
//
// It keeps no state about VMs and starts none; that is internal/lifecycle's.
package guest
