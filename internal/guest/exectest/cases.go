package exectest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Cases is the table.
func Cases() []Case {
	cases := slices.Concat(exitCodes(), signals(), notRun(), searchPath(), arguments(), environment(), inputs(), outputs(), background(), bulk(),
		terminals(), identities(), directories(), surroundings(), clients())
	podman := podmanDiffers()
	for i, c := range cases {
		if why, ok := podman[c.Name]; ok {
			cases[i].Differs = maps.Clone(c.Differs)
			if c.Differs == nil {
				cases[i].Differs = map[string]string{}
			}
			cases[i].Differs["podman"] = why
		}
	}
	return cases
}

func sh(script string) Call { return Call{Argv: []string{"sh", "-c", script}} }

func exitCodes() []Case {
	var cases []Case
	for _, code := range []int{0, 1, 2, 3, 7, 15, 42, 63, 64, 77, 99, 100, 124, 125, 126, 127, 128, 129, 130, 137, 143, 192, 200, 254, 255} {
		cases = append(cases, Case{Name: fmt.Sprintf("exit/%d", code), Call: sh(fmt.Sprintf("exit %d", code)), Code: code})
	}
	return append(cases, Case{Name: "exit/all of 0 to 255", Do: func(x *X) {
		for code := range 256 {
			if _, _, got := x.Exec(sh(fmt.Sprintf("exit %d", code))); got != code {
				x.Errorf("exit %d came back as %d", code, got)
			}
		}
	}})
}

func signals() []Case {
	// What the kernel drops when nobody has asked for it: CHLD, CONT, URG and
	// WINCH; and TSTP, TTIN and TTOU in a session whose leader nobody watches.
	dropped := map[int]bool{17: true, 18: true, 20: true, 21: true, 22: true, 23: true, 28: true}
	var cases []Case
	for n := 1; n <= 64; n++ {
		c := Case{Name: fmt.Sprintf("signal/%d", n), Call: sh(fmt.Sprintf("kill -%d $$; exit 9", n)), Code: 128 + n, Stderr: ""}
		switch {
		case dropped[n]:
			c.Code = 9
		case n == 19: // STOP: it stands still until somebody wakes it
			c.Call = sh("(sleep 0.3; kill -CONT $$) & kill -STOP $$; exit 9")
			c.Code = 9
		}
		cases = append(cases, c)
	}
	return append(cases,
		Case{Name: "signal/of a child is the shell's affair", Call: sh("sh -c 'kill -9 $$'; echo $?"), Stdout: "137\n", Stderr: "*"},
	)
}

func notRun() []Case {
	const noexec = "echo 'exit 3' > script; chmod 644 script"
	return []Case{
		{Name: "not run/not in PATH", Call: Call{Argv: []string{"no-such-program"}}, Code: 127, Stderr: "*no-such-program"},
		{Name: "not run/no such file", Call: Call{Argv: []string{"/no/such/program"}}, Code: 127, Stderr: "*/no/such/program"},
		{Name: "not run/no such relative file", Call: Call{Argv: []string{"./nothing"}, Dir: "/"}, Code: 127, Stderr: "*./nothing"},
		{Name: "not run/empty name", Call: Call{Argv: []string{""}}, Code: 127, Stderr: "*"},
		{Name: "not run/a dangling link", Setup: "ln -s nowhere link", Call: Call{Argv: []string{"{D}/link"}}, Code: 127, Stderr: "*link"},
		{Name: "not run/a directory", Call: Call{Argv: []string{"/tmp"}}, Code: 126, Stderr: "*/tmp"},
		{Name: "not run/a directory with a slash", Call: Call{Argv: []string{"/tmp/"}}, Code: 126, Stderr: "*/tmp/"},
		{Name: "not run/not executable", Setup: noexec, Call: Call{Argv: []string{"{D}/script"}}, Code: 126, Stderr: "*script"},
		{Name: "not run/not executable, relative", Setup: noexec, Call: Call{Argv: []string{"./script"}, Dir: "{D}"}, Code: 126, Stderr: "*script"},
		{Name: "not run/a script without #!", Setup: noexec + "; chmod 755 script", Call: Call{Argv: []string{"{D}/script"}}, Code: 126, Stderr: "*script", Differs: helped},
		{Name: "not run/an empty file", Setup: ": > empty; chmod 755 empty", Call: Call{Argv: []string{"{D}/empty"}}, Code: 126, Stderr: "*empty", Differs: helped},
		{Name: "not run/an interpreter that is not there", Setup: "printf '#!/no/such/interpreter\\n' > script; chmod 755 script", Call: Call{Argv: []string{"{D}/script"}}, Code: 126, Stderr: "*script",
			Differs: map[string]string{"local": "env cannot tell it from a missing file: 127"}},
		{Name: "not run/below a file", Setup: ": > file", Call: Call{Argv: []string{"{D}/file/program"}}, Code: 126, Stderr: "*file/program"},
		{Name: "not run/a loop of links", Setup: "ln -s b a; ln -s a b", Call: Call{Argv: []string{"{D}/a"}}, Code: 126, Stderr: "*/a"},
		{Name: "not run/a name too long", Call: Call{Argv: []string{"/" + strings.Repeat("x", 300)}}, Code: 126, Stderr: "*xxx"},
		{Name: "not run/one argument too long", Call: Call{Argv: []string{"true", strings.Repeat("x", 128<<10)}}, Code: 126, Stderr: "*", Differs: viaArguments},
		{Name: "not run/too many arguments", Call: Call{Argv: append([]string{"true"}, slices.Repeat([]string{strings.Repeat("x", 100<<10)}, 30)...)}, Code: 126, Stderr: "*", Differs: viaArguments},
		{Name: "not run/too large an environment", Call: Call{Argv: []string{"true"}, Env: []string{"BIG=" + strings.Repeat("x", 128<<10)}}, Code: 126, Stderr: "*", Differs: viaArguments},
		{Name: "run/a script with #!", Setup: "printf '#!/bin/sh\\nexit 5\\n' > script; chmod 755 script", Call: Call{Argv: []string{"{D}/script"}}, Code: 5},
		{Name: "run/a script with #! and an argument", Setup: "printf '#!/bin/sh -e\\nfalse\\nexit 5\\n' > script; chmod 755 script", Call: Call{Argv: []string{"{D}/script"}}, Code: 1},
		{Name: "run/through a link", Setup: "ln -s /bin/sh link", Call: Call{Argv: []string{"{D}/link", "-c", "exit 6"}}, Code: 6},
		{Name: "run/a built-in of no shell", Call: Call{Argv: []string{"exit", "3"}}, Code: 127, Stderr: "*exit"},
	}
}

