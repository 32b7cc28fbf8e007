package lifecycle_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"banger.dev/banger"
	"banger.dev/banger/internal/disk/qcow2"
	"banger.dev/banger/internal/event"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/steps"
	"banger.dev/banger/internal/store"
)

func TestMain(m *testing.M) {
	// One check is some thirty verbs on a real database; randomTime says how often
	// there are so many, and -rapid.checks asks for others.
	if err := flag.Set("rapid.checks", "5"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// randomVariable is how long each test that does things at random goes on.
const randomVariable = "BANGER_RANDOM"

func randomTime(t *testing.T) time.Duration {
	text := os.Getenv(randomVariable)
	if text == "" {
		return 3 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", randomVariable, err)
	}
	return d
}

const owner = 1000

// world is all that a Manager has to do with: a real database and real files,
// fake images, kernels and processes. It lives in a synctest bubble, so that
// time passes only when everybody waits, and a goroutine left behind is a
// failure.
type world struct {
	t       testing.TB
	layout  paths.Layout
	db      *store.DB
	host    *host
	locks   *lifecycle.LockRecorder
	events  *event.Log
	images  *images
	taken   *hostPorts
	holds   *holds
	damage  map[string]string // rows that cannot be read, by id, and why
	missing error             // why there is no VMM
	memory  banger.Bytes

	afterRead func(what string)       // called with "get", "find" or "list" after a read of rows; may be nil
	fault     func(step string) error // called before each step
	point     func() error            // called before and after each step
	steps     []string                // that were begun
	mu        sync.Mutex              // guards fault and steps

	*lifecycle.Manager
}

// inWorld runs a test in a world of its own.
func inWorld(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memoryDir(t))
		defer w.end()
		f(t, w)
	})
}

