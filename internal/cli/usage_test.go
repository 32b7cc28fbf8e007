package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBadInput is about what is refused while it is parsed: one line that names
// the thing and what to type, the right exit code, and nobody asked.
func TestBadInput(t *testing.T) {
	envFile := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(envFile, []byte("GOOD=1\nBAD NAME=2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	specs := []struct {
		args string
		says string
	}{
		{"--vcpus 0", "--vcpus 0"},
		{"--publish 0:80", "no port"},
		{"-p localhost:80:80", "literal address"},
		{"-p 8080:80/sctp", "tcp or udp"},
		{"-p 8080:80 -p 8080:81", "already"},
		{"--vcpus -1", "--vcpus -1"},
		{"--vcpus 1000", "--vcpus 1000"},
		{"--vcpus two", `"two"`},
		{"--memory 1", `"1" is not a size`},
		{"--memory 0", `"0" is not a size`},
		{"--memory 0B", "--memory 0B"},
		{"--memory 1MiB", "--memory 1MiB"},
		{"--memory 9000TiB", "--memory"},
		{"--memory lots", "not a size"},
		{"--disk -5", `"-5" is not a size`},
		{"--disk -5GiB", "not a size"},
		{"--disk 1MiB", "--disk 1MiB"},
		{"--disk 17TiB", "--disk 17TiB"},
		{"--work 5", "not a size"},
		{"--work 0B", "none"},
		{"--work 1MiB", "--work 1MiB"},
		{"--name ../x", `"../x"`},
		{"--name=", `""`},
		{"--name Web", `"Web"`},
		{"--env =", "NAME=VALUE"},
		{"--env =x", "NAME=VALUE"},
		{"--env=", "NAME=VALUE"},
		{"-e =", "NAME=VALUE"},
		{"--env-file /does/not/exist", "/does/not/exist"},
		{"--env-file=", "--env-file"},
		{"--env-file " + envFile, "line 2"},
		{"--net bridge", `"bridge"`},
		{"--init systemd", `"systemd"`},
		{"--vmm vbox", `"vbox"`},
		{"--workdir here", "absolute"},
		{"--user a:b:c", "--user"},
		{"--user=", "--user"},
		{"--label =x", "--label"},
		{"--image=", "--image"},
		{"--kernel=", "--kernel"},
		{"--kernel-args init=/bin/sh", "init is banger's"},
		{"--publish-all", "--publish-all"},
		{"--memory", "--memory"},
		{"-o xml", "text or json"},
		{"-x", "-x"},
	}
	for _, test := range specs {
		for verb, code := range map[string]int{"vm create": 2, "vm run": 125, "run": 125} {
			t.Run(verb+" "+test.args, func(t *testing.T) {
				wantRefusal(t, strings.Fields(verb+" "+test.args), code, test.says)
			})
		}
	}
	lines := []struct {
		args string
		code int
		says string
	}{
		{"bogus", 2, "banger --help"},
		{"--bogus", 2, "--bogus"},
		{"create", 2, "banger vm create"},
		{"rm -f box", 2, "try: banger vm delete -f box\n"},
		{"logs -f box", 2, "try: banger vm logs -f box\n"},
		{"logs -z box", 2, "try: banger vm logs box\n"},            // a flag that it does not know
		{"rm $(reboot)", 2, "try: banger vm delete '$(reboot)'\n"}, // to be pasted
		{"-o text stop -t 5 box", 2, "try: banger vm stop"},
		{"images", 2, "try: banger image list\n"},
		{"rmi debian", 2, "try: banger image delete debian\n"},
		{"pull alpine", 2, "try: banger image pull alpine\n"},
		{"shell box", 2, "try: banger ssh box\n"},
		{"info box", 2, "try: banger vm show box\n"},
		{"stopp box", 2, "try: banger vm stop box\n"},
		{"container ls", 2, "try: banger vm ls\n"},
		{"df", 2, "try: banger system df\n"},
		{"build .", 2, "try: banger --help\n"},
		{"config get", 2, "try: banger config --help\n"},
		{"vm -x strt", 2, "try: banger vm start\n"},
		{"help rm", 2, "try: banger vm delete\n"},
		{"help vm strt", 2, "try: banger vm start\n"},
		{"run debian bash", 125, "try: banger run --image debian -- bash\n"},
		{"run debian", 125, "banger run --image debian\n"},
		{"run debian ls -Z", 125, "behind --"},
		{"vm bogus", 2, "bogus"},
		{"vm strt", 2, "banger vm start"},
		{"vm create web", 2, "try: banger vm create --name web\n"},
		{"vm create web db", 2, `"web"`},
		{"vm start", 2, "name of a VM"},
		{"vm start --wait=forever web", 2, `"forever"`},
		{"vm start --timeout 5 web", 2, "unit"},
		{"vm start --timeout -5s web", 2, "-5s"},
		{"vm stop", 2, "name of a VM"},
		{"vm stop --timeout 0s web", 2, "0s"},
		{"vm kill", 2, "name of a VM"},
		{"vm kill --all web", 2, `"web" is a name`},
		{"vm stop --label team=blue web", 2, `"web" is a name`},
		{"vm stop --label =x", 2, "KEY"},
		{"vm restart", 2, "name of a VM"},
		{"vm restart --boot-timeout 5 web", 2, "unit"},
		{"vm pause", 2, "name of a VM"},
		{"vm resume", 2, "name of a VM"},
		{"vm reset", 2, "name of a VM"},
		{"vm set --vcpus 2", 2, "name of a VM"},
		{"vm set web", 2, "something to set"},
		{"vm set --label - web", 2, "KEY-"},
		{"vm set --disk 5 web", 2, "not a size"},
		{"vm wait", 2, "name of a VM"},
		{"vm wait --for ever web", 2, `"ever"`},
		{"vm prune web", 2, "no arguments"},
		{"vm list --label =", 2, "KEY"},
		{"vm delete", 2, "name of a VM"},
		{"vm show", 2, "one VM"},
		{"vm show a b", 2, `"b"`},
		{"vm list web", 2, "no arguments"},
		{"ps web", 2, "no arguments"},
		{"vm logs", 2, "one VM"},
		{"vm stats --stream", 2, "--stream"},
		{"vm ports", 2, "one VM"},
		{"vm ports a b", 2, `"b"`},
		{"vm logs --vmm --serial web", 2, "two logs"},
		{"vm logs --vmm --since 5m web", 2, "time stamps"},
		{"vm cp web:/a", 2, "a source and a destination"},
		{"vm cp a b c", 2, `"c"`},
		{"cp a b", 2, "NAME:PATH"},
		{"cp - -", 2, "NAME:PATH"},
		{"cp a:b c:d", 2, "both are in a VM"},
		{"cp ./web:x /y:z", 2, "NAME:PATH"},
		{"cp web: x", 2, "path is missing"},
		{"events --type vm.stoped", 2, "vm.stopped"},
		{"kernel pull", 2, "RELEASE"},
		{"kernel show", 2, "KERNEL"},
		{"kernel delete a b", 2, `"b"`},
		{"kernel import mine.deb", 2, "--name NAME"},
		{"kernel import --name mine", 2, "FILE, DIR or -"},
		{"version x", 2, "no arguments"},
		{"daemon bogus", 2, "bogus"},
		{"daemon status x", 2, "no arguments"},
		{"completion tcsh", 2, "tcsh"},
		{"run ls", 125, "banger run -- ls"},
		{"vm run . .. -- make", 125, "one directory"},
		{"run --branch x -- make", 125, "--branch"},
		{"run --depth 0 . -- make", 125, "--depth"},
		{"vm workspace prepare", 2, "name of a VM"},
		{"vm workspace export web a b", 2, `"b"`},
		{"vm workspace export --apply --tar web", 2, "apply"},
		{"run -d -- ls", 125, "--detach"},
		{"run -d --rm", 125, "--detach"},
		{"run -d -t", 125, "--detach"},
		{"run --timeout 5 -- ls", 125, "unit"},
		{"exec", 125, "a command"},
		{"exec web", 125, "try: banger exec -t web bash\n"},
		{"vm exec web --", 125, "a command"},
		{"exec --bogus web ls", 125, "--bogus"},
		{"exec -e = web ls", 125, "NAME=VALUE"},
		{"exec --env-file /does/not/exist web ls", 125, "/does/not/exist"},
		{"exec -w here web ls", 125, "absolute"},
	}
	for _, test := range lines {
		t.Run(test.args, func(t *testing.T) {
			wantRefusal(t, strings.Fields(test.args), test.code, test.says)
		})
	}
}

func wantRefusal(t *testing.T, args []string, code int, says string) {
	t.Helper()
	w := newWorld(t)
	got := w.run(args...)
	if got.code != code {
		t.Errorf("exit code %d, want %d", got.code, code)
	}
	if got.stdout != "" {
		t.Errorf("stdout %q", got.stdout)
	}
	if strings.Count(got.stderr, "\n") != 1 || !strings.HasPrefix(got.stderr, "banger: ") || !strings.Contains(got.stderr, "; try: ") {
		t.Errorf("not one line with what to try: %q", got.stderr)
	}
	if !strings.Contains(got.stderr, says) {
		t.Errorf("%q does not say %q", got.stderr, says)
	}
	if left, _ := os.ReadDir(w.home); len(left) != 0 {
		t.Errorf("something was started or made: %v", left)
	}
}

func TestUsageErrorInJSON(t *testing.T) {
	for _, args := range [][]string{
		{"vm", "create", "-o", "json", "--vcpus", "0"},
		{"vm", "create", "--vcpus", "none", "-o", "json"}, // the error comes first
		{"vm", "bogus", "--output=json"},
		{"run", "--env", "=", "-ojson"},
	} {
		got := newWorld(t).run(args...)
		var reply struct{ Error map[string]string }
		if err := json.Unmarshal([]byte(got.stderr), &reply); err != nil {
			t.Errorf("%v: %q: %v", args, got.stderr, err)
			continue
		}
		if reply.Error["kind"] != "invalid" || reply.Error["message"] == "" || reply.Error["next"] == "" || len(reply.Error) != 3 {
			t.Errorf("%v: %q", args, got.stderr)
		}
	}
}

func TestHelp(t *testing.T) {
	w := newWorld(t)
	for _, args := range []string{
		"", "help", "--help", "vm", "vm run --help", "run -h", "help vm start", "exec --help", "ps --help", "daemon",
		"vm restart --help", "vm pause --help", "vm resume --help", "vm reset --help", "vm set --help", "vm wait --help", "vm prune --help",
		"vm create --help", "vm start --help", "vm stop --help", "vm kill --help", "vm delete --help", "vm list --help",
		"vm show --help", "vm logs --help", "vm cp --help", "daemon start --help", "daemon stop --help", "daemon status --help",
		"daemon logs --help", "help vm ls", "vm rm --help", "image ls --help", "version --help", "--version", "completion bash",
	} {
		got := w.run(strings.Fields(args)...)
		if got.code != 0 || got.stdout == "" || got.stderr != "" {
			t.Errorf("%q: code %d, stderr %q", args, got.code, got.stderr)
		}
		if strings.HasSuffix(args, "--help") && strings.HasPrefix(args, "vm ") && !strings.Contains(got.stdout, "\n  banger vm ") && !strings.Contains(got.stdout, "\n  banger run ") && !strings.Contains(got.stdout, "\n  banger cp ") {
			t.Errorf("%q shows no example", args)
		}
	}
}

func TestBranchesHaveTheNamesOfTheirVerbs(t *testing.T) {
	for _, b := range branches() {
		if got := b.build(&app{}).Name(); got != b.name {
			t.Errorf("the branch %q builds %q", b.name, got)
		}
	}
}