// helped is for starters that give a file without a format to sh.
var helped = map[string]string{"local": "env, like a shell, gives such a file to sh"}

// viaArguments is for targets to which a command can only be told in their own
// argument list: one that is too long for the command is too long for them.
var viaArguments = map[string]string{
	"vm": "the caller's own argument list has the same limit",
}

func searchPath() []Case {
	const two = "mkdir a b; printf '#!/bin/sh\\necho a\\n' > a/prog; printf '#!/bin/sh\\necho b\\n' > b/prog; chmod 755 b/prog; "
	return []Case{
		{Name: "PATH/of the caller", Setup: two, Call: Call{Argv: []string{"prog"}, Env: []string{"PATH={D}/b"}}, Stdout: "b\n"},
		{Name: "PATH/first hit", Setup: two + "chmod 755 a/prog", Call: Call{Argv: []string{"prog"}, Env: []string{"PATH={D}/a:{D}/b"}}, Stdout: "a\n"},
		{Name: "PATH/what cannot be run is passed over", Setup: two, Call: Call{Argv: []string{"prog"}, Env: []string{"PATH={D}/a:{D}/b"}}, Stdout: "b\n"},
		{Name: "PATH/only what cannot be run", Setup: two, Call: Call{Argv: []string{"prog"}, Env: []string{"PATH={D}/a"}}, Code: 126, Stderr: "*prog"},
		{Name: "PATH/a directory of that name is passed over", Setup: two + "mkdir -p c/prog", Call: Call{Argv: []string{"prog"}, Env: []string{"PATH={D}/c:{D}/b"}}, Stdout: "b\n"},
		{Name: "PATH/relative to the working directory", Setup: two, Call: Call{Argv: []string{"prog"}, Env: []string{"PATH=nowhere:b"}, Dir: "{D}"}, Stdout: "b\n"},
		{Name: "PATH/an empty element is the working directory", Setup: two, Call: Call{Argv: []string{"prog"}, Env: []string{"PATH=/nowhere:"}, Dir: "{D}/b"}, Stdout: "b\n"},
		{Name: "PATH/not for a name with a slash", Setup: two, Call: Call{Argv: []string{"b/prog"}, Env: []string{"PATH=/nowhere"}, Dir: "{D}"}, Stdout: "b\n"},
		{Name: "PATH/hides what is elsewhere", Call: Call{Argv: []string{"sh", "-c", "true"}, Env: []string{"PATH=/nowhere"}}, Code: 127, Stderr: "*sh"},
	}
}

// showArgs prints each of its arguments in brackets, whatever is in it.
const showArgs = `for a in "$@"; do printf '[%s]' "$a"; done`

func show(args ...string) Call {
	return Call{Argv: append([]string{"sh", "-c", showArgs, "sh"}, args...)}
}

