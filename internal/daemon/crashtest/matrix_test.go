package crashtest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/client"
	"banger.dev/banger/internal/daemon/fault"
)

var only = flag.String("cells", "", "run only the `cells` whose names this regular expression matches, such as 'stop: before stop.guest kill'")

// cell is one field of the matrix.
type cell struct {
	verb  verb
	fault fault.Fault
}

func (c cell) String() string { return c.verb.name + ": " + c.fault.String() }

// TestMatrix goes through every verb × step × before or after × kind of fault.
// The steps are those that a run of the verb without a fault comes to, so the
// matrix grows by itself.
func TestMatrix(t *testing.T) {
	wanted := wantedCells(t)
	homes := make([]*home, 2*runtime.NumCPU())
	for i := range homes {
		homes[i] = newHome(t, fake(t))
	}
	m := newMatrix(t, homes[0])
	m.visitsEveryStep(t)
	m.coversEveryState(t)
	m.run(t, homes, wanted)
	t.Logf("the crash matrix: %s", m)
}

// wantedCells says of a cell whether it was asked for.
func wantedCells(t *testing.T) func(cell) bool {
	t.Helper()
	names, err := regexp.Compile(*only)
	if err != nil {
		t.Fatal(err)
	}
	return func(c cell) bool { return names.MatchString(c.String()) }
}

// matrix is all cells and what came of them.
type matrix struct {
	rows  []row
	cells []cell

	mu      sync.Mutex
	results map[string]error // by the cell's name
}

// row is a verb and the points that it comes to.
type row struct {
	verb   verb
	points []fault.Visit
}

// newMatrix runs every verb without a fault, to see which points it comes to.
func newMatrix(t *testing.T, h *home) *matrix {
	t.Helper()
	m := &matrix{results: map[string]error{}}
	for _, v := range verbs() {
		points, err := v.record(h)
		if err != nil {
			t.Fatalf("%s without a fault: %v", v.name, err)
		}
		m.add(v, points)
	}
	return m
}

// add adds a verb's cells. Where no VM is alive, there is none whose processes
// could be killed.
func (m *matrix) add(v verb, points []fault.Visit) {
	m.rows = append(m.rows, row{v, points})
	for _, p := range points {
		for _, kind := range fault.Kinds() {
			if v.has(kind) && (p.Alive || !kind.OfVM()) {
				m.cells = append(m.cells, cell{v, fault.Fault{Step: p.Step, After: p.After, Kind: kind}})
			}
		}
	}
}

func (v verb) has(kind fault.Kind) bool {
	return !v.alike || kind != fault.ENOSPC && kind != fault.EBUSY
}

// maxFailures is how many cells may fail before the rest is not tried any more.
const maxFailures = 10

// run runs the cells that are wanted, one at a time in each home.
func (m *matrix) run(t *testing.T, homes []*home, wanted func(cell) bool) {
	t.Helper()
	cells := make(chan cell)
	var failures atomic.Int64
	var workers sync.WaitGroup
	for _, h := range homes {
		workers.Go(func() {
			for c := range cells {
				err := c.run(h)
				m.note(c, err)
				if err != nil {
					failures.Add(1)
					t.Errorf("%s: %v", c, err)
				}
			}
		})
	}
	for _, c := range m.cells {
		if wanted(c) && failures.Load() < maxFailures {
			cells <- c
		}
	}
	close(cells)
	workers.Wait()
}

func (m *matrix) note(c cell, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.results[c.String()] = err
}

// String is a table with a line for each point: + for a cell that held, X for
// one that did not, . for one that cannot be or was not asked for.
func (m *matrix) String() string {
	var s strings.Builder
	points := 0
	for _, r := range m.rows {
		points += len(r.points)
		fmt.Fprintf(&s, "\n%s\n", r.verb.name)
		for _, p := range r.points {
			fmt.Fprintf(&s, "  %-26s", p.Point)
			for _, kind := range fault.Kinds() {
				err, ran := m.results[cell{r.verb, fault.Fault{Step: p.Step, After: p.After, Kind: kind}}.String()]
				mark := "+"
				switch {
				case !ran:
					mark = "."
				case err != nil:
					mark = "X"
				}
				fmt.Fprintf(&s, " %s", mark)
			}
			s.WriteByte('\n')
		}
	}
	return fmt.Sprintf("%d verbs, %d points, %d cells, %d of them run; columns are %v\n%s", len(m.rows), points, len(m.cells), len(m.results), fault.Kinds(), s.String())
}

