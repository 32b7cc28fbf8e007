package config

import (
	"cmp"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"banger.dev/banger"
)

// Key is one setting.
type Key struct {
	Name string // section.key
	Doc  string // what it means, for people
	// Each is one of a table that may be written several times, as [[sync]]. Its
	// value is a list with one for each, and it has no variable.
	Each bool
	// Named is one of a table that is written once for each name, as
	// [catalog.NAME]. It has no variable, and a value for each name.
	Named bool

	kind    kind
	example any                      // for Each and Named, in the document of all keys
	get     func(*Config) any        // string, int64, bool or []string, as it is written
	set     func(*Config, any) error // of the last table, for Each and Named
}

// kind is how a value is written in TOML.
type kind string

const (
	text   kind = "a string in quotes"
	number kind = "a whole number"
	truth  kind = "true or false"
	list   kind = "a list of strings, such as [\"10.0.0.1\"]"
)

// Keys are all there are, section by section. Of tables that have names, they are
// those of each.
func (c Config) Keys() []Key {
	var all []Key
	for _, k := range keys {
		if !k.Named {
			all = append(all, k)
		}
	}
	for _, e := range c.Catalog {
		all = append(all, keysOf(e)...)
	}
	return all
}

// keysOf are the keys of one [catalog.NAME].
func keysOf(e banger.CatalogEntry) []Key {
	var all []Key
	for _, k := range keys {
		if !k.Named {
			continue
		}
		of, key, _ := strings.Cut(k.Name, ".")
		one := k
		one.Name = of + "." + e.Name + "." + key
		one.get = func(c *Config) any {
			at := slices.IndexFunc(c.Catalog, func(other banger.CatalogEntry) bool { return other.Name == e.Name })
			if at < 0 {
				return k.get(&Config{Catalog: []banger.CatalogEntry{{}}})
			}
			return k.get(&Config{Catalog: c.Catalog[at : at+1]})
		}
		all = append(all, one)
	}
	return all
}

// Variable is the environment variable above the file.
func (k Key) Variable() string {
	if k.Each || k.Named {
		return ""
	}
	return "BANGER_" + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_"))
}

// Value is the key's value in c: a string, a number, a boolean or a list.
func (k Key) Value(c Config) any { return k.get(&c) }

// TOML is the value as it is written in the file.
func (k Key) TOML(c Config) string { return inTOML(k.get(&c)) }

