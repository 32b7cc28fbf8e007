package exectest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"
)

func allBytes() string {
	var b strings.Builder
	for range 8 {
		for i := range 256 {
			b.WriteByte(byte(i))
		}
	}
	return b.String()
}

// blocked is a stdin on which nothing ever comes.
type blocked struct{}

func (blocked) Read([]byte) (int, error) { select {} }

// endless is a stdin that never ends, and counts what was taken of it.
type endless struct{ taken atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'y'
		if i%2 == 1 {
			p[i] = '\n'
		}
	}
	e.taken.Add(int64(len(p)))
	return len(p), nil
}

// random is n bytes that no compression shortens, the same for the same seed.
func random(n int64, seed byte) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{seed}), n)
}

func sum(r io.Reader) string {
	h := sha256.New()
	_, _ = io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil))
}

func inputs() []Case {
	cat := Call{Argv: []string{"cat"}}
	return []Case{
		{Name: "stdin/empty", Call: cat},
		{Name: "stdin/text", Call: cat, Stdin: "one\ntwo\n", Stdout: "one\ntwo\n"},
		{Name: "stdin/no last newline", Call: Call{Argv: []string{"wc", "-c"}}, Stdin: "abc", Stdout: "3\n"},
		{Name: "stdin/every byte", Call: cat, Stdin: allBytes(), Stdout: allBytes()},
		{Name: "stdin/one megabyte that nobody reads", Call: Call{Argv: []string{"true"}}, Stdin: strings.Repeat("x", 1<<20)},
		{Name: "stdin/closed by the command", Call: sh("exec <&-; echo still here"), Stdin: strings.Repeat("x", 1<<20), Stdout: "still here\n"},
		{Name: "stdin/closed by the command, which goes on", Call: sh("exec <&-; sleep 0.5; echo still here; exit 4"), Stdin: strings.Repeat("x", 8<<20), Stdout: "still here\n", Code: 4},
		{Name: "stdin/read in part", Call: sh("head -c 3"), Stdin: "abcdef" + strings.Repeat("x", 4<<20), Stdout: "abc"},
		{Name: "stdin/line by line", Call: sh(`while read -r l; do printf '<%s>' "$l"; done`), Stdin: "a\nb b\n\\c\n", Stdout: `<a><b b><\c>`},
		{Name: "stdin/is no terminal", Call: sh("test -t 0 || test -t 1 || test -t 2 || echo none"), Stdout: "none\n"},
		{Name: "stdin/never ends", Do: func(x *X) {
			var out strings.Builder
			code, err := x.Start(context.Background(), Call{Argv: []string{"head", "-n", "2"}, Stdin: &endless{}, Stdout: &out})()
			if code != 0 || err != nil || out.String() != "y\ny\n" {
				x.Errorf("%d, %v, %q", code, err, out.String())
			}
		}},
		{Name: "stdin/never comes", Do: func(x *X) {
			code, err := x.Start(context.Background(), Call{Argv: []string{"sh", "-c", "exit 8"}, Stdin: blocked{}})()
			if code != 8 || err != nil {
				x.Errorf("%d, %v", code, err)
			}
		}},
		{Name: "stdin/an answer for each line", Do: func(x *X) {
			r, w := io.Pipe()
			out := NewOutput()
			wait := x.Start(context.Background(), Call{Argv: []string{"sh", "-c", `while read -r l; do echo "got $l"; done; exit 2`}, Stdin: r, Stdout: out})
			for _, line := range []string{"first", "second", "third"} {
				_, _ = io.WriteString(w, line+"\n")
				out.Await(x, "got "+line+"\n")
			}
			_ = w.Close()
			if code, err := wait(); code != 2 || err != nil {
				x.Errorf("%d, %v", code, err)
			}
		}},
	}
}