// record runs a verb without a fault and returns the points that it came to,
// each once.
func (v verb) record(h *home) ([]fault.Visit, error) {
	if err := v.reach(h); err != nil {
		return nil, err
	}
	if err := h.faults.Disarm(); err != nil {
		return nil, err
	}
	if err := v.do(h, v.target()); (err != nil) != v.hopeless {
		return nil, fmt.Errorf("it ended with %w", err)
	}
	if err := eventually(func() error { return errors.Join(h.right(v, v.to), h.effective(v)) }); err != nil {
		return nil, err
	}
	// A daemon that ends in good order finishes what it is about.
	if err := do(h, func(ctx context.Context, c *client.Client) (any, error) { return nil, c.StopDaemon(ctx) }); err != nil {
		return nil, err
	}
	visits, err := h.faults.Trace()
	if err != nil {
		return nil, err
	}
	var points []fault.Visit
	for _, visit := range visits {
		visit.Of = ""
		if !slices.ContainsFunc(points, func(p fault.Visit) bool { return p.Point == visit.Point }) {
			points = append(points, visit)
		}
	}
	return points, h.reset(v)
}

// reach brings the verb's VM to the state that it begins from.
func (v verb) reach(h *home) error {
	if v.from != absent {
		if err := h.create(v.target(), h.spec, nil); err != nil {
			return err
		}
	}
	return v.enter(h)
}

// enter brings a VM that is stopped to the state that the verb begins from.
func (v verb) enter(h *home) error {
	vm := v.target()
	if v.from == banger.StateRunning || v.from == banger.StatePaused {
		if err := h.start(vm, 0); err != nil {
			return err
		}
	}
	switch v.from {
	case banger.StatePaused:
		if err := h.pause(vm); err != nil {
			return err
		}
	case banger.StateBroken:
		if err := h.loseDisk(vm); err != nil {
			return err
		}
	}
	if v.prepare != nil {
		return v.prepare(h, vm)
	}
	return nil
}

// run is what a cell claims: whatever happens in the verb, the daemon says what
// is so, the next one too, the verb can be repeated to success, the VM deleted,
// and nothing is left.
func (c cell) run(h *home) error {
	err := c.attempt(h)
	if err == nil {
		return nil
	}
	// The next cell is to find a home as good as new.
	_ = errors.Join(h.faults.Disarm(), h.killDaemon(), h.delete(c.verb.target(), true))
	h.before, _ = h.inventory()
	return err
}

func (c cell) attempt(h *home) error {
	v := c.verb
	if err := v.reach(h); err != nil {
		return fmt.Errorf("before the fault: %w", err)
	}
	if err := h.faults.Arm(c.fault); err != nil {
		return err
	}
	failure := v.do(h, v.target())
	if err := eventually(h.happened); err != nil {
		return fmt.Errorf("%w; the verb: %v", err, failure)
	}
	if err := c.explains(failure); err != nil {
		return err
	}
	states := c.states(failure)
	if err := h.faults.Disarm(); err != nil {
		return err
	}
	if c.fault.Kind != fault.Kill { // there is space again, or nothing is busy any more
		if err := eventually(func() error { return h.right(v, states...) }); err != nil {
			return fmt.Errorf("after the fault, the verb having ended with %v: %w", failure, err)
		}
	}
	if err := h.killDaemon(); err != nil {
		return err
	}
	if err := eventually(func() error { return h.right(v, states...) }); err != nil {
		return fmt.Errorf("with the next daemon, the verb having ended with %v: %w", failure, err)
	}
	if err := eventually(h.swept); err != nil {
		return fmt.Errorf("with the next daemon: %w", err)
	}
	if err := c.repeat(h); err != nil {
		return fmt.Errorf("the verb had ended with %v, and again: %w", failure, err)
	}
	return h.reset(v)
}

// happened says whether the fault that was armed has.
func (h *home) happened() error {
	visits, err := h.faults.Trace()
	if err == nil && !slices.ContainsFunc(visits, func(v fault.Visit) bool { return v.Fault }) {
		err = errors.New("the fault did not happen")
	}
	return err
}