func inTOML(value any) string {
	switch v := value.(type) {
	case string:
		return strconv.Quote(v)
	case []string:
		quoted := make([]string, len(v))
		for i, s := range v {
			quoted[i] = strconv.Quote(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	default:
		return fmt.Sprint(v)
	}
}

// fromText reads a variable's text as a value of the key's kind; a list is
// separated by commas.
func (k Key) fromText(s string) (any, error) {
	switch k.kind {
	case number:
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return n, nil
		}
	case truth:
		if s == "true" || s == "false" {
			return s == "true", nil
		}
	case list:
		var out []string
		for part := range strings.SplitSeq(s, ",") {
			if part = strings.TrimSpace(part); part != "" {
				out = append(out, part)
			}
		}
		return out, nil
	default:
		return s, nil
	}
	return nil, fmt.Errorf("%q must be %s", s, k.kind)
}

// fromTOML checks that a decoded value is of the key's kind.
func (k Key) fromTOML(v any) (any, error) {
	ok := false
	switch k.kind {
	case text:
		_, ok = v.(string)
	case number:
		_, ok = v.(int64)
	case truth:
		_, ok = v.(bool)
	case list:
		var all []any
		if all, ok = v.([]any); ok {
			out := make([]string, len(all))
			for i, e := range all {
				if out[i], ok = e.(string); !ok {
					return nil, fmt.Errorf("must be %s", k.kind)
				}
			}
			return out, nil
		}
	}
	if !ok {
		return nil, fmt.Errorf("must be %s", k.kind)
	}
	return v, nil
}

// keys is the one table: the parser, the variables, config show and the
// document of all keys come from it.
var keys = []Key{
	textKey("defaults.image", "Image of a new VM's root file system.",
		func(c *Config) *string { return &c.Defaults.Image }, reference),
	textKey("defaults.kernel", "Kernel of a new VM; empty is banger's own choice.",
		func(c *Config) *string { return &c.Defaults.Kernel }, optional(reference)),
	{
		Name: "defaults.vcpus", Doc: fmt.Sprintf("Virtual CPUs of a new VM: 1 to %d, and to twice the host's.", banger.MaxVCPUs), kind: number,
		get: func(c *Config) any { return int64(c.Defaults.VCPUs) },
		set: func(c *Config, v any) error {
			n := v.(int64)
			if n < 1 || n > banger.MaxVCPUs {
				return fmt.Errorf("%d must be from 1 to %d", n, banger.MaxVCPUs)
			}
			c.Defaults.VCPUs = int(n)
			return nil
		},
	},
	sizeKey("defaults.memory", fmt.Sprintf("Memory of a new VM, with a unit: %s to the host's.", banger.MinMemory),
		func(c *Config) *banger.Bytes { return &c.Defaults.Memory }, banger.MinMemory, math.MaxInt64, false),
	sizeKey("defaults.disk", "Size of a new VM's root file system, with a unit; only what is written takes space.\nWhere the image is larger, so is the file system.",
		func(c *Config) *banger.Bytes { return &c.Defaults.Disk }, banger.MinDisk, banger.MaxDisk, false),
	sizeKey("defaults.work", "Size of a new VM's work disk (/root, /home), with a unit, or none.",
		func(c *Config) *banger.Bytes { return &c.Defaults.Work }, banger.MinDisk, banger.MaxDisk, true),
	choiceKey("defaults.net", "How a new VM is connected: user or none.",
		func(c *Config) *banger.NetMode { return &c.Defaults.Net }, banger.NetUser, banger.NetNone),
	choiceKey("defaults.init", "PID 1 of a new VM: auto is the image's init if it has one, none is banger's agent.\nWhere this is not set, run --rm -- CMD uses none.",
		func(c *Config) *banger.InitMode { return &c.Defaults.Init }, banger.InitAuto, banger.InitNone),
	choiceKey("defaults.vmm", "Program that runs a new VM: auto, firecracker or qemu.",
		func(c *Config) *banger.VMM { return &c.Defaults.VMM }, banger.VMMAuto, banger.VMMFirecracker, banger.VMMQEMU),
	{
		Name: "network.allow_private", Doc: "Whether guests reach private addresses (10/8, 172.16/12, 192.168/16, fc00::/7).\nRead when a VM starts. The host's loopback and link-local addresses are closed always.", kind: truth,
		get: func(c *Config) any { return c.Network.AllowPrivate },
		set: func(c *Config, v any) error { c.Network.AllowPrivate = v.(bool); return nil },
	},
	{
		Name: "network.dns", Doc: "Resolvers for guests, each an IP address or IP:port, asked in turn; none means the host's own.\nRead when a VM starts.", kind: list,
		get: func(c *Config) any { return append([]string{}, c.Network.DNS...) },
		set: func(c *Config, v any) error {
			servers := v.([]string)
			for _, s := range servers {
				if !isResolver(s) {
					return fmt.Errorf("%q must be an IP address, or one with a port as 10.0.0.1:53 or [fd00::1]:53", s)
				}
			}
			c.Network.DNS = servers
			return nil
		},
	},
	{
		Name: "registries.default", Doc: "Registry of images that are named without one, or none.", kind: text,
		get: func(c *Config) any { return cmp.Or(c.Registries.Default, "none") },
		set: func(c *Config, v any) error {
			c.Registries.Default = v.(string)
			if v == "none" || v == "" {
				c.Registries.Default = ""
				return nil
			}
			return hostname(v.(string))
		},
	},
	hostsKey("registries.mirrors", "Mirrors of registries, each as \"docker.io=mirror.example:5000\"; they are asked first, in their order.",
		func(c *Config) *[]string { return &c.Registries.Mirrors }, mirror),
	hostsKey("registries.plain_http", "Registries that are asked without TLS, each as host or host:port; loopback ones always are.",
		func(c *Config) *[]string { return &c.Registries.PlainHTTP }, hostname),
	sizeKey("images.max_size", "What the files of an image may hold together, with a unit.",
		func(c *Config) *banger.Bytes { return &c.Images.MaxSize }, banger.MiB, banger.MaxDisk, false),
	{
		Name: "images.max_entries", Doc: "How many files, directories and links the layers of an image may have together. Each takes some 500 bytes of memory.", kind: number,
		get: func(c *Config) any { return int64(c.Images.MaxEntries) },
		set: func(c *Config, v any) error {
			n := v.(int64)
			if n < 1 || n > 100_000_000 {
				return fmt.Errorf("%d must be from 1 to 100000000", n)
			}
			c.Images.MaxEntries = int(n)
			return nil
		},
	},
	{
		Name: "daemon.idle_timeout", Doc: "How long the daemon stays after the last running VM, client and operation, such as 10m; \"0\" is for ever.", kind: text,
		get: func(c *Config) any { return writeDuration(c.Daemon.IdleTimeout) },
		set: func(c *Config, v any) error {
			d, err := time.ParseDuration(v.(string))
			if err != nil || d < 0 || d > 0 && d < time.Second {
				return fmt.Errorf("%q must be a time of a second or more, such as 90s or 10m, or 0", v)
			}
			c.Daemon.IdleTimeout = d
			return nil
		},
	},
	{
		Name: "daemon.log_level", Doc: "What the daemon writes to its log: debug, info, warn or error, and what is above it.", kind: text,
		get: func(c *Config) any { return strings.ToLower(c.Daemon.LogLevel.String()) },
		set: func(c *Config, v any) error {
			for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
				if v == strings.ToLower(level.String()) {
					c.Daemon.LogLevel = level
					return nil
				}
			}
			return fmt.Errorf("%q must be debug, info, warn or error", v)
		},
	},
	syncKey("source", "File or directory below your home that a VM gets when it has started, but one of run --rm.\nLinks are followed as long as they stay below your home.", "~/.gitconfig",
		func(s *banger.Sync) string { return s.Source },
		func(s *banger.Sync, v string) error { s.Source = v; return banger.ValidateSyncPath(v) }),
	syncKey("target", "Where it goes, below the home of the VM's user; the same as source otherwise.", "~/.gitconfig",
		func(s *banger.Sync) string { return s.To() },
		func(s *banger.Sync, v string) error { s.Target = v; return banger.ValidateSyncPath(v) }),
	syncKey("mode", "Mode of the file there.", "0600",
		func(s *banger.Sync) string { return fmt.Sprintf("%04o", s.FileMode()) },
		func(s *banger.Sync, v string) (err error) { s.Mode, err = banger.ParseSyncMode(v); return err }),
	catalogKey("source", "Where the image with this name comes from: \"oci:\" and a reference, or \"debian:\" and a release,\nwhich is then made here. It is pulled at its first use.", "oci:docker.io/library/alpine:3",
		func(e *banger.CatalogEntry) *string { return &e.Source }, banger.ValidateSource),
	catalogKey("description", "What it is for, in banger image list --catalog.", "small",
		func(e *banger.CatalogEntry) *string { return &e.Description }, func(string) error { return nil }),
	catalogKey("kernel", "Kernel of its VMs that name none; empty is banger's own choice.", "",
		func(e *banger.CatalogEntry) *string { return &e.Kernel }, optional(reference)),
	{
		Name: "catalog.packages", Doc: "Packages of a debian: source, beside those of the image debian.", Named: true, kind: list, example: []string{},
		get: func(c *Config) any { return append([]string{}, c.last().Packages...) },
		set: func(c *Config, v any) error {
			for _, name := range v.([]string) {
				if err := banger.ValidatePackage(name); err != nil {
					return err
				}
			}
			c.last().Packages = v.([]string)
			return nil
		},
	},
}