func outputs() []Case {
	return []Case{
		{Name: "output/each to its own", Call: sh("echo out; echo err >&2; exit 7"), Stdout: "out\n", Stderr: "err\n", Code: 7},
		{Name: "output/none", Call: Call{Argv: []string{"true"}}},
		{Name: "output/no last newline", Call: Call{Argv: []string{"printf", "abc"}}, Stdout: "abc"},
		{Name: "output/every byte", Call: sh("cat; cat >&2 < /dev/null"), Stdin: allBytes(), Stdout: allBytes()},
		{Name: "output/every byte to stderr", Call: sh("cat >&2"), Stdin: allBytes(), Stderr: allBytes()},
		{Name: "output/many small writes", Call: sh("i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done | tail -n 1; echo end"), Stdout: "1999\nend\n"},
		{Name: "output/order within a stream", Call: sh("for i in 1 2 3 4 5 6 7 8 9; do printf $i; done"), Stdout: "123456789"},
		{Name: "output/stdout closed by the command", Call: sh("exec >&-; echo err >&2; exit 6"), Stderr: "err\n", Code: 6},
		{Name: "output/both closed by the command", Call: sh("exec >&- 2>&-; sleep 0.2; exit 6"), Code: 6},
		{Name: "output/of one killed", Call: sh("printf before; kill -9 $$"), Stdout: "before", Code: 137},
		{Name: "output/the last bytes before the end", Do: func(x *X) {
			for range 30 {
				out, _, _ := x.Exec(sh("head -c 60000 /dev/zero; printf end"))
				if len(out) != 60003 || !strings.HasSuffix(out, "end") {
					x.Fatalf("%d bytes of 60003", len(out))
				}
			}
		}},
		{Name: "output/more than a pipe holds to either side", Do: func(x *X) {
			out, err, code := x.Exec(sh("head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero"))
			if len(out) != 3_000_000 || len(err) != 3_000_000 || code != 0 {
				x.Errorf("%d, %d, %d", len(out), len(err), code)
			}
		}},
		{Name: "output/to a reader that is gone", Do: func(x *X) {
			gone := &limited{left: 10}
			code, err := x.Start(context.Background(), Call{Argv: []string{"sh", "-c", "while :; do echo y; done"}, Stdout: gone})()
			if err == nil && code == 0 {
				x.Error("an endless command ended well though nobody reads it")
			}
		}},
		{Name: "output/a stopped reader stops its own command only", Do: func(x *X) {
			release := make(chan struct{})
			stopped := &gate{open: release}
			wait := x.Start(context.Background(), Call{Argv: []string{"head", "-c", "8000000", "/dev/zero"}, Stdout: stopped})
			if out := x.Shell("echo fine"); out != "fine\n" {
				x.Errorf("another command beside it said %q", out)
			}
			close(release)
			if code, err := wait(); code != 0 || err != nil || stopped.n.Load() != 8_000_000 {
				x.Errorf("%d, %v, %d bytes", code, err, stopped.n.Load())
			}
		}},
	}
}

// limited fails after a few bytes, like a pipe whose reader has left.
type limited struct{ left int }

