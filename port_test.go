package banger_test

import (
	"strings"
	"testing"

	"banger.dev/banger"
)

func TestParsePorts(t *testing.T) {
	for s, want := range map[string]string{
		"8080:80":                  "127.0.0.1:8080:80",
		"80":                       "127.0.0.1:0:80",
		"53:5353/udp":              "127.0.0.1:53:5353/udp",
		"8080:80/tcp":              "127.0.0.1:8080:80",
		"0.0.0.0:8080:80":          "0.0.0.0:8080:80",
		"127.0.0.1::80":            "127.0.0.1:0:80",
		"[::1]:8080:80":            "[::1]:8080:80",
		"[0:0::1]:8080:80":         "[::1]:8080:80",
		"8000-8002:80-82":          "127.0.0.1:8000:80 127.0.0.1:8001:81 127.0.0.1:8002:82",
		"[::]:1-2:65534-65535/udp": "[::]:1:65534/udp [::]:2:65535/udp",
	} {
		ports, err := banger.ParsePorts(s)
		var got []string
		for _, p := range ports {
			got = append(got, p.String())
		}
		if strings.Join(got, " ") != want || err != nil {
			t.Errorf("%s is %v (%v), want %s", s, got, err, want)
		}
		if err := banger.ValidatePorts(ports); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{
		"", ":", "::", "0", "0:80", "80:0", "65536", "8080:80:", "8080:80/sctp", "8080:80/", "a:80", "-1:80", "+1:80",
		"localhost:8080:80", "::1:8080:80", "[::1:8080:80", "[127.0.0.1]:8080:80", "[fe80::1%eth0]:1:1", "[::ffff:1.2.3.4]:1:1",
		"8000-8001:80", "82-80:82-80", "1-300:1-300", "8080:80/udp/tcp", "1.2.3:8080:80",
	} {
		_, err := banger.ParsePorts(s)
		if banger.KindOf(err) != banger.KindInvalid || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestParsePublished(t *testing.T) {
	published := banger.Port{HostIP: "127.0.0.1", HostPort: 8080, GuestPort: 80, Protocol: banger.ProtocolTCP}
	for s, want := range map[string]bool{
		"8080": true, "8080/tcp": true, "8080:80": true, "127.0.0.1:8080:80": true,
		"80": false, "8080/udp": false, "8080:81": false, "[::1]:8080:80": false,
	} {
		q, err := banger.ParsePublished(s)
		if err != nil || len(q) != 1 || published.Matches(q[0]) != want {
			t.Errorf("%s matches %s: %v (%v), want %v", published, s, !want, err, want)
		}
	}
}

func TestOverlaps(t *testing.T) {
	for pair, want := range map[[2]string]bool{
		{"1:80", "1:81"}:              true,
		{"1:80", "0.0.0.0:1:80"}:      true,
		{"1:80", "127.0.0.2:1:80"}:    false,
		{"1:80", "1:80/udp"}:          false,
		{"0.0.0.0:1:80", "[::]:1:80"}: false,
		{"[::]:1:80", "[::1]:1:80"}:   true,
		{"80", "80"}:                  false,
	} {
		a, err1 := banger.ParsePorts(pair[0])
		b, err2 := banger.ParsePorts(pair[1])
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if a[0].Overlaps(b[0]) != want || b[0].Overlaps(a[0]) != want {
			t.Errorf("%v overlap: %v, want %v", pair, !want, want)
		}
		if err := banger.ValidatePorts(append(a, b...)); (err != nil) != want {
			t.Errorf("%v together: %v", pair, err)
		}
	}
}

// FuzzParsePorts: whatever is read is valid, and is read again as the same.
func FuzzParsePorts(f *testing.F) {
	for _, s := range []string{"8080:80", "127.0.0.1::80/udp", "[::1]:1-3:4-6", "0.0.0.0:1:1/tcp", "[::ffff:1.2.3.4]:1:1", "1:2:3:4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, _ = banger.ParsePublished(s)
		ports, err := banger.ParsePorts(s)
		if err != nil {
			return
		}
		if err := banger.ValidatePorts(ports); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		for _, p := range ports {
			if p.HostPort == 0 {
				continue
			}
			if again, err := banger.ParsePorts(p.String()); err != nil || len(again) != 1 || again[0] != p {
				t.Fatalf("%q: %s is read as %v (%v)", s, p, again, err)
			}
		}
	})
}
