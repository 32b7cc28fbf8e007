// Package api holds what travels between client and daemon: routes, request
// and reply bodies, and the mapping of error kinds. The OpenAPI document at
// /openapi.json is made from these types by internal/server. It has no
// behaviour: internal/server and internal/client give it that.
//
// The schema is stable and additive: a field may be added, never changed or removed.
package api

import (
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/version"
)

// Version of the HTTP interface. A client refuses a daemon with another one.
const Version = 1

// Routes. A ref is a VM's name, id, or unique id prefix of 4 or more.
const (
	RoutePing            = "/ping"                      // GET → Ping
	RouteOpenAPI         = "/openapi.json"              // GET
	RouteVMs             = "/v1/vms"                    // GET → []banger.VM; POST CreateRequest → 202 Operation
	RouteVM              = "/v1/vms/{ref}"              // GET → banger.Detail; PATCH SetRequest → 202 Operation; DELETE ?force=true → VerbReply
	RouteVMStart         = "/v1/vms/{ref}/start"        // POST StartRequest → 202 Operation
	RouteVMStop          = "/v1/vms/{ref}/stop"         // POST StopRequest → VerbReply
	RouteVMKill          = "/v1/vms/{ref}/kill"         // POST → VerbReply
	RouteVMRestart       = "/v1/vms/{ref}/restart"      // POST RestartRequest → 202 Operation
	RouteVMPause         = "/v1/vms/{ref}/pause"        // POST → VerbReply
	RouteVMResume        = "/v1/vms/{ref}/resume"       // POST → VerbReply
	RouteVMCommit        = "/v1/vms/{ref}/commit"       // POST CommitRequest → 202 Operation
	RouteVMReset         = "/v1/vms/{ref}/reset"        // POST ResetRequest → 202 Operation
	RouteVMWait          = "/v1/vms/{ref}/wait"         // GET ?for=&timeout_ms= → WaitReply
	RouteVMPorts         = "/v1/vms/{ref}/ports"        // GET → []banger.Port; POST PortsRequest → VerbReply; DELETE ?port=8080/tcp → VerbReply
	RouteOperations      = "/v1/operations"             // GET → []Operation, those that run or ended a short while ago
	RouteOperation       = "/v1/operations/{id}"        // GET → Operation; DELETE cancels → Operation
	RouteOperationEvents = "/v1/operations/{id}/events" // GET → NDJSON of Operation until it has ended; raw
	RouteImages          = "/v1/images"                 // GET → []banger.Image, those in the cache; DELETE ?ref= → banger.Image, as it was
	RouteImageCatalog    = "/v1/images/catalog"         // GET → []banger.CatalogImage, what can be had by name
	RouteImageLookup     = "/v1/images/lookup"          // GET ?ref= → ImageLookup
	RouteImagePull       = "/v1/images/pull"            // POST PullRequest → 202 Operation
	RouteImageRegister   = "/v1/images/register"        // POST ?name= and a tar of one ext4 file system, named rootfs.ext4 → banger.Image, when it is made; an operation meanwhile
	RouteImageImport     = "/v1/images/import"          // POST ?name= and an archive → banger.Image, when it is made; an operation meanwhile
	RouteKernels         = "/v1/kernels"                // GET → []banger.KernelDetail, those in the cache; DELETE ?ref= → banger.Kernel, as it was
	RouteKernelLookup    = "/v1/kernels/lookup"         // GET ?ref= → banger.KernelDetail
	RouteKernelPull      = "/v1/kernels/pull"           // POST KernelPullRequest → 202 Operation
	RouteKernelImport    = "/v1/kernels/import"         // POST ?name= and a package or a tar → banger.Kernel, when it is made; an operation meanwhile
	RouteVMLogs          = "/v1/vms/{ref}/logs"         // GET ?source=&follow=&since=&tail=&places=&after= → text/plain, the console, a time stamp a line; raw
	RouteVMClock         = "/v1/vms/{ref}/clock"        // POST → ClockReply: the guest's clock is set to the host's
	RouteStats           = "/v1/stats"                  // GET ?vm=REF → []banger.Stats: of these VMs, or without any of those alive
	RouteEvents          = "/v1/events"                 // GET ?after=&since=&vm=&type=&follow= → NDJSON of banger.Event; raw
	RouteDoctor          = "/v1/doctor"                 // GET → DoctorReply; POST → DoctorReply, after strays were removed
	RouteUsage           = "/v1/system/usage"           // GET → banger.DiskUsage
	RoutePrune           = "/v1/system/prune"           // POST ?kind=&all=&dry= → banger.Pruned
	RouteMetrics         = "/metrics"                   // GET → Prometheus' text form; raw
	RouteDaemonStop      = "/v1/daemon/stop"            // POST → 202; ?when=idle: 409 while something is under way. VMs stay as they are
)

