package apt

import (
	"os"
	"path/filepath"
	"testing"
)

const debian12 = "ID=debian\nVERSION_CODENAME=bookworm\nNAME=\"Debian GNU/Linux\"\n"

func TestDetectUsesWhatTheHostUses(t *testing.T) {
	for _, test := range []struct {
		name, osRelease, proxy string
		files                  map[string]string
		mirror, security       string
	}{
		{name: "no sources", osRelease: debian12, mirror: DefaultMirror, security: DefaultSecurity},
		{name: "not Debian", osRelease: "ID=ubuntu\nVERSION_CODENAME=noble\n", proxy: "",
			files:  map[string]string{"sources.list": "deb http://archive.ubuntu.com/debian noble main\n"},
			mirror: DefaultMirror, security: DefaultSecurity},
		{name: "one-line format", osRelease: debian12, proxy: "http://proxy:3142/",
			files: map[string]string{"apt.conf.d/00proxy": "Acquire::http::Proxy \"http://proxy:3142/\";\n",
				"sources.list": "# deb http://old/debian bookworm main\n" +
					"deb-src http://src/debian bookworm main\n" +
					"deb cdrom:[Debian]/ bookworm main\n" +
					"deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://near/debian/ bookworm main contrib # fast\n" +
					"deb http://near/debian-security bookworm-security main\n"},
			mirror: "http://near/debian", security: "http://near/debian-security"},
		{name: "a proxy in apt.conf", osRelease: debian12, proxy: "http://proxy:3142/",
			files:  map[string]string{"apt.conf": "acquire::http::proxy \"http://proxy:3142/\";\n"},
			mirror: DefaultMirror, security: DefaultSecurity},
		{name: "stanzas", osRelease: debian12,
			files: map[string]string{"sources.list.d/debian.sources": "Enabled: no\nTypes: deb\nURIs: http://off/debian\nSuites: bookworm\nComponents: main\n\n" +
				"Types: deb deb-src\n# comment\nURIs: https://near/debian\nSuites: bookworm\n bookworm-updates\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n" +
				"Types: deb\nURIs: https://near/debian-security/\nSuites: bookworm-security\nComponents: main\n"},
			mirror: "https://near/debian", security: "https://near/debian-security"},
		{name: "third parties that use Debian's names", osRelease: debian12,
			files: map[string]string{
				"sources.list.d/a.list": "deb [signed-by=/k/vendor.gpg] https://vendor/debian bookworm main\ndeb https://vendor/linux/debian bookworm stable\ndeb [signed-by=/k/ms.gpg] https://vendor/debian/12/prod bookworm main\n",
			},
			mirror: DefaultMirror, security: DefaultSecurity},
		{name: "a mirror by another name, signed by Debian", osRelease: debian12,
			files: map[string]string{
				"sources.list.d/a.list": "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] https://artifacts/debian-remote bookworm main\n",
			},
			mirror: "https://artifacts/debian-remote", security: DefaultSecurity},
		{name: "a URI that could break a configuration", osRelease: debian12,
			files:  map[string]string{"sources.list": "deb http://near\"x/debian bookworm main\n"},
			mirror: DefaultMirror, security: DefaultSecurity},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			put(t, filepath.Join(root, "etc/os-release"), test.osRelease)
			for name, content := range test.files {
				put(t, filepath.Join(root, "etc/apt", name), content)
			}
			got := detect(root, Debian, func() string { return test.proxy })
			want := Sources{Mirror: test.mirror, Security: test.security, Proxy: test.proxy, Keyring: DefaultKeyring, KeyringPackage: "debian-archive-keyring"}
			if got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestDetectForUbuntu(t *testing.T) {
	root := t.TempDir()
	put(t, filepath.Join(root, "etc/os-release"), debian12)
	put(t, filepath.Join(root, "etc/apt/sources.list"), "deb http://near/debian bookworm main\n")
	put(t, filepath.Join(root, "etc/apt/apt.conf"), "acquire::http::proxy \"x\";\n")
	got := detect(root, Ubuntu, func() string { return "http://proxy/" })
	if got.Mirror != ubuntuMirror || got.Security != ubuntuSecurity || got.Keyring != ubuntuKeyring || got.Proxy != "http://proxy/" {
		t.Errorf("on a Debian host: %+v", got)
	}
	put(t, filepath.Join(root, "etc/os-release"), "ID=ubuntu\nVERSION_CODENAME=noble\n")
	put(t, filepath.Join(root, "etc/apt/sources.list.d/ubuntu.sources"),
		"Types: deb\nURIs: http://near/ubuntu/\nSuites: noble noble-updates\nComponents: main universe\nSigned-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg\n\n"+
			"Types: deb\nURIs: http://safe/ubuntu\nSuites: noble-security\nComponents: main\nSigned-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg\n")
	got = detect(root, Ubuntu, func() string { return "" })
	if got.Mirror != "http://near/ubuntu" || got.Security != "http://safe/ubuntu" {
		t.Errorf("on an Ubuntu host: %+v", got)
	}
}

func put(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestParseProxy(t *testing.T) {
	for out, want := range map[string]string{
		"PROXY='http://proxy:3142/'\n": "http://proxy:3142/",
		"":                             "",
		"PROXY='DIRECT'\n":             "",
		"PROXY='http://a\"b/'\n":       "",
	} {
		if got := parseProxy([]byte(out)); got != want {
			t.Errorf("parseProxy(%q) = %q, want %q", out, got, want)
		}
	}
}

func FuzzParseSources(f *testing.F) {
	f.Add([]byte("deb [signed-by=x] http://h/debian bookworm main"))
	f.Add([]byte("Types: deb\nURIs: http://h/debian\nSuites: a\n b\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		bestMirror(append(parseList(b), parseDeb822Sources(b)...), Debian, "debian", "bookworm")
	})
}