func (l *limited) Write(p []byte) (int, error) {
	l.left -= len(p)
	if l.left < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

// gate takes nothing until it is opened.
type gate struct {
	open chan struct{}
	n    atomic.Int64
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	g.n.Add(int64(len(p)))
	return len(p), nil
}

func background() []Case {
	waits := map[string]string{"local": "the reference waits for whoever holds the pipes"}
	return []Case{
		{Name: "background/holds the pipes but not the caller", Differs: waits, Do: func(x *X) {
			out, _, code := x.Exec(sh("sleep 600 & echo $!; exit 3"))
			if code != 3 {
				x.Errorf("exit code %d", code)
			}
			x.Shell("kill " + strings.TrimSpace(out))
		}},
		{Name: "background/goes on and may write", Differs: waits, Do: func(x *X) {
			// Should its pipe break, the writer dies before it makes the file.
			_, _, code := x.Exec(sh(`(sleep 0.5; set -e; for i in 1 2 3; do echo y; echo y >&2; done; head -c 300000 /dev/zero; : > ` + x.D + `/done) & exit 0`))
			if code != 0 {
				x.Errorf("exit code %d", code)
			}
			x.Await("the background child's end", "test -e {D}/done")
		}},
		{Name: "background/what it writes before the end is the caller's", Call: sh("(echo child) & wait; echo parent"), Stdout: "child\nparent\n"},
		{Name: "background/a daemon", Do: func(x *X) {
			x.Exec(sh("setsid sh -c 'sleep 0.3; : > " + x.D + "/done' < /dev/null > /dev/null 2>&1 & exit 0"))
			x.Await("the daemon's work", "test -e {D}/done")
		}},
		{Name: "background/no zombies", Differs: map[string]string{"agent": hostInit, "local": hostInit}, Do: func(x *X) {
			x.Exec(sh("(true) & (false) & exec sleep 0.2"))
			x.Await("no zombie of ours", `! grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | while read -r f; do grep -q "^Name:.\(true\|false\|sleep\)$" $f && echo $f; done | grep -q .`)
		}},
	}
}

const hostInit = "orphans are the affair of the init of the machine that the test runs on"

const bulkSize = 64 << 20

func bulk() []Case {
	return []Case{
		{Name: "bulk/64 MiB there and back", Do: func(x *X) {
			h := sha256.New()
			var n atomic.Int64
			count := writerFunc(func(p []byte) (int, error) { n.Add(int64(len(p))); return h.Write(p) })
			code, err := x.Start(context.Background(), Call{Argv: []string{"cat"}, Stdin: random(bulkSize, 1), Stdout: count})()
			if code != 0 || err != nil || n.Load() != bulkSize {
				x.Fatalf("%d, %v, %d bytes", code, err, n.Load())
			}
			if got := hex.EncodeToString(h.Sum(nil)); got != sum(random(bulkSize, 1)) {
				x.Error("they came back changed")
			}
		}},
		{Name: "bulk/64 MiB there", Do: func(x *X) {
			out, _, code := x.Exec(Call{Argv: []string{"sha256sum"}, Stdin: random(bulkSize, 2)})
			if want := sum(random(bulkSize, 2)) + "  -\n"; code != 0 || out != want {
				x.Errorf("%d, %q, want %q", code, out, want)
			}
		}},
		{Name: "bulk/64 MiB back", Do: func(x *X) {
			var n atomic.Int64
			count := writerFunc(func(p []byte) (int, error) { n.Add(int64(len(p))); return len(p), nil })
			code, err := x.Start(context.Background(), Call{Argv: []string{"head", "-c", "67108864", "/dev/zero"}, Stdout: count})()
			if code != 0 || err != nil || n.Load() != bulkSize {
				x.Errorf("%d, %v, %d bytes", code, err, n.Load())
			}
		}},
		{Name: "bulk/in both directions at once, on three", Do: func(x *X) {
			var waits []func() (int, error)
			var counts [3]atomic.Int64
			for i := range counts {
				count := writerFunc(func(p []byte) (int, error) { counts[i].Add(int64(len(p))); return len(p), nil })
				waits = append(waits, x.Start(context.Background(), Call{Argv: []string{"cat"}, Stdin: random(4<<20, byte(i)), Stdout: count}))
			}
			for i, wait := range waits {
				if code, err := wait(); code != 0 || err != nil || counts[i].Load() != 4<<20 {
					x.Errorf("%d: %d, %v, %d bytes", i, code, err, counts[i].Load())
				}
			}
		}},
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func clients() []Case {
	const trap = `trap 'echo %s > {D}/got; exit 0' %s; echo ready; while :; do sleep 0.05; done`
	start := func(x *X, signals <-chan int, script string) (*Output, func() (int, error)) {
		out := NewOutput()
		wait := x.Start(context.Background(), Call{Argv: []string{"sh", "-c", x.expand(script)}, Stdout: out, Signals: signals, Stdin: blocked{}})
		out.Await(x, "ready\n")
		return out, wait
	}
	sent := func(signal int, script string, want int) func(x *X) {
		return func(x *X) {
			signals := make(chan int, 1)
			_, wait := start(x, signals, script)
			signals <- signal
			if code, err := wait(); code != want || err != nil {
				x.Errorf("%d, %v, want %d", code, err, want)
			}
		}
	}
	return []Case{
		{Name: "client/sends SIGTERM", Needs: NeedsSignals, Do: sent(15, "echo ready; exec sleep 600", 143)},
		{Name: "client/sends SIGINT", Needs: NeedsSignals, Do: sent(2, "echo ready; exec sleep 600", 130)},
		{Name: "client/sends SIGHUP", Needs: NeedsSignals, Do: sent(1, "echo ready; exec sleep 600", 129)},
		{Name: "client/sends a signal that is caught", Needs: NeedsSignals, Do: sent(10, "trap 'exit 33' USR1; echo ready; while :; do sleep 0.05; done", 33)},
		{Name: "client/sends a signal to the whole group", Needs: NeedsSignals, Do: sent(15, "trap : TERM; sh -c 'trap \"exit 44\" TERM; echo ready; while :; do sleep 0.05; done'; exit $?", 44)},
		{Name: "client/sends a signal past a stdin that nobody reads", Needs: NeedsSignals, Do: func(x *X) {
			signals := make(chan int, 1)
			flood := &endless{}
			wait := x.Start(context.Background(), Call{Argv: []string{"sleep", "600"}, Stdin: flood, Signals: signals})
			for last := int64(-1); last != flood.taken.Load(); time.Sleep(300 * time.Millisecond) {
				last = flood.taken.Load() // until nothing more is taken
			}
			signals <- 2
			if code, err := wait(); code != 130 || err != nil {
				x.Errorf("%d, %v", code, err)
			}
		}},
		{Name: "client/sends a signal past an output that it does not read", Needs: NeedsSignals, Do: func(x *X) {
			signals := make(chan int, 1)
			stopped := &gate{open: make(chan struct{})}
			wait := x.Start(context.Background(), Call{Argv: []string{"sh", "-c", "trap ': > " + x.D + "/got; exit 5' TERM; while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy 2>/dev/null; done"}, Stdout: stopped, Signals: signals})
			time.Sleep(500 * time.Millisecond)
			signals <- 9
			close(stopped.open)
			if code, err := wait(); code != 137 || err != nil {
				x.Errorf("%d, %v", code, err)
			}
		}},
		{Name: "client/is gone: SIGHUP", Needs: NeedsHangup, Do: func(x *X) {
			ctx, cancel := context.WithCancel(context.Background())
			out := NewOutput()
			wait := x.Start(ctx, Call{Argv: []string{"sh", "-c", x.expand(strings.NewReplacer("%s", "HUP").Replace(trap))}, Stdout: out, Stdin: blocked{}})
			out.Await(x, "ready\n")
			cancel()
			_, _ = wait()
			x.Await("the signal", `grep -q HUP {D}/got`)
		}},
		{Name: "client/is gone: SIGKILL in the end", Needs: NeedsHangup, Do: func(x *X) {
			ctx, cancel := context.WithCancel(context.Background())
			out := NewOutput()
			wait := x.Start(ctx, Call{Argv: []string{"sh", "-c", x.expand(`trap '' HUP; echo $$ > {D}/pid; echo ready; while :; do sleep 0.05; done`)}, Stdout: out, Stdin: blocked{}})
			out.Await(x, "ready\n")
			cancel()
			_, _ = wait()
			x.Await("its end", `! kill -0 $(cat {D}/pid)`)
		}},
		{Name: "client/is gone: what left the group stays", Needs: NeedsHangup, Do: func(x *X) {
			ctx, cancel := context.WithCancel(context.Background())
			out := NewOutput()
			wait := x.Start(ctx, Call{Argv: []string{"sh", "-c", x.expand(`setsid sh -c 'echo $$ > {D}/daemon; while :; do sleep 0.1; done' & while ! test -s {D}/daemon; do sleep 0.05; done; echo $$ > {D}/pid; echo ready; while :; do sleep 0.05; done`)}, Stdout: out, Stdin: blocked{}})
			out.Await(x, "ready\n")
			cancel()
			_, _ = wait()
			x.Await("the command's end", `! kill -0 $(cat {D}/pid)`)
			x.Shell(x.expand(`kill $(cat {D}/daemon)`))
		}},
		{Name: "client/is gone while its stdin is stuck", Needs: NeedsHangup, Do: func(x *X) {
			ctx, cancel := context.WithCancel(context.Background())
			flood := &endless{}
			wait := x.Start(ctx, Call{Argv: []string{"sh", "-c", x.expand("echo $$ > {D}/pid; exec sleep 600")}, Stdin: flood})
			for last := int64(-1); last != flood.taken.Load(); time.Sleep(300 * time.Millisecond) {
				last = flood.taken.Load()
			}
			x.Await("its beginning", "test -s {D}/pid")
			cancel()
			_, _ = wait()
			x.Await("its end", `! kill -0 $(cat {D}/pid)`)
		}},
	}
}
