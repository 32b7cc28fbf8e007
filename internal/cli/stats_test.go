package cli

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"banger.dev/banger"
)

func pointer[T any](v T) *T { return &v }

// busy is a VM of which all is known, mute one that says nothing.
func busyAndMute() []banger.Stats {
	return []banger.Stats{
		{
			ID: "1", Name: "busy", State: banger.StateRunning, Time: time.Unix(0, 0), UptimeSeconds: pointer(4000.0), CPUSeconds: pointer(9.0),
			VMMRSSBytes: pointer(300 * banger.MiB), MonitorRSSBytes: pointer(20 * banger.MiB), PIDs: pointer(42),
			MemoryTotalBytes: pointer(banger.GiB), MemoryUsedBytes: pointer(100 * banger.MiB), NetReceivedBytes: pointer(uint64(2048)), NetSentBytes: pointer(uint64(5)),
			Disks: []banger.DiskStats{{Name: "system", WrittenBytes: pointer(uint64(1 << 20)), AllocatedBytes: pointer(3 * banger.MiB)}, {Name: "work", WrittenBytes: pointer(uint64(1 << 20)), AllocatedBytes: pointer(banger.MiB)}},
		},
		{ID: "2", Name: "mute", State: banger.StatePaused},
	}
}

func TestStatsOnce(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.run("vm", "stats", "-o", "json").want(t, 0, "[]\n", "")
	w.stats = busyAndMute()
	w.run("vm", "stats", "busy", "mute").want(t, 0, strings.Join([]string{
		"NAME  STATE    CPU    MEMORY  GUEST          NET IN  NET OUT  WRITTEN  ALLOCATED  PIDS  UPTIME",
		"busy  running  50.0%  320MiB  100MiB / 1GiB  2KiB    5B       2MiB     4MiB       42    1h6m",
		"mute  paused   -      -       -              -       -        -        -          -     -",
		"",
	}, "\n"), "")
	if want := []string{"stats?vm=busy&vm=mute", "stats?vm=busy&vm=mute"}; !slices.Equal(w.asked[len(w.asked)-2:], want) {
		t.Errorf("asked %q", w.asked)
	}
	var all []map[string]any
	if err := json.Unmarshal([]byte(w.run("vm", "stats", "-o", "json").stdout), &all); err != nil || len(all) != 2 || all[0]["cpu_percent"] != 50.0 {
		t.Errorf("%v %v", all, err)
	}
	if v, ok := all[1]["memory_used_bytes"]; !ok || v != nil {
		t.Errorf("what is not known is no null: %v", all[1])
	}
}

// On a terminal the table is drawn again and again, until Ctrl-C.
func TestStatsLive(t *testing.T) {
	w := newWorld(t).withDaemon()
	w.stats = busyAndMute()
	_, tty, shown := openTerminal(t)
	ended := make(chan int)
	go func() { ended <- Run(t.Context(), w.process(strings.NewReader(""), tty, tty), []string{"vm", "stats"}) }()
	shown.times(t, toCorner+"NAME", 2)
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != 130 {
		t.Errorf("code %d", code)
	}
	for line := range strings.Lines(shown.String()) {
		if line = strings.TrimRight(line, "\r\n"); strings.Count(line, "")-1 > 120+len(toCorner+clearLine+clearRest) {
			t.Errorf("longer than the terminal is wide: %q", line)
		}
	}
}
