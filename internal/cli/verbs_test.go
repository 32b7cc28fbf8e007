package cli

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/wire"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/version"
)

func TestVerbs(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.add("web", banger.StateStopped)
	w.add("db", banger.StateRunning)

	w.run("vm", "start", "web").want(t, 0, "web: running\n", "")
	w.run("vm", "start", "--wait=init", "--timeout", "90s", "web").want(t, 0, "web: already running\n", "")
	if body := w.bodies["start"]; !strings.Contains(body, `"wait":"init"`) || !strings.Contains(body, `"timeout_ms":90000`) {
		t.Errorf("asked %s", body)
	}
	w.run("vm", "stop", "--timeout", "1500ms", "web").want(t, 0, "web: stopped\n", "")
	if body := w.bodies["stop"]; !strings.Contains(body, `"timeout_ms":1500`) {
		t.Errorf("asked %s", body)
	}
	w.run("vm", "stop", "web").want(t, 0, "web: already stopped\n", "")
	w.run("vm", "kill", "-q", "db").want(t, 0, "", "")
	w.run("vm", "kill", "db").want(t, 0, "db: already stopped\n", "")
	w.run("vm", "restart", "--timeout", "2s", "--boot-timeout", "90s", "--overcommit", "db").want(t, 0, "db: restarted\n", "")
	if body := w.bodies["restart"]; body != `{"stop_timeout_ms":2000,"start":{"wait":"ready","timeout_ms":90000,"overcommit":true}}` {
		t.Errorf("asked %s", body)
	}
	w.run("vm", "pause", "db").want(t, 0, "db: paused\n", "")
	w.run("vm", "pause", "db").want(t, 0, "db: already paused\n", "")
	w.run("vm", "resume", "db").want(t, 0, "db: running\n", "")
	w.run("vm", "reset", "--force", "web").want(t, 0, "web: reset\n", "")
	if body := w.bodies["reset"]; body != `{"force":true}` {
		t.Errorf("asked %s", body)
	}
	w.run("vm", "set", "--vcpus", "2", "--memory", "2GiB", "--disk", "30GiB", "--image", "mine", "--label", "a=b", "--label", "c-", "web").want(t, 0, "web: set\n", "")
	if body := w.bodies["set"]; body != `{"vcpus":2,"memory_bytes":2147483648,"disk_bytes":32212254720,"image":"mine","labels":{"a":"b","c":null}}` {
		t.Errorf("asked %s", body)
	}
	w.run("vm", "set", "--vcpus", "0", "--all").want(t, 0, "web: set\ndb: set\n", "")
	if body := w.bodies["set"]; body != `{"vcpus":0}` { // which the daemon refuses
		t.Errorf("asked %s", body)
	}
	w.inVain = 1 << 20
	w.run("vm", "wait", "--for", "ready", "--timeout", "1ms", "db").want(t, 1, "", "banger: VM db is not ready after 1ms: it is running; try: banger vm show db\n")
	w.inVain = 2
	w.run("vm", "wait", "--for", "ready", "db").want(t, 0, "db: ready\n", "") // it asks again
	w.run("vm", "delete", "db").want(t, 0, "db: deleted\n", "")
	w.run("vm", "delete", "db").want(t, 3, "", "banger: there is no VM \"db\"; try: banger vm list\n")
	w.run("vm", "create", "--name", "new").want(t, 0, "new\n", "")
	w.run("vm", "logs", "web").want(t, 0, "2026-01-01 boot\x1b[31m\n", "")
}

func TestSeveralTargets(t *testing.T) {
	w := newWorld(t).withDaemon()
	for _, name := range []string{"a", "b", "c", "d"} {
		w.add(name, banger.StateRunning)
	}
	w.fail["stop b"] = banger.Errorf(banger.KindConflict, "b is being created")

	// The first failure's code counts, and the others are done all the same.
	w.run("vm", "stop", "a", "b", "c", "nosuch").want(t, 4, "a: stopped\nc: stopped\n",
		"banger: b is being created\nbanger: there is no VM \"nosuch\"; try: banger vm list\n")
	w.run("vm", "stop", "nosuch", "b").want(t, 3, "",
		"banger: there is no VM \"nosuch\"; try: banger vm list\nbanger: b is being created\n")
	w.run("vm", "delete", "c", "c", "d").want(t, 0, "c: deleted\nd: deleted\n", "")

	got := w.run("vm", "kill", "-o", "json", "a", "nosuch", "b")
	var replies []struct {
		VM      banger.VM
		Changed bool
	}
	if err := json.Unmarshal([]byte(got.stdout), &replies); err != nil || len(replies) != 2 || replies[0].VM.Name != "a" || !replies[1].Changed {
		t.Errorf("%q: %v", got.stdout, err)
	}
	if want := `{"error":{"kind":"not_found","message":"there is no VM \"nosuch\"","next":"banger vm list"}}` + "\n"; got.code != 3 || got.stderr != want {
		t.Errorf("code %d, stderr %q", got.code, got.stderr)
	}
}