// Headers of every reply.
const (
	HeaderAPI       = "X-Banger-API"        // Version of the daemon
	HeaderVersion   = "X-Banger-Version"    // of the daemon's build
	HeaderRequestID = "X-Request-Id"        // names the request in the daemon's log, in errors and in events
	HeaderLastEvent = "X-Banger-Last-Event" // of a stream of events: the id behind which it begins
	HeaderLeaving   = "X-Banger-Leaving"    // the daemon ends and has not done what it was asked: ask the next one
	HeaderVM        = "X-Banger-VM"         // of a VM's log: the VM's id
	HeaderPlaces    = "X-Banger-Places"     // of a VM's log with ?places=true: PlacesKept or PlacesLost
	HeaderPlace     = "X-Banger-Place"      // and the place at which it begins; none: before everything
)

// With ?places=true each line of a log comes behind its place and a space. A
// later request goes on behind it with ?after=PLACE, also at another daemon.
const (
	PlacesKept = "kept" // nothing is missing behind ?after=
	PlacesLost = "lost" // what was there has been forgotten; the rest comes
)

// Ping says who answers.
type Ping struct {
	API     int       `json:"api"`     // Version
	Version string    `json:"version"` // of the daemon's build
	PID     int       `json:"pid"`
	Since   time.Time `json:"since"`
	// Build says whether the daemon is older than who asks.
	Build version.Build `json:"build"`
}

// CreateRequest asks for a VM.
type CreateRequest struct {
	Name string      `json:"name,omitempty"` // "" lets the daemon choose
	Spec banger.Spec `json:"spec"`           // zero fields get their defaults, but Work: 0 is none
	// Start boots the VM when it is made, as part of the same operation.
	Start *StartRequest `json:"start,omitempty"`
	// Leash cancels the operation when the last reader of its events is gone
	// before it has ended; a cancelled create leaves nothing.
	Leash bool `json:"leash,omitempty"`
}

// StartRequest says when a start is done.
type StartRequest struct {
	Wait      string `json:"wait,omitempty"`       // "ready" (default): a command can be run; "init": the image's init is done too
	TimeoutMS int64  `json:"timeout_ms,omitempty"` // of the boot; 0 is the default, see lifecycle.DefaultStartTimeout
	// Leased has the VM killed when the client that holds its lease is gone, or
	// does not take it soon; see lifecycle.StartOptions.
	Leased bool `json:"leased,omitempty"`
	// Overcommit allows the running VMs more memory than the host has.
	Overcommit bool `json:"overcommit,omitempty"`
}

// RestartRequest says how patient the two halves of a restart are.
type RestartRequest struct {
	StopTimeoutMS int64        `json:"stop_timeout_ms,omitempty"` // until the VM is killed; 0 is 10 s
	Start         StartRequest `json:"start"`
}

// ResetRequest says what a reset may do.
type ResetRequest struct {
	Force bool `json:"force,omitempty"` // kill the VM first if it runs
}

// CommitRequest says what image is to be made of a VM.
type CommitRequest struct {
	Name  string `json:"name"`            // a local name of the image
	Leash bool   `json:"leash,omitempty"` // it is given up when nobody follows the operation any more
}

// SetRequest says what is to be different of a VM; what is absent stays.
type SetRequest struct {
	VCPUs  *int               `json:"vcpus,omitempty"`
	Memory *banger.Bytes      `json:"memory_bytes,omitempty"`
	Disk   *banger.Bytes      `json:"disk_bytes,omitempty"` // it can only grow
	Image  *string            `json:"image,omitempty"`      // of a VM that does not run: its system disk is begun anew
	Labels map[string]*string `json:"labels,omitempty"`     // null takes one off

	Kernel     *string `json:"kernel,omitempty"`      // of a VM that does not run; "" for the image's, else the default one
	KernelArgs *string `json:"kernel_args,omitempty"` // "" for none
}

