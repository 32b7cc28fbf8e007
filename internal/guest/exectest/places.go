package exectest

import (
	"context"
	"fmt"
	"io"
	"strings"

	"banger.dev/banger/internal/guest"
)

// onTerminal is a call with a terminal of 24 by 80.
func onTerminal(script string) Call {
	c := sh(script)
	c.TTY, c.Rows, c.Cols = true, 24, 80
	return c
}

func terminals() []Case {
	cases := []Case{
		{Name: "tty/all three", Call: onTerminal("test -t 0 && test -t 1 && test -t 2 && echo yes"), Stdout: "yes\r\n"},
		{Name: "tty/one stream", Call: onTerminal("echo out; echo err >&2"), Stdout: "out\r\nerr\r\n"},
		{Name: "tty/has a name", Call: onTerminal("case $(tty) in /dev/pts/*) echo pts;; esac"), Stdout: "pts\r\n"},
		{Name: "tty/controls the command", Call: onTerminal("echo there > /dev/tty"), Stdout: "there\r\n"},
		{Name: "tty/exit code", Call: onTerminal("exit 11"), Code: 11},
		{Name: "tty/a signal's code", Call: onTerminal("kill -15 $$"), Code: 143},
		{Name: "tty/much output", Call: onTerminal("stty -opost; head -c 300000 /dev/zero | tr '\\0' x; printf end"), Stdout: strings.Repeat("x", 300_000) + "end"},
		{Name: "tty/descriptors closed and the terminal opened again", Call: onTerminal("exec < /dev/null > /dev/null 2>&1; sleep 0.3; echo back > /dev/tty; exit 9"), Stdout: "back\r\n", Code: 9},
		{Name: "tty/is the user's own", Needs: NeedsUsers, Call: func() Call { c := onTerminal("echo mine > $(tty)"); c.User = "1"; return c }(), Stdout: "mine\r\n"},
		{Name: "tty/UTF-8", Call: onTerminal("stty -a | grep -o '.iutf8'"), Stdout: " iutf8\r\n"},
		{Name: "tty/not found", Call: Call{Argv: []string{"no-such-program"}, TTY: true}, Code: 127, Stdout: "", Stderr: "*", Differs: mixed},
	}
	for _, size := range []guest.Size{{Rows: 24, Cols: 80}, {Rows: 50, Cols: 132}, {Rows: 1, Cols: 1}, {Rows: 1000, Cols: 1000}} {
		c := sh("stty size")
		c.TTY, c.Rows, c.Cols = true, size.Rows, size.Cols
		cases = append(cases, Case{Name: fmt.Sprintf("tty/size %dx%d", size.Rows, size.Cols), Call: c, Stdout: fmt.Sprintf("%d %d\r\n", size.Rows, size.Cols)})
	}
	typed := func(name, script, keys, want string, code int) Case {
		return Case{Name: "tty/" + name, Do: func(x *X) {
			r, w := io.Pipe()
			out := NewOutput()
			c := onTerminal(script)
			c.Stdin, c.Stdout = r, out
			wait := x.Start(context.Background(), c)
			out.Await(x, "ready")
			_, _ = io.WriteString(w, keys)
			out.Await(x, want)
			got, err := wait()
			_ = w.Close()
			if got != code || err != nil {
				x.Errorf("%d, %v, want %d", got, err, code)
			}
		}}
	}
	cases = append(cases,
		typed("echoes what is typed", "printf ready; read -r l; echo got $l", "hello\n", "hello\r\ngot hello\r\n", 0),
		typed("Ctrl-C interrupts", "trap 'echo caught; exit 3' INT; printf ready; while :; do sleep 0.05; done", "\x03", "caught\r\n", 3),
		// The echo of ^C is not waited for: the kernel writes it after the signal, and
		// it is lost when the terminal's leader dies first.
		typed("Ctrl-C kills", "printf ready; exec sleep 600", "\x03", "", 130),
		typed("Ctrl-\\ quits", "printf ready; exec sleep 600", "\x1c", "", 131),
		typed("Ctrl-D ends the input", "printf ready; cat; echo over", "text\n\x04", "over\r\n", 0),
		typed("Ctrl-U and backspace edit", "printf ready; read -r l; echo got=$l=", "wrong\x15rigX\x7fht\n", "got=right=\r\n", 0),
		typed("raw bytes", "stty raw -echo; printf ready; head -c 4 | od -An -tx1", "\x03\x04\x1a\x7f", " 03 04 1a 7f", 0),
		Case{Name: "tty/the end of stdin is Ctrl-D", Do: func(x *X) {
			for _, text := range []string{"whole line\n", "part of one", ""} {
				var out strings.Builder
				c := onTerminal("stty -echo; cat; echo; echo over")
				c.Stdin, c.Stdout = strings.NewReader(text), &out
				if code, err := x.Start(context.Background(), c)(); code != 0 || err != nil || !strings.HasSuffix(out.String(), "over\r\n") {
					x.Errorf("%q: %d, %v, %q", text, code, err, out.String())
				}
			}
		}, Differs: map[string]string{"vm": "the caller's stdin is a terminal there too, and has no end"}},
		Case{Name: "tty/resized", Needs: NeedsResizes, Do: func(x *X) {
			resize := make(chan guest.Size, 1)
			out := NewOutput()
			c := onTerminal("trap 'stty size' WINCH; echo ready; i=0; while [ $i -lt 4000 ]; do sleep 0.05; i=$((i+1)); done")
			c.Stdout, c.Resize, c.Stdin = out, resize, blocked{}
			ctx, cancel := context.WithCancel(context.Background())
			wait := x.Start(ctx, c)
			out.Await(x, "ready")
			for _, size := range []guest.Size{{Rows: 30, Cols: 100}, {Rows: 10, Cols: 20}, {Rows: 200, Cols: 300}} {
				resize <- size
				out.Await(x, fmt.Sprintf("%d %d\r\n", size.Rows, size.Cols))
			}
			cancel()
			_, _ = wait()
		}},
		Case{Name: "tty/hung up when the client is gone", Needs: NeedsHangup, Do: func(x *X) {
			ctx, cancel := context.WithCancel(context.Background())
			out := NewOutput()
			c := onTerminal(x.expand("trap 'echo HUP > {D}/got; exit' HUP; echo ready; while :; do sleep 0.05; done"))
			c.Stdout, c.Stdin = out, blocked{}
			wait := x.Start(ctx, c)
			out.Await(x, "ready")
			cancel()
			_, _ = wait()
			x.Await("the signal", "grep -q HUP {D}/got")
		}},
	)
	for i := range cases {
		cases[i].Needs |= NeedsTTY
	}
	return cases
}

