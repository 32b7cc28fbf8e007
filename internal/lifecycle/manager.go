package lifecycle

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/disk"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/steps"
)

// Rows is the durable store. Methods are safe for concurrent use.
type Rows interface {
	Insert(ctx context.Context, r banger.Record) error // KindConflict: the owner has that name
	// Update and Delete write what tell makes of the row in the same transaction;
	// an event without a type is none.
	Update(ctx context.Context, id string, change func(*banger.Record) error, tell ...func(after banger.Record) banger.Event) (banger.Record, error)
	Delete(ctx context.Context, id string, tell ...func(last banger.Record) banger.Event) error // nil if it is gone
	// MarkDeleting makes a record's Deleting true, also of one that is Damaged; nil
	// if it is gone.
	MarkDeleting(ctx context.Context, id string) error
	Get(ctx context.Context, owner int, id string) (banger.Record, error) // KindNotFound
	// Find is those that ref may mean: the one of that name, and those whose ids
	// begin so. Like Get it does not take longer where there are more.
	Find(ctx context.Context, owner int, ref string) ([]banger.Record, error)
	List(ctx context.Context, owner int) ([]banger.Record, error)
}

// Events is where it is told what has happened, where no row changes with it.
// Methods are safe for concurrent use.
type Events interface {
	Emit(ctx context.Context, e banger.Event) // does not fail: an event may be lost
	Last(ctx context.Context, vmID string) (banger.Event, error)
}

// Images gives base file systems, pulling at first use.
type Images interface {
	Resolve(ctx context.Context, ref string, report banger.ProgressFunc) (banger.Image, error)
	Template(ctx context.Context, size banger.Bytes) (path string, err error)
	// Commit makes an image, without a name, of a VM's disk of this size, which lies
	// over another image and which write gives.
	Commit(ctx context.Context, vm string, below banger.Image, size banger.Bytes, write func(context.Context, io.WriterAt) error, report banger.ProgressFunc) (banger.Image, error)
	// Name gives an image a local name.
	Name(name, digest string) error
}

// Kernels gives kernels.
type Kernels interface {
	// Resolve is the kernel for a VM that is to have ref, "" for the default one;
	// what a distribution's name stands for is pulled at first use.
	Resolve(ctx context.Context, ref string, report banger.ProgressFunc) (banger.Kernel, error)
	// Get is one that is here.
	Get(ctx context.Context, ref string) (banger.Kernel, error)
}

// Monitors starts and reaches the process beside each running VM.
type Monitors interface {
	Spawn(ctx context.Context, order monitor.Order) (monitor.Status, error)
	Connect(socket string) Monitor
	// Held says whether the VM with this lock is alive. See alive.
	Held(lock string) (bool, error)
}

// Monitor is one VM's monitor; see monitor.Client.
type Monitor interface {
	Status(ctx context.Context) (monitor.Status, error)
	Stats(ctx context.Context) (monitor.Stats, error)
	Ready(ctx context.Context) (monitor.Status, error)
	Init(ctx context.Context) (wire.InitStatus, error)
	Shutdown(ctx context.Context, timeout time.Duration) (killed bool, err error)
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
	// Grow makes a disk larger; behind says why the guest's file system is not yet.
	Grow(ctx context.Context, disk int, size banger.Bytes) (behind string, err error)
	Kill(ctx context.Context) error
	Watch(ctx context.Context, each func(monitor.Status)) error
	SyncPorts(ctx context.Context, ports []banger.Port) error
	// Clock is how far the guest's clock is ahead of the host's; SetClock sets it,
	// and says how far it was.
	Clock(ctx context.Context) (drift time.Duration, err error)
	SetClock(ctx context.Context) (drift time.Duration, err error)
}

// Processes tells processes apart and ends them; see package proc.
type Processes interface {
	Kill(pid int, start uint64, timeout time.Duration) error
	StartTime(pid int) (uint64, error)
	BootID() (string, error)
}

// Platform is what this host offers to a VM.
type Platform struct {
	banger.Host
	VMM     banger.VMM
	Binary  string // path of the VMM; "" if it is missing, and why in Missing
	Missing error
	Version string // of the VMM
	Accel   string
	Machine string // machine type for new VMs
	CPU     string // CPU model for new VMs
	TSCKHz  uint64 // 0: unknown
	RunAs   func(id string) (uid, gid uint32, ok bool)
}