// WaitReply is how a VM is after a wait.
type WaitReply struct {
	VM banger.VM `json:"vm"`
	// Reached is false when the time was up, or the daemon ended: ask again to go on waiting.
	Reached bool `json:"reached"`
}

// ImageLookup says what a name of an image stands for, without asking anybody.
type ImageLookup struct {
	Image *banger.Image `json:"image"` // null if it is not here
	Hosts []string      `json:"hosts"` // registries that a pull of it would ask, in order
}

// PullRequest asks for the newest image of a name.
type PullRequest struct {
	Reference string `json:"reference"` // a registry's, or an entry of the catalog
	// Credentials are for this pull alone, by host; the daemon keeps none.
	Credentials map[string]RegistryCredential `json:"credentials,omitempty"`
	Leash       bool                          `json:"leash,omitempty"` // as of a CreateRequest; a later pull goes on where this one was
}

// KernelPullRequest asks for the newest kernel of a distribution's release.
type KernelPullRequest struct {
	Release string `json:"release"`         // debian or ubuntu, or one with a suite: debian:bookworm
	Leash   bool   `json:"leash,omitempty"` // as of a CreateRequest
}

// RegistryCredential is what a registry lets in.
type RegistryCredential struct {
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	IdentityToken string `json:"identity_token,omitempty"`
	RegistryToken string `json:"registry_token,omitempty"`
}

// PortsRequest names ports to publish: all of them, or none after an error.
type PortsRequest struct {
	Ports []banger.Port `json:"ports"` // a host_port of 0 is a free one
}

// StopRequest says how patient a stop is.
type StopRequest struct {
	TimeoutMS int64 `json:"timeout_ms,omitempty"` // until the VM is killed; 0 is 10 s
}

// VerbReply is what a verb did.
type VerbReply struct {
	VM      banger.VM `json:"vm"`      // after the verb; as it last was for delete
	Changed bool      `json:"changed"` // false: it already was so
	Note    string    `json:"note"`    // for people: what was done otherwise than asked, or ""
}

// ClockReply is what a guest's clock was.
type ClockReply struct {
	DriftMS int64 `json:"drift_ms"` // how far it was ahead of the host's before it was set
}

// DoctorReply is what the daemon knows of its own home.
type DoctorReply struct {
	Checks []banger.Check `json:"checks"` // of the image and the kernel
	Cached bool           `json:"cached"` // both are here: nothing need be made
	Strays []banger.Stray `json:"strays"`
}

// OperationStatus says whether an operation goes on.
type OperationStatus string

// The statuses.
const (
	OperationRunning   OperationStatus = "running"
	OperationDone      OperationStatus = "done"
	OperationFailed    OperationStatus = "failed"
	OperationCancelled OperationStatus = "cancelled"
)

// Operation is a long request.
type Operation struct {
	ID       string           `json:"id"`
	Kind     string           `json:"kind"`   // create, start, restart, reset, set; about something else than a VM: "image pull", "kernel import" and so on
	Target   string           `json:"target"` // name of the VM, or the image or kernel as it was asked for
	Status   OperationStatus  `json:"status"`
	Progress *banger.Progress `json:"progress,omitempty"` // the last report
	Result   *banger.Detail   `json:"result,omitempty"`   // when done
	Image    *banger.Image    `json:"image,omitempty"`    // when one is made
	Kernel   *banger.Kernel   `json:"kernel,omitempty"`   // the same
	Changed  bool             `json:"changed"`            // when done: false if it already was so
	Note     string           `json:"note,omitempty"`
	Error    *banger.Error    `json:"error,omitempty"` // when failed or cancelled
	Started  time.Time        `json:"started"`
	Ended    *time.Time       `json:"ended,omitempty"`
}

// ErrorReply is the body of every reply with a status of 400 or more. A daemon
// that cannot start writes it to its standard output.
type ErrorReply struct {
	Error banger.Error `json:"error"`
}

// statuses is the one map between error kinds and HTTP status.
var statuses = map[banger.Kind]int{
	banger.KindInvalid:     400,
	banger.KindNotFound:    404,
	banger.KindConflict:    409,
	banger.KindCancelled:   499,
	banger.KindInternal:    500,
	banger.KindUnavailable: 503,
}

// StatusOf is the HTTP status for an error kind.
func StatusOf(kind banger.Kind) int {
	if s, ok := statuses[kind]; ok {
		return s
	}
	return 500
}
