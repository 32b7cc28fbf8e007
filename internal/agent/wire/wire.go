// Package wire is what both sides of the guest channel speak: the ports, the
// exec protocol, the control requests, the config disk and the handshake of the
// virtio-serial port. It holds types and codecs only; the guest's half is
// internal/agent, the host's is internal/guest.
//
// Host code speaks every protocol version since 1; the agent speaks one.
package wire

// Version is the protocol version this agent speaks.
const Version = 1

// Ports in the guest. Every stream is opened by the host.
const (
	PortSSH     = 22   // the ssh server
	PortControl = 1024 // HTTP: the paths below
	PortExec    = 1025 // one command a stream: exec.go
	PortDial    = 1026 // one connection to a server in the guest a stream: dial.go
)

// SerialPort is the name of the virtio-serial port that carries the guest
// channel where the VMM has no vsock.
const SerialPort = "banger.agent"

// Paths of the HTTP control port.
const (
	PathHello    = "/hello"    // GET → Hello
	PathShutdown = "/shutdown" // POST: the guest powers off in its own time; 202
	PathInit     = "/init"     // GET → InitStatus
	PathClock    = "/clock"    // GET → Clock; POST Clock: sets the guest's clock
	PathGrow     = "/grow"     // POST Grow: the root file system fills its disk
	PathSockets  = "/sockets"  // GET → Sockets
	PathStats    = "/stats"    // GET → Stats

	PathStat    = "/files/stat"    // POST StatFile → FileStat: files.go
	PathRead    = "/files/read"    // POST ReadFiles → tar
	PathWrite   = "/files/write"   // POST WriteFiles and a tar → WroteFiles
	PathChanges = "/files/changes" // POST ChangesRequest and lines → lines
	PathPick    = "/files/pick"    // POST PickRequest and lines → tar
	PathRemove  = "/files/remove"  // POST RemoveRequest and lines
	PathSeal    = "/files/seal"    // POST SealRequest
)

// Hello is the first thing the host asks.
type Hello struct {
	Protocol   int    `json:"protocol"`
	Generation uint64 `json:"generation"` // of the identity the guest has
	Version    string `json:"version"`    // of the agent, for people
	Init       string `json:"init"`       // path of the init that is PID 1, or "none"
	BootMS     int64  `json:"boot_ms"`    // guest uptime when the agent was ready
	// Ports are those the agent serves, so that a newer host knows what an older
	// agent lacks. Agents before PortDial do not say.
	Ports []uint32 `json:"ports,omitempty"`
}

// Plausible says whether h can be: a guest may say anything, and all of this is kept
// for as long as it runs, and told again and again.
func (h Hello) Plausible() bool {
	const most = 4 << 10
	return len(h.Version) <= most && len(h.Init) <= most && len(h.Ports) <= most
}

// InitStatus is how far the image's own init has got.
type InitStatus struct {
	State string `json:"state"` // systemd's word (starting running degraded …); "running" where the init cannot say; "none" without init
	Done  bool   `json:"done"`  // it will not change by itself any more
}

// Clock is a time: the guest's own, or the host's, which it is to have.
type Clock struct {
	UnixNano int64 `json:"unix_nano"`
}

// Grow says how large the host has made the root disk, of which the guest's
// kernel hears a moment later.
type Grow struct {
	Bytes uint64 `json:"bytes"`
}

// StagePrefix begins each line the agent writes to the console while it boots,
// followed by the name of the stage it enters. FatalPrefix begins the line that
// says why the boot ended. The host uses both only to tell a person.
const (
	StagePrefix = "banger: stage "
	FatalPrefix = "banger: fatal: "
)

// The stages of a boot, in order.
const (
	StageKernel   = "kernel" // before the agent runs; never written
	StageModules  = "modules"
	StageConfig   = "config"
	StageRoot     = "root"
	StageMounts   = "mounts"
	StageWork     = "work"
	StageIdentity = "identity"
	StageNetwork  = "network"
	StagePorts    = "ports"
)