func arguments() []Case {
	var printable, every strings.Builder
	for b := byte(32); b < 127; b++ {
		printable.WriteByte(b)
	}
	for b := 1; b < 256; b++ {
		every.WriteByte(byte(b))
	}
	many := make([]string, 10_000)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	longest := strings.Repeat("y", 128<<10-1)
	return []Case{
		{Name: "argv/none", Call: show(), Stdout: ""},
		{Name: "argv/empty", Call: show("", "a", ""), Stdout: "[][a][]"},
		{Name: "argv/blanks", Call: show(" ", "a b", "\t", "x\ny"), Stdout: "[ ][a b][\t][x\ny]"},
		{Name: "argv/no shell in between", Call: show("$HOME", "`id`", "*", "~", "a;b", "a|b", "a&b", "$(x)", "#"), Stdout: "[$HOME][`id`][*][~][a;b][a|b][a&b][$(x)][#]"},
		{Name: "argv/quotes", Call: show(`"`, `'`, `\`, `\"`, `'"'"'`), Stdout: `["]['][\][\"]['"'"']`},
		{Name: "argv/options are the command's", Call: show("-t", "--help", "--", "-u", "root", "-"), Stdout: "[-t][--help][--][-u][root][-]"},
		{Name: "argv/every printable byte", Call: show(printable.String()), Stdout: "[" + printable.String() + "]"},
		{Name: "argv/every byte but NUL", Call: show(every.String()), Stdout: "[" + every.String() + "]"},
		{Name: "argv/invalid UTF-8", Call: show("\xff\xfe", "a\x80b", "\xc3"), Stdout: "[\xff\xfe][a\x80b][\xc3]"},
		{Name: "argv/UTF-8", Call: show("ünïcödé", "日本", "🙂", "\u2028"), Stdout: "[ünïcödé][日本][🙂][\u2028]"},
		{Name: "argv/ten thousand", Call: Call{Argv: append([]string{"sh", "-c", "echo $#", "sh"}, many...)}, Stdout: "10000\n"},
		{Name: "argv/the longest one", Call: Call{Argv: []string{"sh", "-c", `echo ${#1}`, "sh", longest}}, Stdout: "131071\n"},
		{Name: "argv/the longest list", Call: Call{Argv: append([]string{"sh", "-c", `echo $#`, "sh"}, slices.Repeat([]string{longest[:100<<10]}, 19)...)}, Stdout: "19\n"},
		{Name: "argv/argv[0] is as given", Call: sh("cat /proc/$$/cmdline | head -c 3 | tr '\\0' ' '"), Stdout: "sh "},
	}
}

func environment() []Case {
	var printable strings.Builder
	for b := byte(32); b < 127; b++ {
		printable.WriteByte(b)
	}
	v := func(script string, env ...string) Call { return Call{Argv: []string{"sh", "-c", script}, Env: env} }
	return []Case{
		{Name: "env/a variable", Call: v(`printf %s "$V"`, "V=value"), Stdout: "value"},
		{Name: "env/empty is not unset", Call: v(`printf %s "${V-unset}"`, "V="), Stdout: ""},
		{Name: "env/every printable byte", Call: v(`printf %s "$V"`, "V="+printable.String()), Stdout: printable.String()},
		{Name: "env/a newline", Call: v(`printf %s "$V"`, "V=a\nb\n"), Stdout: "a\nb\n"},
		{Name: "env/invalid UTF-8", Call: v(`printf %s "$V"`, "V=\xff\x80"), Stdout: "\xff\x80"},
		{Name: "env/an equals sign", Call: v(`printf %s "$V"`, "V=a=b=c"), Stdout: "a=b=c"},
		{Name: "env/the last one wins", Call: v(`env | grep ^V=`, "V=1", "V=2", "V=3"), Stdout: "V=3\n"},
		{Name: "env/many", Call: v(`env | grep -c ^MANY_`, func() (all []string) {
			for i := range 1000 {
				all = append(all, fmt.Sprintf("MANY_%d=x", i))
			}
			return all
		}()...), Stdout: "1000\n"},
		{Name: "env/large", Call: v(`printf %s "${#V}"`, "V="+strings.Repeat("z", 100_000)), Stdout: "100000"},
		{Name: "env/HOME can be given", Call: v(`printf %s "$HOME"`, "HOME=/elsewhere"), Stdout: "/elsewhere"},
		{Name: "env/PATH has the usual", Call: sh(`for d in /usr/local/bin /usr/bin /bin /usr/sbin /sbin; do case ":$PATH:" in *:$d:*) ;; *) echo no $d;; esac; done`)},
		{Name: "env/no TERM without a terminal", Call: sh(`printf %s "${TERM-unset}"`), Stdout: "unset"},
		{Name: "env/TERM with a terminal", Needs: NeedsTTY, Call: Call{Argv: []string{"sh", "-c", `test -n "$TERM" && printf set`}, TTY: true}, Stdout: "set"},
		{Name: "env/nothing of the caller's", Call: sh(`printf %s "${EXECTEST_CALLER-unset}"`), Stdout: "unset"},
	}
}