// explains looks at the error of a verb with a step that failed.
func (c cell) explains(failure error) error {
	errno := map[fault.Kind]error{fault.EIO: syscall.EIO, fault.ENOSPC: syscall.ENOSPC, fault.EBUSY: syscall.EBUSY}[c.fault.Kind]
	if failure == nil || errno == nil || c.verb.hopeless || strings.Contains(failure.Error(), errno.Error()) {
		return nil
	}
	return fmt.Errorf("the verb's error does not say %q: %w", errno, failure)
}

// states are those that the VM may be in after the fault.
func (c cell) states(failure error) []banger.State {
	states := []banger.State{c.verb.to}
	if failure != nil || c.verb.quiet {
		states = append(append(states, c.verb.from), c.verb.via...)
	}
	if c.fault.Kind.OfVM() {
		states = append(states, banger.StateStopped)
	}
	return states
}

// repeat does the verb again, which succeeds now, or says that it had been done.
func (c cell) repeat(h *home) error {
	v := c.verb
	err := v.do(h, v.target())
	if c.fault.Kind.OfVM() && banger.KindOf(err) == banger.KindConflict { // it is for a VM that runs, and this one was killed
		err = errors.Join(v.enter(h), v.do(h, v.target()))
	}
	switch {
	case v.hopeless && err == nil:
		return errors.New("it succeeds")
	case err != nil && !v.hopeless && (v.done == "" || banger.KindOf(err) != v.done):
		return err
	}
	states := []banger.State{v.to}
	if v.from == v.to && c.fault.Kind.OfVM() { // no business of this verb's to start it again
		states = append(states, banger.StateStopped)
	}
	return eventually(func() error { return errors.Join(h.right(v, states...), h.effective(v)) })
}

// effective says whether the effect of a verb is there.
func (h *home) effective(v verb) error {
	if v.effect == nil {
		return nil
	}
	if v.to == absent {
		return v.effect(h, banger.VM{})
	}
	d, err := h.show(v.target())
	if err != nil {
		return err
	}
	return v.effect(h, d.VM)
}

// reset deletes the verb's VM, and what the verb has made beside it, and compares what there is with what there was.
func (h *home) reset(v verb) error {
	if err := h.delete(v.target(), true); err != nil && banger.KindOf(err) != banger.KindNotFound {
		return fmt.Errorf("delete: %w", err)
	}
	if v.undo != nil {
		if err := v.undo(h); err != nil {
			return fmt.Errorf("undo: %w", err)
		}
	}
	return eventually(func() error {
		now, err := h.inventory()
		if err != nil || slices.Equal(now, h.before) {
			return err
		}
		return fmt.Errorf("left behind: %v; lost: %v", without(now, h.before), without(h.before, now))
	})
}

func without(all, known []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(known, s) })
}

// right says whether the list is: the verb's VM in one of these states, the
// bystander as it was, and nobody else; and that is how it is on the host.
func (h *home) right(v verb, states ...banger.State) error {
	list, err := h.list()
	if err != nil {
		return err
	}
	state := absent
	for _, vm := range list {
		switch vm.Name {
		case v.target():
			state = vm.State
		case bystander:
		default:
			return fmt.Errorf("there is a VM %s", vm.Name)
		}
		if err := h.truth(vm); err != nil {
			return fmt.Errorf("%s is said to be %s (%s): %w", vm.Name, vm.State, vm.Reason, err)
		}
	}
	if !slices.Contains(states, state) {
		return fmt.Errorf("%s is %s, not one of %v", v.target(), state, states)
	}
	d, err := h.show(bystander)
	if err != nil {
		return err
	}
	if d.State != banger.StateRunning || d.Handles == nil || *d.Handles != *h.other.Handles {
		return fmt.Errorf("the bystander was %+v and is %s: %+v", h.other.Handles, d.State, d.Handles)
	}
	return nil
}

// truth says whether a VM is what the list says.
func (h *home) truth(vm banger.VM) error {
	alive, err := h.alive(vm.ID)
	if err != nil {
		return err
	}
	files := h.layout.VM(vm.ID)
	switch vm.State {
	case banger.StateRunning, banger.StatePaused:
		if !alive {
			return errors.New("nobody holds its lock")
		}
	case banger.StateStopped, banger.StateBroken:
		if alive {
			return errors.New("somebody holds its lock")
		}
		for _, path := range []string{files.Handles(), files.Run} {
			if _, err := os.Stat(path); err == nil {
				return fmt.Errorf("there still is %s", path)
			}
		}
	default:
		return errors.New("nothing is under way")
	}
	return nil
}