func TestChosenTargets(t *testing.T) {
	w := newWorld(t).withDaemon()
	for i, name := range []string{"a", "b", "c", "d"} {
		vm := w.add(name, []banger.State{banger.StateRunning, banger.StateStopped}[i%2])
		vm.Labels = map[string]string{"team": []string{"blue", "red"}[i/2], name: ""}
	}
	w.run("vm", "list", "-q", "--label", "team=blue").want(t, 0, "a\nb\n", "")
	w.run("vm", "list", "-q", "--label", "team", "--label", "c").want(t, 0, "c\n", "")
	w.run("vm", "list", "-q", "--label", "team=blue", "--label", "c=").want(t, 0, "", "")
	w.run("ps", "-q", "--label", "team=red").want(t, 0, "c\n", "")

	// Only those that the verb is for, and of these only the ones that have all labels.
	w.run("vm", "start", "--label", "team=blue").want(t, 0, "b: running\n", "")
	w.run("vm", "pause", "--all").want(t, 0, "a: paused\nb: paused\nc: paused\n", "")
	w.run("vm", "resume", "--label", "team=blue", "--label", "a").want(t, 0, "a: running\n", "")
	w.run("vm", "stop", "-a").want(t, 0, "a: stopped\nb: already stopped\nc: already stopped\n", "")
	w.run("vm", "kill", "--all").want(t, 0, "", "banger: there is no such VM\n")
	w.run("vm", "kill", "--all", "-o", "json").want(t, 0, "[]\n", "")
	w.run("vm", "reset", "--label", "team=blue").want(t, 0, "a: reset\nb: reset\n", "")
	w.run("vm", "delete", "--all").want(t, 0, "a: deleted\nb: deleted\nc: deleted\nd: deleted\n", "")
}

func TestPrune(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.add("up", banger.StateRunning)
	w.add("standing", banger.StatePaused)
	w.add("broken", banger.StateBroken)
	w.add("old", banger.StateStopped).Labels = map[string]string{"team": "blue"}
	w.add("older", banger.StateStopped)

	w.run("vm", "prune").want(t, 2, "", "banger: vm prune asks first, and here is nobody to ask; try: banger vm prune --force\n")
	w.run("vm", "prune", "--force", "--label", "team=red").want(t, 0, "", "banger: there is no stopped VM\n")
	w.run("vm", "prune", "-f", "--label", "team=blue").want(t, 0, "old: deleted\n", "")
	w.run("vm", "prune", "--force").want(t, 0, "older: deleted\n", "")
	w.run("vm", "list", "-q").want(t, 0, "up\nstanding\nbroken\n", "")
}

// Whoever is interrupted gives up all of what he began, and not the first alone.
func TestInterruptedTargets(t *testing.T) {
	w := newWorld(t).withDaemon()
	for _, name := range []string{"a", "b", "c"} {
		w.add(name, banger.StateStopped)
	}
	w.interrupt = 3
	if got := w.run("vm", "start", "--all"); got.code != 130 || got.stdout != "" {
		t.Errorf("%+v", got)
	}
	cancels := 0
	for _, question := range w.questions() {
		if question == "cancel" {
			cancels++
		}
	}
	if cancels != 3 {
		t.Errorf("%d of 3 were cancelled: %q", cancels, w.questions())
	}
}