// memoryDir is a directory in memory, where there is one: that what is written
// there is synced costs nothing.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "banger-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func newWorld(t testing.TB, dir string) *world {
	t.Helper()
	w := &world{
		t: t, host: newHost(), memory: 8 * banger.GiB,
		layout: paths.Layout{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run"), Cache: filepath.Join(dir, "cache")},
	}
	for _, d := range []string{w.layout.VMs(), w.layout.RunVMs(), w.layout.Cache} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.locks = lifecycle.NewLockRecorder(func(violation string) { t.Error(violation) })
	if _, measured := t.(*testing.B); measured {
		w.locks = lifecycle.NewLockRecorder(nil)
	}
	w.host.locks = w.locks
	w.images = newImages(w.layout)
	w.images.locks = w.locks
	w.taken = &hostPorts{host: w.host}
	w.holds = &holds{vms: map[string]string{}}
	db, err := store.Open(context.Background(), w.layout.Database(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w.db = db
	w.events = &event.Log{Owner: owner, Rows: db, Log: slog.New(slog.DiscardHandler)}
	w.boot()
	return w
}

// boot makes a new Manager, as a daemon that starts does, without Reconcile.
func (w *world) boot() {
	w.Manager = lifecycle.New(lifecycle.Deps{
		Owner: owner, Layout: w.layout, Platform: w.platform, Rows: rows{w.db, w}, Events: w.events, Images: w.images, Kernels: kernels{w.locks}, Cache: w.holds,
		Network: func() lifecycle.Network { return lifecycle.Network{AllowPrivate: true} },
		Disks:   qcow2.Driver{}, Monitors: w.host, Processes: w.host, Ports: w.taken, Meter: w.host,
		Steps: steps.Runner{Fault: w.step}, Locks: w.locks, Log: slog.New(w.log()),
	})
}

// log is the test's output; a benchmark has no use for it.
func (w *world) log() slog.Handler {
	if _, measured := w.t.(*testing.B); measured {
		return slog.DiscardHandler
	}
	return slog.NewTextHandler(w.t.Output(), nil)
}

// restart is the death of the daemon and the start of the next.
func (w *world) restart() error {
	w.Close()
	w.boot()
	return w.Reconcile(context.Background())
}

func (w *world) end() {
	w.Close()
	w.host.killAll()
	w.host.wg.Wait()
	if n := w.locks.Held(); n > 0 {
		w.t.Errorf("%d goroutines have ended with a lock", n)
	}
	if err := w.db.Close(); err != nil {
		w.t.Error(err)
	}
}

func (w *world) platform() lifecycle.Platform {
	p := lifecycle.Platform{
		Host: banger.Host{CPUs: 2, Memory: w.memory}, VMM: banger.VMMQEMU, Binary: "/usr/bin/qemu", Version: "7.2.22",
		Accel: "tcg", Machine: "pc-q35-7.2", CPU: "Haswell", TSCKHz: 2_000_000,
		RunAs: func(string) (uint32, uint32, bool) { return 0, 0, false },
	}
	if w.missing != nil {
		p.Binary, p.Missing = "", w.missing
	}
	return p
}

func (w *world) step(at steps.Point) error {
	w.mu.Lock()
	point := w.point
	w.mu.Unlock()
	if point != nil {
		if err := point(); err != nil {
			return err
		}
	}
	if at.After {
		return nil
	}
	w.mu.Lock()
	w.steps = append(w.steps, at.Step)
	fault := w.fault
	w.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault(at.Step)
}

var errFault = errors.New("a fault was asked for")

// failAt has a step fail from now on; "" none.
func (w *world) failAt(step string) {
	w.setFault(func(name string) error {
		if name == step {
			return errFault
		}
		return nil
	})
}

// dieAt has the goroutine that comes to a step end there, as the daemon's death
// would: nothing cleans up.
func (w *world) dieAt(step string) {
	w.setFault(func(name string) error {
		if name == step {
			runtime.Goexit()
		}
		return nil
	})
}

func (w *world) setFault(f func(string) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = f
}

// setPoint has f called at each point from now on, before and after each step.
func (w *world) setPoint(f func() error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.point = f
}

// begun are the steps since the last call.
func (w *world) begun() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.steps
	w.steps = nil
	return s
}

func (w *world) guest(name string, g guest) {
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	w.host.guests[name] = g
}

// String is the world: rows, directories, live machines. What a run leaves to
// be read (console, logs, exit.json) is left out, ids are replaced by names.
func (w *world) String() string {
	rows, err := w.db.All(context.Background())
	if err != nil {
		return err.Error()
	}
	var lines []string
	names := map[string]string{}
	for _, r := range rows {
		names[r.ID] = r.Name
		creating := ""
		if r.Creating {
			creating = " creating"
		}
		lines = append(lines, fmt.Sprintf("row %s intent=%s%s", r.Name, r.Intent, creating))
	}
	for kind, dir := range map[string]string{"dir": w.layout.VMs(), "run": w.layout.RunVMs()} {
		lines = append(lines, tree(kind, dir, names)...)
	}
	links, _ := filepath.Glob(w.layout.SSH() + "/*")
	for _, link := range links {
		target, _ := os.Readlink(link)
		lines = append(lines, "link "+filepath.Base(link)+" "+names[filepath.Base(filepath.Dir(target))])
	}
	for _, m := range w.host.all() {
		lines = append(lines, "live "+m.order.Name)
	}
	lines = append(lines, w.holds.lines(names)...)
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

func tree(kind, dir string, names map[string]string) (lines []string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		id, file, _ := strings.Cut(rel, "/")
		if name, ok := names[id]; ok {
			id = name
		}
		switch {
		case err != nil || rel == ".":
		case d.IsDir():
			lines = append(lines, kind+" "+id+"/"+file)
		case file == "lock" || file == "exit.json" || file == "config.img" || strings.HasSuffix(file, ".log"):
		default:
			lines = append(lines, kind+" "+id+"/"+file)
		}
		return nil
	})
	return lines
}

