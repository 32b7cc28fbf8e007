package banger

import (
	"strings"
	"testing"
)

func TestKernelArgs(t *testing.T) {
	for _, good := range []string{
		"", "banger.test=1", "loglevel=7  debug", `dyndbg="file drivers/a.c +p" quiet`, "rootdelay=1 initcall_debug panic_on_oops=1",
		`note="say root=/dev/vda to me"`, strings.Repeat("a", 1024),
	} {
		if err := validateKernelArgs(good); err != nil {
			t.Errorf("%.40q: %v", good, err)
		}
	}
	for _, test := range []struct{ args, says string }{
		{"init=/bin/sh", "init is banger's"},
		{"quiet root=/dev/vda", "root is banger's"},
		{"rdinit=/x", "rdinit is banger's"},
		{"console=tty0", "console is banger's"},
		{"panic=10", "panic is banger's"},
		{"systemd.machine-id=1", "systemd.machine-id is banger's"},
		{`"init=/bin/sh -c"`, "init is banger's"},
		{"a -- b", "arguments of PID 1"},
		{`a="b`, "not closed"},
		{"a\nb", "printable"},
		{"ä", "printable"},
		{strings.Repeat("a", 1025), "1025 bytes"},
	} {
		if err := validateKernelArgs(test.args); err == nil || !strings.Contains(err.Error(), test.says) || KindOf(err) != KindInvalid {
			t.Errorf("%.40q: %v", test.args, err)
		}
	}
}