// mixed is for what a target says itself, which is on the terminal too where
// the target is a program that has been given one.
var mixed = map[string]string{"vm": "the caller's messages are on its terminal"}

func identities() []Case {
	as := func(user, script string) Call { c := sh(script); c.User = user; return c }
	cases := []Case{
		{Name: "user/root", Call: as("root", "id -u; id -g"), Stdout: "0\n0\n"},
		{Name: "user/name", Call: as("daemon", "id -un; id -gn"), Stdout: "daemon\ndaemon\n"},
		{Name: "user/uid", Call: as("1", "id -u; id -g"), Stdout: "1\n1\n"},
		{Name: "user/uid that nobody has", Call: as("54321", "id -u; id -g; id -G"), Stdout: "54321\n0\n0\n"},
		{Name: "user/uid and gid", Call: as("54321:12345", "id -u; id -g; id -G"), Stdout: "54321\n12345\n12345\n"},
		{Name: "user/name and group", Call: as("daemon:bin", "id -un; id -gn"), Stdout: "daemon\nbin\n"},
		{Name: "user/name and gid", Call: as("daemon:4", "id -u; id -g"), Stdout: "1\n4\n"},
		{Name: "user/the largest", Call: as("4294967294:4294967294", "id -u; id -g"), Stdout: "4294967294\n4294967294\n"},
		{Name: "user/unknown name", Call: as("nosuchuser", "id"), Code: 126, Stderr: "*nosuchuser"},
		{Name: "user/unknown group", Call: as("root:nosuchgroup", "id"), Code: 126, Stderr: "*nosuchgroup"},
		{Name: "user/too large a number", Call: as("4294967295", "id"), Code: 126, Stderr: "*4294967295"},
		{Name: "user/HOME is the user's", Call: as("daemon", "echo $HOME"), Stdout: "/usr/sbin\n"},
		{Name: "user/HOME of nobody known", Call: as("54321", "echo $HOME"), Stdout: "/\n"},
		{Name: "user/starts in the home", Call: as("daemon", "pwd"), Stdout: "/usr/sbin\n"},
		{Name: "user/starts in / where the home is not", Call: as("nobody", "pwd"), Stdout: "/\n"},
		{Name: "user/has no more rights", Setup: "echo x > f; chmod 600 f", Call: as("1", "cat {D}/f 2>/dev/null || echo no"), Stdout: "no\n"},
		{Name: "user/has no capabilities", Call: as("1", "grep -c 'CapEff:.0000000000000000' /proc/self/status"), Stdout: "1\n"},
		{Name: "user/may not enter the directory", Setup: "mkdir d; chmod 700 d", Call: func() Call { c := as("1", "pwd"); c.Dir = "{D}/d"; return c }(), Code: 126, Stderr: "*{D}/d"},
		{Name: "user/may not run the file", Setup: "printf '#!/bin/sh\\n' > f; chmod 700 f", Call: Call{Argv: []string{"{D}/f"}, User: "1"}, Code: 126, Stderr: "*/f"},
		{Name: "user/may not reach the file", Setup: "mkdir d; cp /bin/true d/f; chmod 700 d", Call: Call{Argv: []string{"{D}/d/f"}, User: "1"}, Code: 126, Stderr: "*/f"},
		{Name: "user/of the supplementary groups", Setup: "", Call: as("root", "id -G | cut -d' ' -f1"), Stdout: "0\n"},
	}
	for i := range cases {
		cases[i].Needs |= NeedsUsers
	}
	return cases
}