// Network is what the user has decided of the networks of VMs; a VM has it from
// its start to its end.
type Network struct {
	AllowPrivate bool     // guests may reach private ranges and the host's own addresses
	DNS          []string // servers, as address or address:port; empty: the host's
}

// Deps is what a Manager is made of.
type Deps struct {
	Owner     int // uid whose VMs these are
	Layout    paths.Layout
	Platform  func() Platform
	Network   func() Network
	Rows      Rows
	Events    Events
	Booted    func([]banger.BootPhase) // called after each boot that got ready; may be nil
	Images    Images
	Kernels   Kernels
	Cache     Cache // nil: no other home uses it
	Disks     disk.Driver
	Monitors  Monitors
	Processes Processes
	Ports     Ports
	Meter     Meter
	Steps     steps.Runner
	Locks     LockObserver // nil: nobody
	Log       *slog.Logger
}

// Manager does what happens to VMs. All methods may be called from any
// goroutine; two verbs on one VM queue, except that kill interrupts. The order
// of its locks is LockOrder's.
type Manager struct {
	Deps
	locks     keyed
	admission mutex           // one start at a time looks for the memory that is left
	life      context.Context // ends with the daemon: the watchers' life
	stop      context.CancelFunc
	wg        sync.WaitGroup // watchers

	mu       mutex
	changed  chan struct{}                      // closed, and made anew, when what follows says something else of a VM
	creating map[string]context.CancelCauseFunc // creates under way, by id, until their boot is over, and pulls for other verbs
	starting map[string]context.CancelCauseFunc // boots under way, by id
	memory   map[string]banger.Bytes            // what VMs were started with, by id: those alive or starting, and some that were
	seen     map[string]monitor.Status          // last status of each live VM, by id
	unlike   map[string]string                  // why a live VM's published ports are not its row's, by id
	watched  map[string]bool                    // a watcher follows this VM
	deleting map[string]bool                    // a verb is removing it, its row is still there
}

// New makes a Manager; Reconcile must be called before anything else.
func New(deps Deps) *Manager {
	life, stop := context.WithCancel(context.Background())
	if deps.Locks == nil {
		deps.Locks = nobody{}
	}
	return &Manager{
		Deps: deps, life: life, stop: stop,
		locks:     keyed{class: LockVM, observer: deps.Locks},
		admission: mutex{class: LockAdmission, observer: deps.Locks},
		mu:        mutex{class: LockState, observer: deps.Locks},
		changed:   make(chan struct{}),
		creating:  map[string]context.CancelCauseFunc{}, starting: map[string]context.CancelCauseFunc{}, memory: map[string]banger.Bytes{},
		seen: map[string]monitor.Status{}, unlike: map[string]string{}, watched: map[string]bool{}, deleting: map[string]bool{},
	}
}

// Close stops watching; the VMs stay as they are.
func (m *Manager) Close() {
	m.mu.Lock() // watch looks at life under mu: none begins after this
	m.stop()
	m.mu.Unlock()
	m.wg.Wait()
}

// begin notes in underway, which is creating or starting, a verb on a VM that
// another verb may end by cancelling it. done takes the note off.
func (m *Manager) begin(ctx context.Context, underway map[string]context.CancelCauseFunc, id string) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	m.mu.Lock()
	underway[id] = cancel
	m.announce()
	m.mu.Unlock()
	return ctx, func() {
		m.mu.Lock()
		delete(underway, id)
		m.announce()
		m.mu.Unlock()
		cancel(nil)
	}
}

// cancel ends a verb on a VM that is noted in underway, if there is one.
func (m *Manager) cancel(underway map[string]context.CancelCauseFunc, id string, cause error) {
	m.mu.Lock()
	cancel := underway[id]
	m.mu.Unlock()
	if cancel != nil {
		cancel(cause)
	}
}

func (m *Manager) isUnderway(underway map[string]context.CancelCauseFunc, id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return underway[id] != nil
}

func (m *Manager) files(id string) paths.VM { return m.Layout.VM(id) }

func (m *Manager) monitorOf(id string) Monitor {
	return m.Monitors.Connect(m.files(id).MonitorSocket())
}
