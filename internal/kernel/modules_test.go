package kernel

import (
	"slices"
	"strings"
	"testing"

	"banger.dev/banger"
)

func index(t *testing.T, dep, builtin string) *moduleIndex {
	t.Helper()
	x, err := readModuleIndex("6.1-test", strings.NewReader(dep), strings.NewReader(builtin))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestLoadOrder(t *testing.T) {
	const dep = `kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc16.ko.xz kernel/fs/mbcache.ko.xz kernel/fs/jbd2/jbd2.ko.xz
kernel/lib/crc16.ko.xz:
kernel/fs/mbcache.ko.xz:
kernel/fs/jbd2/jbd2.ko.xz: kernel/lib/crc16.ko.xz
kernel/drivers/char/hw_random/virtio-rng.ko.xz: kernel/drivers/virtio/virtio.ko.xz
`
	x := index(t, dep, "kernel/drivers/virtio/virtio.ko\nkernel/drivers/virtio/virtio_pci.ko\n")
	got, err := x.loadOrder([]wantedModule{{name: "virtio_pci"}, {name: "ext4"}, {name: "virtio_rng", optional: true}, {name: "absent", optional: true}, {name: "jbd2"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"kernel/lib/crc16.ko.xz", "kernel/fs/mbcache.ko.xz", "kernel/fs/jbd2/jbd2.ko.xz", "kernel/fs/ext4/ext4.ko.xz", "kernel/drivers/char/hw_random/virtio-rng.ko.xz"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestLoadOrderFailures(t *testing.T) {
	for name, test := range map[string]struct{ dep, wanted, says string }{
		"missing":                {"", "virtio_blk", "6.1-test has no module virtio_blk, which"},
		"missing but needed":     {"a.ko: b.ko\n", "a", "no module b (needed by a)"},
		"a circle":               {"a.ko: b.ko\nb.ko: a.ko\n", "a", "needs itself"},
		"a very long chain":      {chain(1000), "m0", "a chain of more than"},
		"needs itself, directly": {"a.ko: a.ko\n", "a", "needs itself"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := index(t, test.dep, "").loadOrder([]wantedModule{{name: test.wanted}})
			if banger.KindOf(err) != banger.KindInvalid || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
}

func chain(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("m" + strings.Repeat("0", i) + "0.ko: m" + strings.Repeat("0", i+1) + "0.ko\n")
	}
	return b.String()
}

func TestModulesDepMayNotLeaveItsDirectory(t *testing.T) {
	for _, line := range []string{"../x.ko:", "/etc/passwd:", "a/../../x.ko:", "x:", "no colon", ":"} {
		if _, err := readModuleIndex("r", strings.NewReader(line), strings.NewReader("")); err == nil {
			t.Errorf("%q was taken", line)
		}
	}
}

func FuzzModulesDep(f *testing.F) {
	f.Add("kernel/a.ko: kernel/b.ko.xz\nkernel/b.ko.xz:\n", "kernel/c.ko\n")
	f.Add("a.ko: b.ko\nb.ko: a.ko\n", "")
	f.Fuzz(func(t *testing.T, dep, builtin string) {
		x, err := readModuleIndex("r", strings.NewReader(dep), strings.NewReader(builtin))
		if err != nil {
			return
		}
		for name := range x.files {
			order, err := x.loadOrder([]wantedModule{{name: name}})
			if err != nil {
				continue
			}
			seen := map[string]bool{}
			for _, file := range order {
				for _, need := range x.deps[moduleName(file)] {
					if !seen[need] && !x.builtin[need] {
						t.Fatalf("%s is loaded before %s, which it needs", file, need)
					}
				}
				seen[moduleName(file)] = true
			}
			break
		}
	})
}
