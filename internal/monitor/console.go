package monitor

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/paths"
)

const (
	// ConsoleTail is how much of the console's end exit.json keeps.
	ConsoleTail = 64 << 10
	// consoleMax is the size at which a console file is rotated.
	consoleMax = 8 << 20
	// lineMax is where a line without an end is broken.
	lineMax = 16 << 10
	// stampLayout begins each line of the file.
	stampLayout = "2006-01-02T15:04:05.000Z07:00 "
)

// console writes the guest's console to two files, the newer and the older,
// with a time stamp a line, and keeps what an error report wants. Nothing else
// writes to them. A disk that is full costs log lines, not the VM.
type console struct {
	files paths.VM

	mu     sync.Mutex
	file   *os.File
	size   int64
	line   []byte // not ended yet
	tail   []byte
	stage  string    // of the boot
	fatal  string    // why the agent gave up
	panic  string    // what the kernel's panic said
	begun  time.Time // of the boot
	phases []banger.BootPhase
}

func newConsole(files paths.VM) (*console, error) {
	c := &console{files: files}
	if err := c.open(); err != nil {
		return nil, err
	}
	c.reset()
	return c, nil
}

// open opens the newer file, adding to what an earlier run wrote.
func (c *console) open() error {
	f, err := os.OpenFile(c.files.Console(0), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return err
	}
	c.file, c.size = f, info.Size()
	return nil
}

// reset forgets what was seen of an earlier boot.
func (c *console) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stage, c.fatal, c.panic = wire.StageKernel, "", ""
	c.begun, c.phases = time.Now(), nil
	c.phaseLocked(wire.StageKernel)
}

// Write takes the console's bytes; it never fails.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for rest := p; len(rest) > 0; {
		room := rest[:min(len(rest), lineMax-len(c.line))]
		if end := bytes.IndexByte(room, '\n'); end >= 0 {
			c.line = append(c.line, room[:end]...)
			rest = rest[end+1:]
			c.endLineLocked()
			continue
		}
		c.line = append(c.line, room...)
		rest = rest[len(room):]
		if len(c.line) == lineMax {
			c.endLineLocked()
		}
	}
	return len(p), nil
}

func (c *console) endLineLocked() {
	line := bytes.TrimRight(c.line, "\r")
	c.noteLocked(string(line))
	c.tail = append(append(c.tail, line...), '\n')
	if over := len(c.tail) - ConsoleTail; over > ConsoleTail { // now and then, not for every line
		c.tail = append(c.tail[:0], c.tail[over:]...)
	}
	c.putLocked(append(time.Now().AppendFormat(nil, stampLayout), append(line, '\n')...))
	c.line = c.line[:0]
}

// putLocked writes one whole line to the file.
func (c *console) putLocked(line []byte) {
	if c.size+int64(len(line)) > consoleMax {
		c.rotateLocked()
	}
	if c.file != nil {
		n, _ := c.file.Write(line)
		c.size += int64(n)
	}
}

// noteLocked picks up what the boot says of itself. The guest may say what it
// likes here: it goes to people only.
func (c *console) noteLocked(line string) {
	if _, stage, ok := strings.Cut(line, wire.StagePrefix); ok {
		c.stage = brief(stage)
		if slices.Contains(stages, stage) {
			c.phaseLocked(stage)
		}
	}
	if _, why, ok := strings.Cut(line, wire.FatalPrefix); ok && c.fatal == "" {
		c.fatal = brief(why)
	}
	if _, why, ok := strings.Cut(line, "Kernel panic - not syncing: "); ok && c.panic == "" {
		c.panic = brief(why)
	}
}

// stages are the phases of a boot that the guest may name, each once a boot.
var stages = []string{
	wire.StageModules, wire.StageConfig, wire.StageRoot, wire.StageMounts, wire.StageWork,
	wire.StageIdentity, wire.StageNetwork, wire.StagePorts,
}

// phaseReady is the phase in which commands can be run.
const phaseReady = "ready"

// phaseLocked notes that a phase begins, unless it or the last one has.
func (c *console) phaseLocked(name string) {
	if slices.ContainsFunc(c.phases, func(p banger.BootPhase) bool { return p.Name == name || p.Name == phaseReady }) {
		return
	}
	c.phases = append(c.phases, banger.BootPhase{Name: name, BeginMS: time.Since(c.begun).Milliseconds()})
}

// ready ends the phases of this boot.
func (c *console) ready() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phaseLocked(phaseReady)
}

// boot is the phases of this boot so far.
func (c *console) boot() []banger.BootPhase {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.phases)
}

// StampOf is the time of a line of the console's files.
func StampOf(line []byte) (time.Time, bool) {
	stamp, _, ok := bytes.Cut(line[:min(len(line), 2*len(stampLayout))], []byte{' '})
	if !ok {
		return time.Time{}, false
	}
	at, err := time.Parse(strings.TrimSuffix(stampLayout, " "), string(stamp))
	return at, err == nil
}

// briefMax bounds what a status or an error repeats of one line.
const briefMax = 512

func brief(text string) string { return text[:min(len(text), briefMax)] }

func (c *console) rotateLocked() {
	_ = c.file.Close()
	c.file = nil
	_ = os.Rename(c.files.Console(0), c.files.Console(1))
	_ = c.open()
}

// seen is what the console told so far of this boot.
func (c *console) seen() (stage, fatal, panicked string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stage, c.fatal, c.panic
}

// last is the end of the console, at most ConsoleTail bytes.
func (c *console) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	tail := string(c.tail) + string(c.line)
	return tail[max(0, len(tail)-ConsoleTail):]
}

// mark writes a line of our own, so that a reader sees where a run begins.
func (c *console) mark(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.line) > 0 {
		c.endLineLocked()
	}
	c.putLocked(fmt.Appendf(nil, "%s-- %s --\n", time.Now().Format(stampLayout), fmt.Sprintf(format, args...)))
}

func (c *console) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.line) > 0 {
		c.endLineLocked()
	}
	if c.file != nil {
		_ = c.file.Close()
		c.file = nil
	}
}