// last is the [catalog.NAME] that is being read.
func (c *Config) last() *banger.CatalogEntry { return &c.Catalog[len(c.Catalog)-1] }

// catalogKey is a key of each [catalog.NAME].
func catalogKey(name, doc, example string, at func(*banger.CatalogEntry) *string, check func(string) error) Key {
	k := textKey("catalog."+name, doc, func(c *Config) *string { return at(c.last()) }, check)
	k.Named, k.example = true, example
	return k
}

// syncKey is a key of each [[sync]].
func syncKey(name, doc, example string, get func(*banger.Sync) string, set func(*banger.Sync, string) error) Key {
	return Key{
		Name: "sync." + name, Doc: doc, Each: true, kind: text, example: example,
		get: func(c *Config) any {
			all := []string{}
			for i := range c.Sync {
				all = append(all, get(&c.Sync[i]))
			}
			return all
		},
		set: func(c *Config, v any) error { return set(&c.Sync[len(c.Sync)-1], v.(string)) },
	}
}

func textKey(name, doc string, at func(*Config) *string, check func(string) error) Key {
	return Key{
		Name: name, Doc: doc, kind: text,
		get: func(c *Config) any { return *at(c) },
		set: func(c *Config, v any) error {
			s := v.(string)
			if err := check(s); err != nil {
				return err
			}
			*at(c) = s
			return nil
		},
	}
}