// same fails the test unless the world is as it was.
func (w *world) same(before string) {
	w.t.Helper()
	if after := w.String(); after != before {
		w.t.Errorf("the world has changed, before:\n%safter:\n%s", before, after)
	}
}

// row reads a VM's row by name.
func (w *world) row(name string) banger.Record {
	w.t.Helper()
	r, ok := w.find(name)
	if !ok {
		w.t.Fatalf("there is no VM %s", name)
	}
	return r
}

func (w *world) find(name string) (banger.Record, bool) {
	w.t.Helper()
	rows, err := w.db.All(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	i := slices.IndexFunc(rows, func(r banger.Record) bool { return r.Name == name })
	if i < 0 {
		return banger.Record{}, false
	}
	return rows[i], true
}

// state is what list says of a VM; "gone" if it is not in it. Show must agree.
func (w *world) state(name string) string {
	w.t.Helper()
	list, err := w.List(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	state := "gone"
	for _, vm := range list {
		if vm.Name == name {
			state = string(vm.State)
		}
	}
	shown, err := w.Show(context.Background(), name)
	switch {
	case state == "gone" && banger.KindOf(err) == banger.KindNotFound:
	case err != nil:
		w.t.Errorf("list says that %s is %s, show: %v", name, state, err)
	case string(shown.State) != state:
		w.t.Errorf("list says that %s is %s, show %s", name, state, shown.State)
	}
	return state
}

func (w *world) wantState(name, want string) {
	w.t.Helper()
	if got := w.state(name); got != want {
		w.t.Errorf("%s is %s, want %s", name, got, want)
	}
}

// create makes a stopped VM.
func (w *world) create(name string) banger.Detail {
	w.t.Helper()
	d, err := w.Create(context.Background(), name, spec(), nil, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// run makes a running VM.
func (w *world) run(name string) banger.Detail {
	w.t.Helper()
	d, err := w.Create(context.Background(), name, spec(), &lifecycle.StartOptions{}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// machine is the live machine of a VM.
func (w *world) machine(name string) *machine {
	w.t.Helper()
	m := w.host.named(name)
	if m == nil {
		w.t.Fatalf("%s is not alive", name)
	}
	return m
}

// settle lets everything happen that does so without a verb.
func settle() {
	time.Sleep(time.Second)
	synctest.Wait()
}

func spec() banger.Spec {
	return banger.Spec{Memory: banger.GiB, Work: 2 * banger.GiB}
}

func ephemeral() banger.Spec {
	s := spec()
	s.Ephemeral = true
	return s
}

// result is what a verb in the background returned.
type result struct {
	detail banger.Detail
	vm     banger.VM
	out    lifecycle.Outcome
	err    error
	died   bool // it did not return: see dieAt
}

// begin runs a verb in the background until it returns or waits.
func begin(verb func() result) <-chan result {
	ended := make(chan result, 1)
	go func() {
		r := result{died: true}
		defer func() { ended <- r }()
		r = verb()
	}()
	synctest.Wait()
	return ended
}

func (w *world) beginStart(ctx context.Context, name string) <-chan result {
	return begin(func() (r result) {
		r.detail, r.out, r.err = w.Start(ctx, name, lifecycle.StartOptions{}, nil)
		return r
	})
}

func (w *world) beginCreate(ctx context.Context, name string, s banger.Spec, start *lifecycle.StartOptions) <-chan result {
	return begin(func() (r result) {
		r.detail, r.err = w.Create(ctx, name, s, start, nil)
		return r
	})
}

func (w *world) beginStop(name string) <-chan result {
	return begin(func() (r result) {
		r.vm, r.out, r.err = w.Stop(context.Background(), name, 0)
		return r
	})
}

func pending(t testing.TB, what string, c <-chan result) {
	t.Helper()
	select {
	case r := <-c:
		t.Fatalf("%s is over: %+v", what, r)
	default:
	}
}

// wantKind fails the test unless err is of a kind.
func wantKind(t testing.TB, err error, want banger.Kind) {
	t.Helper()
	if got := banger.KindOf(err); got != want {
		t.Errorf("error %q is of kind %q, want %q", err, got, want)
	}
}

// wantWords fails the test unless s has all words.
func wantWords(t testing.TB, s string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(s, word) {
			t.Errorf("%q does not say %q", s, word)
		}
	}
}

// rows are the database's, which a Manager's own lock is not held for.
type rows struct {
	*store.DB
	w *world
}

func (r rows) Insert(ctx context.Context, rec banger.Record) error {
	r.w.locks.IO("an insert")
	return r.DB.Insert(ctx, rec)
}

func (r rows) Update(ctx context.Context, id string, change func(*banger.Record) error, tell ...func(banger.Record) banger.Event) (banger.Record, error) {
	r.w.locks.IO("an update")
	return r.DB.Update(ctx, id, change, tell...)
}

func (r rows) Delete(ctx context.Context, id string, tell ...func(banger.Record) banger.Event) error {
	r.w.locks.IO("a delete")
	return r.DB.Delete(ctx, id, tell...)
}

func (r rows) MarkDeleting(ctx context.Context, id string) error {
	r.w.locks.IO("a mark")
	return r.DB.MarkDeleting(ctx, id)
}

func (r rows) Get(ctx context.Context, owner int, id string) (banger.Record, error) {
	defer r.read("get")
	rec, err := r.DB.Get(ctx, owner, id)
	rec.Damaged = r.w.damage[rec.ID]
	return rec, err
}

func (r rows) Find(ctx context.Context, owner int, ref string) ([]banger.Record, error) {
	defer r.read("find")
	return r.damaged(r.DB.Find(ctx, owner, ref))
}

func (r rows) List(ctx context.Context, owner int) ([]banger.Record, error) {
	defer r.read("list")
	return r.damaged(r.DB.List(ctx, owner))
}

func (r rows) damaged(all []banger.Record, err error) ([]banger.Record, error) {
	for i := range all {
		all[i].Damaged = r.w.damage[all[i].ID]
	}
	return all, err
}

func (r rows) read(what string) {
	r.w.locks.IO("a read")
	if r.w.afterRead != nil {
		r.w.afterRead(what)
	}
}

// images are one image, "debian", and templates of every size.
type images struct {
	layout paths.Layout
	locks  *lifecycle.LockRecorder

	mu     sync.Mutex
	gate   chan struct{} // a pull waits until it is closed; nil: it does not
	size   banger.Bytes
	gone   bool              // the image is in no cache; what its name stands for is a newer one
	kernel string            // that the image has for its VMs
	names  map[string]string // local ones
}

// The digest of the image, and of what its name stands for once it is gone.
const (
	imageDigest = "sha256:0d"
	nextDigest  = "sha256:0f"
)

func newImages(l paths.Layout) *images { return &images{layout: l, size: banger.GiB} }

// hold has pulls wait until release is called.
func (i *images) hold() (release func()) {
	gate := make(chan struct{})
	i.mu.Lock()
	defer i.mu.Unlock()
	i.gate = gate
	return sync.OnceFunc(func() {
		i.mu.Lock()
		i.gate = nil
		i.mu.Unlock()
		close(gate)
	})
}

// setGone has the image pruned from the cache.
func (i *images) setGone(gone bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.gone = gone
}

func (i *images) Resolve(ctx context.Context, ref string, report banger.ProgressFunc) (banger.Image, error) {
	defer cached(i.locks)()
	i.mu.Lock()
	gate := i.gate
	i.mu.Unlock()
	if gate != nil && ref == "debian" {
		report.Report(banger.Progress{Stage: "pull image"})
		select {
		case <-gate:
		case <-ctx.Done():
			return banger.Image{}, ctx.Err()
		}
	}
	digest := imageDigest
	i.mu.Lock()
	if i.gone {
		digest = nextDigest
	}
	i.mu.Unlock()
	if ref != "debian" && ref != digest {
		return banger.Image{}, banger.Errorf(banger.KindNotFound, "no image %q", ref).WithNext("banger image list")
	}
	return banger.Image{
		Name: "debian", Digest: digest, Kernel: i.kernel, RootFS: filepath.Join(i.layout.Cache, "rootfs.ext4"), Size: i.size,
		Entrypoint: []string{"/entry"}, Cmd: []string{"sh"},
	}, nil
}

// cached takes the lock of something in the cache, as far as its order goes.
func cached(locks *lifecycle.LockRecorder) (free func()) {
	locks.IO("a cache")
	locks.Take(lifecycle.LockCache)
	return func() { locks.Free(lifecycle.LockCache) }
}

func (i *images) Template(_ context.Context, size banger.Bytes) (string, error) {
	defer cached(i.locks)()
	return filepath.Join(i.layout.Cache, size.String()+".ext4"), nil
}

// Commit takes a disk and throws it away. What the disk lies over has nothing in it.
func (i *images) Commit(ctx context.Context, vm string, below banger.Image, size banger.Bytes, write func(context.Context, io.WriterAt) error, _ banger.ProgressFunc) (banger.Image, error) {
	defer cached(i.locks)()
	i.mu.Lock()
	defer i.mu.Unlock()
	dir := filepath.Dir(below.RootFS)
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(below.RootFS, nil, 0o600)); err != nil {
		return banger.Image{}, err
	}
	f, err := os.CreateTemp(dir, "")
	if err != nil {
		return banger.Image{}, err
	}
	err = errors.Join(write(ctx, f), f.Close(), os.Remove(f.Name()), os.Remove(below.RootFS))
	return banger.Image{Digest: below.Digest + " of " + vm, Size: size}, err
}

// Name notes who has which name.
func (i *images) Name(name, digest string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.names == nil {
		i.names = map[string]string{}
	}
	i.names[name] = digest
	return nil
}

type kernels struct{ locks *lifecycle.LockRecorder }

// otherKernel is the digest of the kernel that is called other.
const otherKernel = "sha256:0f"

func (k kernels) Resolve(ctx context.Context, ref string, _ banger.ProgressFunc) (banger.Kernel, error) {
	defer cached(k.locks)()
	digest, known := map[string]string{"": "sha256:0e", "other": otherKernel}[ref]
	if !known {
		digest = ref
	}
	return k.Get(ctx, digest)
}

func (k kernels) Get(_ context.Context, ref string) (banger.Kernel, error) {
	k.locks.IO("a kernel")
	switch ref {
	case "sha256:0e":
		return banger.Kernel{Digest: ref, VMLinux: "/vmlinux", Initramfs: "/initramfs", Modules: "/modules"}, nil
	case otherKernel:
		return banger.Kernel{Digest: ref, VMLinux: "/other/vmlinux", Initramfs: "/initramfs", Modules: "/other/modules"}, nil
	}
	return banger.Kernel{}, banger.Errorf(banger.KindNotFound, "no kernel %q", ref).WithNext("banger kernel list")
}

// holds is the account of what VMs need of the cache.
type holds struct {
	mu   sync.Mutex
	vms  map[string]string // by directory: image and kernel
	kept string            // image and kernel that were kept when others were let go
	gone error             // what is said of something that is not there
}

func (h *holds) Hold(_ context.Context, rec banger.Record, dir string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone != nil {
		return h.gone
	}
	h.vms[dir] = rec.ImageDigest + " " + rec.KernelDigest
	return nil
}

func (h *holds) Keep(rec banger.Record, _ string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept = rec.ImageDigest + " " + rec.KernelDigest
	return nil
}

func (h *holds) Release(dir string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.vms, dir)
	return nil
}

func (h *holds) lines(names map[string]string) (lines []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for dir, needs := range h.vms {
		name := filepath.Base(dir)
		if known, ok := names[name]; ok {
			name = known
		}
		lines = append(lines, "hold "+name+" "+needs)
	}
	return lines
}
