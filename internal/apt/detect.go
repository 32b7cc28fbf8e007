package apt

import (
	"bufio"
	"bytes"
	"context"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// maxSourceFile bounds a file of sources; real ones are a few hundred bytes.
const maxSourceFile = 1 << 20

// DetectSources is DetectFor Debian.
func DetectSources() Sources { return DetectFor(Debian) }

// DetectFor finds the mirrors that the host itself uses if it is one of this
// distribution, and its proxy if it is one of any; what it does not find gets the
// defaults. It reads files and asks apt-config; it never fails.
func DetectFor(distribution string) Sources { return detect("/", distribution, hostProxy) }

// detect reads the host whose root directory is root. proxy is asked only where
// there is apt.
func detect(root, distribution string, proxy func() string) Sources {
	s := Sources{Mirror: DefaultMirror, Security: DefaultSecurity, Keyring: DefaultKeyring, KeyringPackage: "debian-archive-keyring"}
	if distribution == Ubuntu {
		s = Sources{Mirror: ubuntuMirror, Security: ubuntuSecurity, Keyring: ubuntuKeyring, KeyringPackage: "ubuntu-keyring"}
	}
	id, codename := hostRelease(filepath.Join(root, "etc/os-release"))
	if id != Debian && id != Ubuntu {
		return s
	}
	if mentionsProxy(filepath.Join(root, "etc/apt")) {
		s.Proxy = proxy()
	}
	entries := hostEntries(filepath.Join(root, "etc/apt"))
	switch {
	case id != distribution:
	case id == Debian:
		s.use(entries, id, "debian-security", []string{codename, "stable", "testing", "unstable", "sid"},
			[]string{codename + "-security", "stable-security", "testing-security", codename + "/updates"})
	case id == Ubuntu:
		s.use(entries, id, id, []string{codename}, []string{codename + "-security"})
	}
	return s
}

// use takes the host's own archives: main, whose path ends in the name of its
// distribution, and security.
func (s *Sources) use(entries []entry, main, security string, suites, securitySuites []string) {
	if uri := bestMirror(entries, main, main, suites...); uri != "" {
		s.Mirror = uri
	}
	if uri := bestMirror(entries, main, security, securitySuites...); uri != "" {
		s.Security = uri
	}
}

// hostRelease is the distribution and the release of a host; Debian's testing may
// have none.
func hostRelease(file string) (id, codename string) {
	b, err := readBounded(file)
	if err != nil {
		return "", ""
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			fields[k] = strings.Trim(v, `"'`)
		}
	}
	return fields["ID"], fields["VERSION_CODENAME"]
}

// entry is one archive that the host uses.
type entry struct {
	uri        string
	suites     []string
	components []string
	signedBy   string
}

// hostEntries reads every enabled binary archive of an /etc/apt.
func hostEntries(dir string) []entry {
	var entries []entry
	if b, err := readBounded(filepath.Join(dir, "sources.list")); err == nil {
		entries = append(entries, parseList(b)...)
	}
	files, _ := os.ReadDir(filepath.Join(dir, "sources.list.d"))
	for _, f := range files {
		b, err := readBounded(filepath.Join(dir, "sources.list.d", f.Name()))
		if err != nil {
			continue
		}
		switch filepath.Ext(f.Name()) {
		case ".list":
			entries = append(entries, parseList(b)...)
		case ".sources":
			entries = append(entries, parseDeb822Sources(b)...)
		}
	}
	return entries
}

// parseList reads the one-line format of sources.list(5).
func parseList(b []byte) []entry {
	var entries []entry
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb ")
		if !ok {
			continue
		}
		var e entry
		if rest = strings.TrimSpace(rest); strings.HasPrefix(rest, "[") {
			options, after, found := strings.Cut(rest[1:], "]")
			if !found {
				continue
			}
			rest = after
			for _, o := range strings.Fields(options) {
				if v, ok := strings.CutPrefix(o, "signed-by="); ok {
					e.signedBy = v
				}
			}
		}
		words := strings.Fields(rest)
		if len(words) < 2 {
			continue
		}
		e.uri, e.suites, e.components = words[0], words[1:2], words[2:]
		entries = append(entries, e)
	}
	return entries
}