func sizeKey(name, doc string, at func(*Config) *banger.Bytes, low, high banger.Bytes, allowNone bool) Key {
	return Key{
		Name: name, Doc: doc, kind: text,
		get: func(c *Config) any {
			if *at(c) == 0 {
				return "none"
			}
			return at(c).String()
		},
		set: func(c *Config, v any) error {
			s := v.(string)
			if allowNone && s == "none" {
				*at(c) = 0
				return nil
			}
			n, err := banger.ParseBytes(s)
			switch {
			case err != nil:
				return err
			case n < low:
				return fmt.Errorf("%q must be at least %s", s, low)
			case n > high:
				return fmt.Errorf("%q must be at most %s", s, high)
			}
			*at(c) = n
			return nil
		},
	}
}

func choiceKey[T ~string](name, doc string, at func(*Config) *T, choices ...T) Key {
	return Key{
		Name: name, Doc: doc, kind: text,
		get: func(c *Config) any { return string(*at(c)) },
		set: func(c *Config, v any) error {
			s := v.(string)
			if !slices.Contains(choices, T(s)) {
				words := make([]string, len(choices))
				for i, w := range choices {
					words[i] = string(w)
				}
				last := len(words) - 1
				return fmt.Errorf("%q must be %s or %s", s, strings.Join(words[:last], ", "), words[last])
			}
			*at(c) = T(s)
			return nil
		},
	}
}

func hostsKey(name, doc string, at func(*Config) *[]string, check func(string) error) Key {
	return Key{
		Name: name, Doc: doc, kind: list,
		get: func(c *Config) any { return append([]string{}, *at(c)...) },
		set: func(c *Config, v any) error {
			hosts := v.([]string)
			for _, h := range hosts {
				if err := check(h); err != nil {
					return err
				}
			}
			*at(c) = hosts
			return nil
		},
	}
}

// hostname is a registry's host, with a port or without.
func hostname(s string) error {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune("/=@", r) }) {
		return fmt.Errorf("%q must be a registry's host, such as docker.io or 127.0.0.1:5000", s)
	}
	return nil
}

func mirror(s string) error {
	of, by, _ := strings.Cut(s, "=")
	if hostname(of) != nil || hostname(by) != nil {
		return fmt.Errorf("%q must be a registry and its mirror, such as docker.io=mirror.example:5000", s)
	}
	return nil
}

// reference names an image or a kernel; whether there is one the daemon says.
func reference(s string) error {
	if s == "" || len(s) > 4096 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fmt.Errorf("%q cannot name one", s)
	}
	return nil
}

func optional(check func(string) error) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		return check(s)
	}
}

func isResolver(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	addr, err := netip.ParseAddrPort(s)
	return err == nil && addr.Port() != 0
}

// writeDuration is d without the parts that are nothing: 10m, not 10m0s.
func writeDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	if d == 0 {
		return "0"
	}
	return s
}
