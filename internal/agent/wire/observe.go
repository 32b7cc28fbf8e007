package wire

import (
	"cmp"
	"net/netip"
	"slices"
)

// MaxSockets bounds the answer to PathSockets.
const MaxSockets = 2048

// Sockets are those that a guest's servers wait on.
type Sockets struct {
	Sockets []Socket `json:"sockets"`
	More    bool     `json:"more,omitempty"` // than MaxSockets
}

// Socket is one that a server waits on.
type Socket struct {
	Protocol string `json:"protocol"` // tcp or udp
	Address  string `json:"address"`  // literal; 0.0.0.0 and :: are all
	Port     uint16 `json:"port"`
	PID      int    `json:"pid"`     // of a process that has it; 0: the kernel's, or not known
	Process  string `json:"process"` // the name of that process
}

// Compare orders sockets by port.
func (s Socket) Compare(t Socket) int {
	return cmp.Or(cmp.Compare(s.Port, t.Port), cmp.Compare(s.Protocol, t.Protocol), cmp.Compare(s.Address, t.Address), cmp.Compare(s.PID, t.PID))
}

// Tidied is what can be believed of a guest's answer: it may say anything.
func (s Sockets) Tidied() Sockets {
	s.Sockets = slices.DeleteFunc(s.Sockets, func(one Socket) bool {
		_, err := netip.ParseAddr(one.Address)
		return err != nil || one.Protocol != "tcp" && one.Protocol != "udp" || one.PID < 0
	})
	if len(s.Sockets) > MaxSockets {
		s.Sockets, s.More = s.Sockets[:MaxSockets], true
	}
	slices.SortFunc(s.Sockets, Socket.Compare)
	return s
}

// Stats is what a guest takes, as it says itself.
type Stats struct {
	MemoryTotal     uint64 `json:"memory_total"` // bytes
	MemoryAvailable uint64 `json:"memory_available"`
	Processes       int    `json:"processes"`
}

// Plausible says whether s can be: a guest may say anything.
func (s Stats) Plausible() bool {
	const most = 1 << 50
	return s.MemoryTotal <= most && s.MemoryAvailable <= s.MemoryTotal && s.Processes >= 0
}