func TestErrorKinds(t *testing.T) {
	for kind, code := range map[banger.Kind]int{
		banger.KindInternal: 1, banger.KindUnavailable: 1, banger.KindInvalid: 2, banger.KindNotFound: 3,
		banger.KindConflict: 4, banger.KindCancelled: 130,
	} {
		w := newWorld(t).withDaemon()
		w.fail["create"] = banger.Errorf(kind, "it \x1b]0;cannot\a be").WithNext("do that")
		w.run("vm", "create").want(t, code, "", "banger: it \\x1b]0;cannot\\x07 be; try: do that\n")
		delete(w.fail, "create")
		w.fail["create operation"] = banger.Errorf(kind, "the boot failed:\n  line 1\n  line 2")
		w.run("vm", "create").want(t, code, "", "banger: the boot failed:\n  line 1\n  line 2\n")
		if kind != banger.KindCancelled {
			w.run("run", "--rm", "--", "true").want(t, 125, "", "banger: the boot failed:\n  line 1\n  line 2\n")
		}
	}
}

func TestList(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.run("vm", "list").want(t, 0, "NAME  ID  STATE  IMAGE  VCPUS  MEMORY  CREATED  PORTS\n", "")
	w.run("vm", "list", "-o", "json").want(t, 0, "[]\n", "")
	w.run("ps", "-o", "json").want(t, 0, "[]\n", "")
	w.run("ps", "-q").want(t, 0, "", "")

	w.add("web", banger.StateRunning)
	w.add("db", banger.StateStopped).Image = "evil\x1b[2J\nimage"
	w.run("vm", "list").want(t, 0, strings.Join([]string{
		"NAME  ID                STATE    IMAGE                 VCPUS  MEMORY  CREATED      PORTS",
		"web   00000000abcdef00  running  debian                1      1GiB    3 hours ago",
		`db    00000000abcdef01  stopped  evil\x1b[2J\x0aimage  1      1GiB    3 hours ago`,
		"",
	}, "\n"), "")
	w.run("ps").want(t, 0, strings.Join([]string{
		"NAME  ID                STATE    IMAGE   VCPUS  MEMORY  CREATED      PORTS",
		"web   00000000abcdef00  running  debian  1      1GiB    3 hours ago",
		"",
	}, "\n"), "")
	w.run("ps", "-q").want(t, 0, "web\n", "")
	for _, all := range []string{"ps -aq", "ps --all -q", "vm ls -q"} {
		w.run(strings.Fields(all)...).want(t, 0, w.run("vm", "list", "-q").stdout, "")
	}
	w.run("vm", "list", "-q").want(t, 0, "web\ndb\n", "")

	var vms []map[string]any
	if err := json.Unmarshal([]byte(w.run("ps", "-o", "json").stdout), &vms); err != nil || len(vms) != 1 {
		t.Fatal(vms, err)
	}
	for _, key := range strings.Fields("id name state reason intent image image_digest kernel vcpus memory_bytes disk_bytes work_bytes labels created started last_error last_exit") {
		if _, ok := vms[0][key]; !ok {
			t.Errorf("no %q in %v", key, vms[0])
		}
	}
}

func TestShow(t *testing.T) {
	w := newWorld(t).withDaemon()
	vm := w.add("web", banger.StateRunning)
	vm.LastError = "killed by \x1b[1mhand"
	vm.Labels = map[string]string{"b": "2", "a": "1"}
	vm.Intent, vm.Reason = banger.IntentRunning, "it is booting"
	vm.LastExit = &banger.LastExit{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local), Code: -1, Signal: "killed", Reason: "killed"}
	vm.Spec.Env, vm.Spec.User, vm.Spec.Ephemeral, vm.Cmd = []string{"A=b", "C=d e"}, "me", true, []string{"sh", "-c", "a b"}
	vm.Addresses, vm.MAC = []string{"10.0.2.15/24", "fd62::15/64"}, "52:54:00:00:00:01"
	vm.Ports = []banger.Port{{HostIP: "127.0.0.1", HostPort: 8080, GuestPort: 80, Protocol: "tcp"}, {HostIP: "::1", HostPort: 53, GuestPort: 53, Protocol: "udp"}}
	vm.Handles = &banger.Handles{PID: 12, MonitorPID: 11, VMM: "qemu", Accel: "tcg", Disk: "qcow2", BootID: "b-1"}
	vm.Paths = map[string]string{"dir": "/state/web", "console": "/state/web/console.0.log"}
	drift := int64(-1500)
	vm.ClockDriftMS = &drift

	got := w.run("vm", "show", "web")
	created := vm.Created.Local().Format(time.DateTime)
	if want := `name          web
id            ` + vm.ID + `
state         running: it is booting
intent        running
created       ` + created + ` (3 hours ago)
last exit     killed at 2026-01-02 03:04:05, killed
last error    killed by \x1b[1mhand

image         debian
vcpus         1
memory        1GiB
disk          20GiB
work          none
vmm           auto
init          auto
ephemeral     yes
user          me
env           A=b
              C=d e
labels        a=1
              b=2
cmd           ["sh" "-c" "a b"]

net           user
addresses     10.0.2.15/24
              fd62::15/64
mac           52:54:00:00:00:01
ports         127.0.0.1:8080->80
              [::1]:53->53/udp

clock drift   1.5s behind the host
runs on       qemu, tcg
vmm pid       12
monitor pid   11
disk driver   qcow2
host boot     b-1

console       /state/web/console.0.log
dir           /state/web
`; got.stdout != want {
		t.Errorf("got\n%s\nwant\n%s", got.stdout, want)
	}
	vm.Handles = &banger.Handles{VCPUs: 1, Memory: 2 * banger.GiB}
	got = w.run("vm", "show", "web")
	if !strings.Contains(got.stdout, "1GiB (2GiB until its next start)") || !strings.Contains(got.stdout, "vcpus         1\n") {
		t.Errorf("it does not say what it has until its next start:\n%s", got.stdout)
	}
	var detail banger.Detail
	if err := json.Unmarshal([]byte(w.run("vm", "show", "-o", "json", vm.ID).stdout), &detail); err != nil || !reflect.DeepEqual(detail.Paths, vm.Paths) || detail.Name != "web" {
		t.Errorf("%+v: %v", detail, err)
	}
	w.run("vm", "show", "nosuch").want(t, 3, "", "banger: there is no VM \"nosuch\"; try: banger vm list\n")
}

