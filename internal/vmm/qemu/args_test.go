package qemu

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/vmm"
)

// arguments is the command line of a machine with every kind of disk.
func arguments(t *testing.T, change func(*vmm.Config)) []string {
	t.Helper()
	dir := t.TempDir()
	file := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cfg := vmm.Config{
		ID: "0123456789abcdef", Accel: "tcg", Machine: MachineType, CPU: CPUModel, VCPUs: 3, Memory: 512 * banger.MiB,
		Kernel: file("vmlinux"), Initramfs: file("initramfs"), Cmdline: "quiet a=b,c=d",
		Disks: []vmm.Disk{
			{Path: file("config"), Format: "raw", ReadOnly: true},
			{Path: file("system"), Format: "qcow2", Backing: file("base"), BackingFormat: "raw", Volatile: true},
			{Path: file("work"), Format: "qcow2", Backing: file("template"), BackingFormat: "raw"},
		},
		NIC: &vmm.NIC{MAC: "52:54:00:00:00:01"},
	}
	change(&cfg)
	var d descriptors
	defer d.closeAll()
	a, err := args(cfg, sockets{qmp: 3, console: 4, channel: 5, network: 6}, &d)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range a {
		if strings.Contains(word, dir) {
			t.Errorf("%q names a file", word)
		}
	}
	return a
}

// values is what follows each occurrence of an option.
func values(a []string, option string) []string {
	var found []string
	for i, word := range a[:len(a)-1] {
		if word == option {
			found = append(found, a[i+1])
		}
	}
	return found
}

func TestArguments(t *testing.T) {
	a := arguments(t, func(*vmm.Config) {})
	for option, want := range map[string]string{
		"-name":   "banger-0123456789abcdef",
		"-accel":  "tcg,thread=multi,tb-size=128",
		"-smp":    "3",
		"-m":      "512",
		"-append": "quiet a=b,c=d",
		"-object": "memory-backend-ram,id=ram,size=536870912",
		"-netdev": "stream,id=net0,server=off,addr.type=fd,addr.str=6",
	} {
		if got := values(a, option); len(got) != 1 || got[0] != want {
			t.Errorf("%s %q, not %q", option, got, want)
		}
	}
	sandbox := values(a, "-sandbox")
	if len(sandbox) != 1 || sandbox[0] != "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny" {
		t.Errorf("-sandbox %q", sandbox)
	}
	for _, flag := range []string{"-nodefaults", "-no-user-config", "-no-reboot"} {
		if !slices.Contains(a, flag) {
			t.Errorf("no %s", flag)
		}
	}
	for _, option := range []string{"-drive", "-hda", "-incoming", "-qmp", "-monitor", "-vnc", "-daemonize"} {
		if slices.Contains(a, option) {
			t.Errorf("there is a %s", option)
		}
	}
}

func TestEveryBlockNodeHasAFormat(t *testing.T) {
	type node struct {
		Driver   string          `json:"driver"`
		NodeName string          `json:"node-name"`
		ReadOnly bool            `json:"read-only"`
		Filename string          `json:"filename"`
		Backing  *string         `json:"backing"`
		File     json.RawMessage `json:"file"`
		Cache    map[string]bool `json:"cache"`
	}
	nodes := map[string]node{}
	var order []string
	a := arguments(t, func(*vmm.Config) {})
	for _, text := range values(a, "-blockdev") {
		var n, file node
		if err := json.Unmarshal([]byte(text), &n); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(n.File, &file); err != nil {
			t.Fatal(err)
		}
		if file.Driver != "file" || !strings.HasPrefix(file.Filename, "/dev/fdset/") || file.ReadOnly != n.ReadOnly {
			t.Errorf("the file below %s is %s", n.NodeName, n.File)
		}
		nodes[n.NodeName] = n
		order = append(order, n.NodeName)
	}
	if want := []string{"disk0", "disk1-base", "disk1", "disk2-base", "disk2"}; !slices.Equal(order, want) {
		t.Fatalf("nodes %q, not %q", order, want)
	}
	for name, want := range map[string]struct {
		driver   string
		readOnly bool
		noFlush  bool
	}{
		"disk0": {"raw", true, false}, "disk1-base": {"raw", true, false}, "disk1": {"qcow2", false, true},
		"disk2-base": {"raw", true, false}, "disk2": {"qcow2", false, false},
	} {
		n := nodes[name]
		if n.Driver != want.driver || n.ReadOnly != want.readOnly || n.Cache["no-flush"] != want.noFlush {
			t.Errorf("%s is %+v", name, n)
		}
		if base := strings.HasSuffix(name, "-base"); !base && n.Driver == "qcow2" && (n.Backing == nil || *n.Backing != name+"-base") {
			t.Errorf("%s lies over %v: what the image file says itself would be believed", name, n.Backing)
		}
	}
	var drives []string
	for _, device := range values(a, "-device") {
		if rest, ok := strings.CutPrefix(device, "virtio-blk-pci,drive="); ok {
			drives = append(drives, rest)
		}
	}
	if want := []string{"disk0,id=disk0-dev", "disk1,id=disk1-dev", "disk2,id=disk2-dev"}; !slices.Equal(drives, want) {
		t.Errorf("devices in the order %q", drives)
	}
}

// TestOverlayWithoutBase: a qcow2 file without a base of ours gets none of its own.
func TestOverlayWithoutBase(t *testing.T) {
	a := arguments(t, func(c *vmm.Config) { c.Disks = c.Disks[1:2]; c.Disks[0].Backing = "" })
	if nodes := values(a, "-blockdev"); len(nodes) != 1 || !strings.Contains(nodes[0], `"backing":null`) {
		t.Errorf("nodes %q", nodes)
	}
}

func TestKVM(t *testing.T) {
	a := arguments(t, func(c *vmm.Config) { c.Accel = "kvm"; c.NIC = nil })
	if got := values(a, "-accel"); len(got) != 1 || got[0] != "kvm" {
		t.Errorf("-accel %q", got)
	}
	if got := values(a, "-cpu"); len(got) != 1 || got[0] != CPUModel {
		t.Errorf("-cpu %q: KVM has what the model says", got)
	}
	if got := values(a, "-netdev"); len(got) != 0 {
		t.Errorf("-netdev %q without a NIC", got)
	}
}
