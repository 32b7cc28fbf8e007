package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"banger.dev/banger"
)

// How long a stage lasts before it is worth a word. Where lines stay, in a log
// or mixed with the output of the command that follows, only a download is, and
// not one that was cached, or waiting for somebody else.
const (
	barDelay  = 500 * time.Millisecond
	lineDelay = 2 * time.Second
)

// progress shows reports of something long: a bar on a terminal, plain lines
// elsewhere, nothing when quiet.
type progress struct {
	show  func(banger.Progress) // of the stage that has become worth it; called with mu held
	wants func(banger.Progress) bool
	close func()
	delay time.Duration

	mu    sync.Mutex // guards the rest
	last  banger.Progress
	shown bool // the stage of last is on display
	timer *time.Timer
	ended bool
}

// newProgress writes to stderr. Its caller calls end.
func (a *app) newProgress() *progress {
	switch {
	case a.quiet || a.json:
		return &progress{wants: func(banger.Progress) bool { return false }, close: func() {}}
	case isTerminal(a.Stderr):
		bar := &bar{out: a.Stderr}
		return &progress{show: bar.show, wants: func(banger.Progress) bool { return true }, close: bar.close, delay: barDelay}
	default:
		return newPlainProgress(a.Stderr)
	}
}

func newPlainProgress(out io.Writer) *progress {
	lines := &lines{out: out}
	return &progress{show: lines.show, wants: isLong, close: func() {}, delay: lineDelay}
}

// isLong says whether a stage fetches or makes an image or a kernel, or waits for
// another command.
func isLong(p banger.Progress) bool {
	return slices.ContainsFunc([]string{"image", "kernel", "pull", "wait"}, func(what string) bool { return strings.Contains(p.Stage, what) })
}

// report is a banger.ProgressFunc.
func (p *progress) report(r banger.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	if r.Stage != p.last.Stage || p.timer == nil {
		p.begin()
	}
	p.last = r
	if p.shown && p.wants(r) {
		p.show(r)
	}
}

// begin waits until the new stage has lasted a while.
func (p *progress) begin() {
	if p.timer != nil {
		p.timer.Stop()
	}
	p.shown = false
	var timer *time.Timer
	timer = time.AfterFunc(p.delay, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.ended || p.timer != timer {
			return
		}
		p.shown = true
		if p.wants(p.last) {
			p.show(p.last)
		}
	})
	p.timer = timer
}

// end takes the display away; later reports are dropped.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	p.ended = true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.close()
}

// lines shows a stage by a line when it begins, when its message changes and
// at each tenth of the way.
type lines struct {
	out  io.Writer
	last string
}

func (l *lines) show(r banger.Progress) {
	line := describe(r)
	if r.Total > 0 {
		tenth := min(max(r.Done*10/r.Total, 0), 10)
		line += fmt.Sprintf(" %d%%", tenth*10)
		if r.Bytes {
			line += " of " + banger.Bytes(r.Total).String()
		}
	}
	if line == l.last {
		return
	}
	l.last = line
	_, _ = fmt.Fprintln(l.out, "banger: "+escape(line))
}

func describe(r banger.Progress) string {
	if r.Message == "" {
		return r.Stage
	}
	return r.Stage + ": " + r.Message
}

// bar shows the present stage on one line of a terminal and takes it away.
type bar struct {
	out   io.Writer
	pool  *mpb.Progress
	bar   *mpb.Bar
	stage string
	text  string // guarded by mu, for the bar is drawn by another goroutine
	mu    sync.Mutex
}

func (b *bar) show(r banger.Progress) {
	b.mu.Lock()
	b.text = escape(describe(r))
	b.mu.Unlock()
	if b.pool == nil {
		b.pool = mpb.New(mpb.WithOutput(b.out), mpb.WithWidth(40))
	}
	// A bar is either one with an end or one without: the kinds look different.
	if stage := fmt.Sprint(r.Stage, r.Total > 0, r.Bytes); b.bar == nil || stage != b.stage {
		b.drop()
		b.stage, b.bar = stage, b.newBar(r)
	}
	if r.Total > 0 {
		b.bar.SetTotal(r.Total, false)
		b.bar.SetCurrent(min(max(r.Done, 0), r.Total-1)) // full would end it
	}
}

func (b *bar) newBar(r banger.Progress) *mpb.Bar {
	name := decor.Any(func(decor.Statistics) string {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.text + " "
	})
	if r.Total <= 0 {
		return b.pool.New(0, mpb.SpinnerStyle(), mpb.PrependDecorators(name),
			mpb.AppendDecorators(decor.Elapsed(decor.ET_STYLE_GO)), mpb.BarRemoveOnComplete())
	}
	counters := decor.CountersNoUnit(" %d/%d")
	if r.Bytes {
		counters = decor.CountersKibiByte(" % .1f / % .1f")
	}
	return b.pool.New(r.Total, mpb.BarStyle(), mpb.PrependDecorators(name),
		mpb.AppendDecorators(counters, decor.Name(" left "), decor.AverageETA(decor.ET_STYLE_GO)), mpb.BarRemoveOnComplete())
}

func (b *bar) drop() {
	if b.bar != nil {
		b.bar.Abort(true)
		b.bar.Wait()
	}
}

func (b *bar) close() {
	if b.pool != nil {
		b.drop()
		b.pool.Shutdown()
	}
}