func TestSpecReachesTheDaemon(t *testing.T) {
	w := newWorld(t).withDaemon()
	file := w.home + "/env"
	if err := os.WriteFile(file, []byte("\ufeff# comment\n\nA=file\n  B=keep space \nFROM_HOST\nNOT_THERE\nC=\"quoted\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.run("vm", "create", "--name", "web", "--image", "debian:12", "--kernel", "6.1", "--vcpus", "2", "--memory", "512MiB",
		"--disk", "2GiB", "--work", "none", "--net", "none", "--init", "none", "--vmm", "qemu", "-e", "A=1", "-e", "FROM_HOST",
		"-e", "NOT_THERE", "--env", "D=x=y", "--env-file", file, "-w", "/srv", "-u", "www:www", "--label", "k=v", "--label", "bare",
	).want(t, 0, "web\n", "")
	want := banger.Spec{
		VCPUs: 2, Memory: 512 * banger.MiB, Disk: 2 * banger.GiB, Image: "debian:12", Kernel: "6.1", Net: "none", Init: "none", VMM: "qemu",
		Env:     []string{"A=1", "B=keep space ", "FROM_HOST=yes", `C="quoted"`, "D=x=y"},
		Workdir: "/srv", User: "www:www", Labels: map[string]string{"k": "v", "bare": ""},
	}
	if got := w.created(); got.Name != "web" || got.Start != nil || !reflect.DeepEqual(got.Spec, want) {
		t.Errorf("got  %+v\nwant %+v", got.Spec, want)
	}

	w.run("vm", "create", "-o", "json")
	if got := w.created(); !reflect.DeepEqual(got.Spec, banger.Spec{Work: banger.DefaultWork}.WithDefaults()) {
		t.Errorf("defaults: %+v", got.Spec)
	}
}

func TestDaemonVerbs(t *testing.T) {
	w := newWorld(t)
	status := w.run("daemon", "status", "-o", "json")
	var got map[string]any
	if err := json.Unmarshal([]byte(status.stdout), &got); err != nil || status.code != 3 || got["running"] != false || got["since"] != nil || len(got) != 5 {
		t.Errorf("%+v: %v", status, err)
	}
	w.run("daemon", "status").want(t, 3, "the daemon is not running; it starts when a verb needs it\n", "")
	w.run("daemon", "stop").want(t, 0, "the daemon was not running\n", "")
	if r := w.run("daemon", "logs"); r.code != 3 || !strings.Contains(r.stderr, "no log yet") {
		t.Errorf("%+v", r)
	}
	if r := w.run("version"); r.code != 0 || !strings.HasPrefix(r.stdout, "banger ") {
		t.Errorf("%+v", r)
	}
	if left, _ := os.ReadDir(w.home); len(left) != 0 {
		t.Errorf("something was started or made: %v", left)
	}

	w.withDaemon()
	status = w.run("daemon", "status", "-o", "json")
	if err := json.Unmarshal([]byte(status.stdout), &got); err != nil || status.code != 0 || got["running"] != true || got["pid"] != float64(os.Getpid()) {
		t.Errorf("%+v: %v", status, err)
	}
	if r := w.run("daemon", "start"); r.code != 0 || !strings.Contains(r.stdout, "already running") {
		t.Errorf("%+v", r)
	}
	wantVersion(t, w)
	if err := os.MkdirAll(w.layout.State, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.layout.DaemonLog(), []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.run("daemon", "logs").want(t, 0, "hello\n", "")
	w.run("daemon", "logs", "-o", "json").want(t, 0, "{\n  \"log\": \"hello\\n\"\n}\n", "")
	w.run("daemon", "stop").want(t, 0, "the daemon has stopped; no VM is running\n", "")
}

// wantVersion reads what scripts read of version: of this build, and of the daemon.
func wantVersion(t *testing.T, w *world) {
	t.Helper()
	var v struct {
		Client struct {
			Version, Commit, Go, Platform *string
			API                           int
			Protocols                     struct{ First, Last int }
		}
		Daemon *struct {
			Version  string
			PID, API int
		}
	}
	r := w.run("version", "-o", "json")
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil || r.code != 0 {
		t.Fatalf("%+v: %v", r, err)
	}
	c := v.Client
	if c.Version == nil || c.Commit == nil || c.Go == nil || !strings.HasPrefix(*c.Go, "go") || c.Platform == nil || !strings.HasPrefix(*c.Platform, "linux/") ||
		c.API != api.Version || c.Protocols.First != 1 || c.Protocols.Last != wire.Version {
		t.Errorf("client: %s", r.stdout)
	}
	if d := v.Daemon; d == nil || d.Version != version.String() || d.PID != os.Getpid() || d.API != api.Version {
		t.Errorf("daemon: %s", r.stdout)
	}
}

func TestCompletionOfNames(t *testing.T) {
	w := newWorld(t)
	if r := w.run("__complete", "vm", "start", ""); r.stdout != ":4\n" {
		t.Errorf("without a daemon: %q", r.stdout)
	}
	if r := w.run("__complete", "run", "--image", ""); r.stdout != "debian\n:4\n" {
		t.Errorf("images without a daemon: %q", r.stdout)
	}
	if r := w.run("__complete", "run", "--kernel", ""); r.stdout != ":4\n" {
		t.Errorf("kernels without a daemon: %q", r.stdout)
	}
	if left, _ := os.ReadDir(w.home); len(left) != 0 {
		t.Errorf("something was started or made: %v", left)
	}
	w.withDaemon()
	w.add("web", banger.StateStopped)
	w.add("db", banger.StateRunning)
	for line, want := range map[string]string{
		"vm start ":      "web\n:4\n",
		"exec ":          "db\n:4\n",
		"vm delete w":    "web\n:4\n",
		"vm delete web ": "db\n:4\n",
		"vm show ":       "web\ndb\n:4\n",
		"exec db ":       ":0\n",
		"vm show web ":   ":4\n",
		"run --init ":    "auto\nnone\n:4\n",

		"run --image ":         "debian\ndev\nmine\n:4\n",
		"vm create --image m":  "mine\n:4\n",
		"vm create --kernel 6": "6.1.0-cloud\n6.12.1-cloud\n:4\n",
		"kernel delete m":      "mine\n:4\n",
		"kernel pull ":         "debian\nubuntu\n:4\n",
		"vm list ":             ":4\n",
		"vm start nosuch":      ":4\n",
	} {
		if r := w.run(append([]string{"__complete"}, strings.Split(line, " ")...)...); r.stdout != want {
			t.Errorf("%q: %q, want %q", line, r.stdout, want)
		}
	}
}

func TestFullStdout(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.add("web", banger.StateRunning)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	for _, args := range []string{"vm list", "vm list -q", "ps -o json", "vm show web", "vm stop web", "vm logs web", "daemon status", "version"} {
		var stderr strings.Builder
		code := Run(t.Context(), w.process(strings.NewReader(""), full, &stderr), strings.Fields(args))
		if code != 1 || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%s: code %d, stderr %q", args, code, &stderr)
		}
	}
}
