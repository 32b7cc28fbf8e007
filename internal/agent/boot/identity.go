package boot

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"banger.dev/banger/internal/agent/wire"
)

// setIdentity gives the guest its names and its randomness. Nothing in it is
// worth a failed boot.
func setIdentity(console Console, config wire.Config) {
	for _, step := range []struct {
		what string
		do   func(wire.Config) error
	}{
		{"random seed", creditSeed},
		{"host name", func(c wire.Config) error { return unix.Sethostname([]byte(c.Name)) }},
		{"/etc/machine-id", writeMachineID},
		{"/etc/hostname", bindHostname},
		{"/etc/hosts", bindHosts},
		{"/etc/resolv.conf", bindResolvConf},
		{"working directory", makeWorkdir},
	} {
		if err := step.do(config); err != nil {
			console.Note("%s: %v", step.what, err)
		}
	}
}

// creditSeed mixes the host's seed into the random pool and lets it count.
func creditSeed(config wire.Config) error {
	if len(config.Seed) == 0 {
		return nil
	}
	f, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var pool struct {
		bits, size int32
		buf        [64]byte
	}
	n := copy(pool.buf[:], config.Seed)
	pool.bits, pool.size = int32(n*8), int32(n)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&pool))); errno != 0 {
		return errno
	}
	return nil
}

// writeMachineID writes to the disk: systemd takes a mounted one for a stand-in
// that it has to replace.
func writeMachineID(config wire.Config) error {
	const name = "/etc/machine-id"
	if config.MachineID == "" {
		return nil
	}
	want := []byte(config.MachineID + "\n")
	if have, err := os.ReadFile(name); err == nil && bytes.Equal(have, want) {
		return nil
	}
	if err := os.MkdirAll("/etc", 0o755); err != nil {
		return err
	}
	target, err := filepath.EvalSymlinks(name)
	if err != nil {
		target = name
	}
	if err := os.WriteFile(target+".banger", want, 0o444); err != nil {
		return err
	}
	return os.Rename(target+".banger", target)
}

func bindHostname(config wire.Config) error {
	if !blank("/etc/hostname") {
		return nil // the image's own; the host name is set all the same
	}
	return bindFile("hostname", "/etc/hostname", config.Name+"\n")
}

func bindHosts(config wire.Config) error {
	const name = "/etc/hosts"
	var b strings.Builder
	fmt.Fprintf(&b, "127.0.0.1\tlocalhost\n127.0.1.1\t%s\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n", config.Name)
	if !blank(name) {
		if len(config.Hosts) == 0 {
			return nil // the image's, or the user's, own
		}
		own, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		b.Reset()
		b.Write(own)
		if !bytes.HasSuffix(own, []byte("\n")) {
			b.WriteByte('\n')
		}
	}
	for _, h := range config.Hosts {
		fmt.Fprintf(&b, "%s\t%s\n", h.Address, strings.Join(h.Names, " "))
	}
	return bindFile("hosts", name, b.String())
}

func bindResolvConf(config wire.Config) error {
	if config.Network == nil || len(config.Network.DNS) == 0 {
		return nil
	}
	var b strings.Builder
	for _, server := range config.Network.DNS {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	return bindFile("resolv.conf", "/etc/resolv.conf", b.String())
}

// makeWorkdir makes the VM's own working directory where the image has none.
func makeWorkdir(config wire.Config) error {
	if config.Workdir == "" {
		return nil
	}
	return os.MkdirAll(config.Workdir, 0o755)
}

// blank says whether a file is absent or holds nothing but white space.
func blank(name string) bool {
	b, err := os.ReadFile(name)
	return err != nil || len(bytes.TrimSpace(b)) == 0
}

// bindFile puts a file of ours in the place of target, so that nothing of it
// stays on the disk and no service of the image replaces it.
func bindFile(name, target, content string) error {
	source := filepath.Join(Dir, name)
	if err := os.WriteFile(source, []byte(content), 0o644); err != nil {
		return err
	}
	if err := makeTarget(target); err != nil {
		return err
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting %s on it: %w", source, err)
	}
	return nil
}

// makeTarget makes an empty file where there is none. A link is followed,
// also one that leads nowhere yet, as /etc/resolv.conf often does.
func makeTarget(target string) error {
	for range 8 {
		if _, err := os.Stat(target); err == nil {
			return nil
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		link, err := os.Readlink(target)
		if err != nil {
			return os.WriteFile(target, nil, 0o644)
		}
		if !filepath.IsAbs(link) {
			link = filepath.Join(filepath.Dir(target), link)
		}
		target = link
	}
	return fmt.Errorf("too many links")
}