// parseDeb822Sources reads the stanza format of sources.list(5).
func parseDeb822Sources(b []byte) []entry {
	var entries []entry
	for _, s := range parseStanzas(b) {
		if !slices.Contains(strings.Fields(s["types"]), "deb") || slices.Contains([]string{"no", "false", "0", "off"}, strings.ToLower(s["enabled"])) {
			continue
		}
		for _, uri := range strings.Fields(s["uris"]) {
			entries = append(entries, entry{uri, strings.Fields(s["suites"]), strings.Fields(s["components"]), s["signed-by"]})
		}
	}
	return entries
}

// bestMirror picks the archive that carries a distribution's own main for one of
// suites: first by a path that ends in name, as third parties use its suite names
// too.
func bestMirror(entries []entry, distribution, name string, suites ...string) string {
	fallback := ""
	for _, e := range entries {
		u, err := url.Parse(e.uri)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.ContainsAny(e.uri, "\"\\ []") {
			continue
		}
		if !slices.Contains(e.components, "main") || !slices.ContainsFunc(e.suites, func(s string) bool { return s != "" && slices.Contains(suites, s) }) {
			continue
		}
		ownKey := strings.Contains(e.signedBy, distribution+"-archive")
		switch {
		case path.Base(u.Path) == name && (ownKey || e.signedBy == ""):
			return strings.TrimRight(e.uri, "/")
		case ownKey && fallback == "":
			fallback = strings.TrimRight(e.uri, "/")
		}
	}
	return fallback
}

// mentionsProxy says whether apt's configuration in dir can set a proxy. Most
// hosts' does not, and a daemon should not start with a child process for nothing.
func mentionsProxy(dir string) bool {
	files, _ := filepath.Glob(filepath.Join(dir, "apt.conf.d", "*"))
	for _, file := range append(files, filepath.Join(dir, "apt.conf")) {
		if b, err := readBounded(file); err == nil && bytes.Contains(bytes.ToLower(b), []byte("proxy")) {
			return true
		}
	}
	return false
}

// hostProxy asks apt what proxy the host's configuration sets.
func hostProxy() string {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := run(ctx, command{argv: []string{"apt-config", "shell", "PROXY", "Acquire::http::Proxy"}})
	if err != nil {
		return ""
	}
	return parseProxy(out)
}

// parseProxy reads what apt-config shell prints: PROXY='http://host:port/'.
func parseProxy(out []byte) string {
	value, ok := bytes.CutPrefix(bytes.TrimSpace(out), []byte("PROXY="))
	if !ok {
		return ""
	}
	proxy := strings.Trim(string(value), "'")
	u, err := url.Parse(proxy)
	if err != nil || u.Host == "" || strings.ContainsAny(proxy, "\"\\'\n") {
		return "" // DIRECT, or nothing that can be written to a configuration
	}
	return proxy
}

// parseStanzas reads deb822: stanzas of "Key: value" with continuation lines,
// keys in lower case. Lines that are none of these are skipped.
func parseStanzas(b []byte) []map[string]string {
	var stanzas []map[string]string
	var current map[string]string
	key := ""
	scanner := bufio.NewScanner(bytes.NewReader(b))
	scanner.Buffer(nil, maxSourceFile+1)
	for scanner.Scan() {
		line := scanner.Text()
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			current, key = nil, ""
		case line[0] == ' ' || line[0] == '\t':
			if key != "" {
				current[key] += "\n" + strings.TrimSpace(line)
			}
		default:
			k, v, ok := strings.Cut(line, ":")
			if !ok {
				continue
			}
			if current == nil {
				current = map[string]string{}
				stanzas = append(stanzas, current)
			}
			key = strings.ToLower(strings.TrimSpace(k))
			current[key] = strings.TrimSpace(v)
		}
	}
	return stanzas
}

func readBounded(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSourceFile {
		return nil, os.ErrInvalid
	}
	return os.ReadFile(file)
}