func directories() []Case {
	in := func(dir, script string) Call { c := sh(script); c.Dir = dir; return c }
	return []Case{
		{Name: "workdir/given", Call: in("/tmp", "pwd"), Stdout: "/tmp\n"},
		{Name: "workdir/with blanks and quotes", Setup: `mkdir "a b'c"`, Call: in("{D}/a b'c", "pwd"), Stdout: "{D}/a b'c\n"},
		{Name: "workdir/through a link", Setup: "mkdir real; ln -s real link", Call: in("{D}/link", "pwd -P"), Stdout: "{D}/real\n"},
		{Name: "workdir/missing", Call: in("/no/such/place", "pwd"), Code: 126, Stderr: "*/no/such/place", Differs: map[string]string{"local": "env's own failures are 125"}},
		{Name: "workdir/a file", Setup: ": > file", Call: in("{D}/file", "pwd"), Code: 126, Stderr: "*{D}/file", Differs: map[string]string{"local": "env's own failures are 125"}},
		{Name: "workdir/relative", Call: in("tmp", "pwd"), Code: 126, Stderr: "*tmp", Differs: map[string]string{"local": "a process has a directory that it can be relative to", "vm": "banger refuses it as a wrong flag (125) before anything runs"}},
		{Name: "workdir/not with the command's name", Setup: "printf '#!/bin/sh\\necho ran\\n' > prog; chmod 755 prog", Call: func() Call { c := in("{D}", ""); c.Argv = []string{"prog"}; return c }(), Code: 127, Stderr: "*prog"},
		{Name: "workdir/relative command in it", Setup: "printf '#!/bin/sh\\necho ran\\n' > prog; chmod 755 prog", Call: func() Call { c := in("{D}", ""); c.Argv = []string{"./prog"}; return c }(), Stdout: "ran\n"},
	}
}

// itsParentsNiceness compares with whatever runs the command, which may itself be
// niced, as a test is that runs in the background. In a container the parent
// cannot be seen.
const itsParentsNiceness = `test -e /proc/$PPID/stat || { echo as nice; exit; }
read -r stat < /proc/$PPID/stat; set -- ${stat##*) }; test "$(nice)" = "${17}" && echo as nice || echo "$(nice), not ${17}"`

// surroundings is what a command inherits without being told.
func surroundings() []Case {
	inherits := map[string]string{"local": "the reference is a child of the test and inherits what the test has"}
	return []Case{
		{Name: "process/leads a session and a group", Call: sh(`set -- $(cat /proc/$$/stat); test $$ = $5 && test $$ = $6 && echo leads`), Stdout: "leads\n"},
		{Name: "process/umask", Call: sh("umask"), Stdout: "0022\n", Differs: inherits},
		{Name: "process/no signal is ignored", Call: sh("grep SigIgn /proc/self/status"), Stdout: "SigIgn:\t0000000000000000\n", Differs: inherits},
		{Name: "process/no signal is blocked", Call: sh("grep SigBlk /proc/self/status"), Stdout: "SigBlk:\t0000000000000000\n", Differs: inherits},
		{Name: "process/three descriptors", Call: Call{Argv: []string{"ls", "/proc/self/fd"}}, Stdout: "0\n1\n2\n3\n"},
		{Name: "process/is not favoured over others", Call: sh("cat /proc/self/oom_score_adj; " + itsParentsNiceness), Stdout: "0\nas nice\n", Differs: inherits},
		{Name: "process/stack limit", Call: sh("ulimit -s"), Stdout: "8192\n", Differs: inherits},
		{Name: "process/no core dumps", Call: sh("ulimit -c"), Stdout: "0\n", Differs: inherits},
		{Name: "process/pipes block", Call: sh(`for fd in 0 1 2; do flags=$(grep flags: /proc/self/fdinfo/$fd | tr -dc 0-7); test $((flags & 04000)) = 0 || echo $fd does not block; done`)},
		{Name: "process/stdin and stdout are pipes", Call: sh("test -p /dev/stdin && test -p /dev/stderr && echo pipes"), Stdout: "pipes\n", Differs: inherits},
	}
}
