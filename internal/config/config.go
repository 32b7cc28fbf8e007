// Package config is what the user has set: config.toml, the variables above it
// and, for both, one table of every key there is. It reads and judges; which
// part of banger heeds a key is not its business. Flags, which are above both,
// are the command line's.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"banger.dev/banger"
)

// Config is every setting, with its default where nobody has set it.
type Config struct {
	Defaults   Defaults
	Network    Network
	Daemon     Daemon
	Registries Registries
	Images     Images
	Sync       []banger.Sync         // files of the user's for new VMs, one for each [[sync]]
	Catalog    []banger.CatalogEntry // images of the user's by name, one for each [catalog.NAME]

	from map[string]string // where a key that is set was set, by its name
}

// Defaults are what a new VM is like unless a flag says otherwise. The command
// line applies them: the daemon gets a whole spec.
type Defaults struct {
	Image  string
	Kernel string // "": the default one
	VCPUs  int
	Memory banger.Bytes
	Disk   banger.Bytes
	Work   banger.Bytes // 0: no work disk
	Net    banger.NetMode
	Init   banger.InitMode
	VMM    banger.VMM
}

// Network is what holds for the network of every VM.
type Network struct {
	AllowPrivate bool     // guests reach private addresses
	DNS          []string // resolvers as IP or IP:port, asked in turn; none: the host's
}

// Registries are where images come from.
type Registries struct {
	Default   string   // of references without a host; "": they name nothing
	Mirrors   []string // HOST=MIRROR, asked before the host
	PlainHTTP []string // hosts that are asked without TLS, beside the loopback ones
}

// Images bound what an image may hold.
type Images struct {
	MaxSize    banger.Bytes // of its files together
	MaxEntries int
}

// Daemon is how the daemon behaves.
type Daemon struct {
	IdleTimeout time.Duration // after the last VM, client and operation; 0: it stays
	LogLevel    slog.Level
}

// maxFile bounds config.toml.
const maxFile = 1 << 20

// Load reads the file at path, which need not be there, and the variables. An
// error is KindInvalid, names the place and is one line; the first mistake in
// the file is the one reported.
func Load(path string, lookup func(string) (string, bool)) (Config, error) {
	c := Default()
	content, err := read(path)
	if err != nil {
		return Config{}, err
	}
	if err := c.parse(path, content); err != nil {
		return Config{}, err
	}
	for _, k := range keys {
		name := k.Variable()
		if name == "" {
			continue
		}
		text, _ := lookup(name)
		if text == "" {
			continue
		}
		v, err := k.fromText(text)
		if err == nil {
			err = k.set(&c, v)
		}
		if err != nil {
			return Config{}, banger.Errorf(banger.KindInvalid, "the variable %s: %w", name, err).WithNext("unset %s", name)
		}
		c.from[k.Name] = name
	}
	return c, nil
}

// Default is the configuration of somebody who has set nothing.
func Default() Config {
	return Config{
		Defaults: Defaults{
			Image: banger.DefaultImage, VCPUs: banger.DefaultVCPUs, Memory: banger.DefaultMemory,
			Disk: banger.DefaultDisk, Work: banger.DefaultWork,
			Net: banger.NetUser, Init: banger.InitAuto, VMM: banger.VMMAuto,
		},
		Network:    Network{AllowPrivate: true},
		Registries: Registries{Default: "docker.io"},
		Images:     Images{MaxSize: 64 * banger.GiB, MaxEntries: 1_000_000},
		Daemon:     Daemon{IdleTimeout: 10 * time.Minute, LogLevel: slog.LevelInfo},
		from:       map[string]string{},
	}
}

// From is where the key with this name was set: a variable, or the file with a
// line; "" if nobody did.
func (c Config) From(name string) string { return c.from[name] }

// read is the content of the file, nil if it is not there.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case errors.Is(err, syscall.EISDIR):
		return nil, banger.Errorf(banger.KindInvalid, "%s is a directory and must be a file", path).WithNext("rmdir %s", path)
	case err != nil:
		return nil, unreadable(path, err)
	case len(content) > maxFile:
		return nil, banger.Errorf(banger.KindInvalid, "%s is larger than %s", path, banger.Bytes(maxFile)).WithNext("banger config show --defaults")
	}
	return content, nil
}

func unreadable(path string, err error) error {
	var place *fs.PathError
	if errors.As(err, &place) {
		err = place.Err
	}
	return banger.Errorf(banger.KindInvalid, "the settings %s cannot be read: %w", path, err).WithNext("ls -ld %s", path)
}

// Document is a config.toml in which every key is explained and commented out
// with its default.
func Document() string {
	var b strings.Builder
	b.WriteString("# banger's settings: every key, with its default. Put what differs into config.toml\n" +
		"# (banger config path). A variable is above the file, a flag above both.\n")
	section, none := "", Default()
	for _, k := range keys {
		of, name, _ := strings.Cut(k.Name, ".")
		if of != section {
			section = of
			fmt.Fprintf(&b, "\n%s\n", k.header())
		} else {
			b.WriteString("\n")
		}
		doc := strings.ReplaceAll(k.Doc, "\n", "\n# ")
		if k.Each || k.Named {
			fmt.Fprintf(&b, "# %s\n# %s = %s\n", doc, name, inTOML(k.example))
			continue
		}
		fmt.Fprintf(&b, "# %s\n# Variable: %s\n# %s = %s\n", doc, k.Variable(), name, k.TOML(none))
	}
	return b.String()
}

// header is how the key's table is written in the document; one that has to have
// something in it is commented out.
func (k Key) header() string {
	section, _, _ := strings.Cut(k.Name, ".")
	switch {
	case k.Each:
		return "# [[" + section + "]]"
	case k.Named:
		return "# [" + section + ".mine]"
	}
	return "[" + section + "]"
}
