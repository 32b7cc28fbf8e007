package metrics_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"banger.dev/banger"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/metrics"
	"banger.dev/banger/internal/monitor"
	"banger.dev/banger/internal/network"
	"banger.dev/banger/internal/proc"
	"banger.dev/banger/internal/vmm"
)

type vms struct {
	list []lifecycle.Sample
	err  error
}

func (v *vms) Samples(context.Context) ([]lifecycle.Sample, error) { return v.list, v.err }

// scrape gives every sample by its name and labels.
func scrape(t *testing.T, m *metrics.Metrics) map[string]float64 {
	t.Helper()
	reply := httptest.NewRecorder()
	m.ServeHTTP(reply, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(reply.Body)
	if err != nil || reply.Code != 200 {
		t.Fatalf("%d %v", reply.Code, err)
	}
	values := map[string]float64{}
	for name, family := range families {
		for _, each := range family.GetMetric() {
			key := name
			for _, label := range each.GetLabel() {
				key += " " + label.GetValue()
			}
			values[key] = each.GetGauge().GetValue() + each.GetCounter().GetValue() + float64(each.GetHistogram().GetSampleCount())
		}
	}
	return values
}

func TestScrape(t *testing.T) {
	pid := os.Getpid()
	start, err := proc.StartTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	phases := []banger.BootPhase{{Name: "kernel"}, {Name: "root", BeginMS: 700}, {Name: "ready", BeginMS: 1500}}
	allocated := banger.MiB
	world := &vms{list: []lifecycle.Sample{
		{VM: banger.VM{ID: "1", Name: "up", State: banger.StateRunning}, Status: &monitor.Status{
			MonitorPID: pid, VMM: vmm.Handle{PID: pid, Start: start}, Ready: true, Boots: 3, Phases: phases,
			Network: &network.Stats{ToGuestBytes: 7, FromGuestBytes: 5},
		}, Disks: []banger.DiskStats{{Name: "system", AllocatedBytes: &allocated}, {Name: "work"}}},
		{VM: banger.VM{ID: "2", Name: "down", State: banger.StateStopped}},
		{VM: banger.VM{ID: "3", Name: "mute", State: banger.StateRunning}},
	}}
	m := metrics.New("v9", time.Now(), world)
	m.Request("GET /ping", 200, time.Millisecond)
	m.Operation("create")("failed")
	m.Operation("start")
	m.Booted(phases)
	got := scrape(t, m)
	for key, want := range map[string]float64{
		"banger_build_info v9":                            1,
		"banger_requests_total 200 GET /ping":             1,
		"banger_request_duration_seconds GET /ping":       1,
		"banger_operation_duration_seconds create failed": 1,
		"banger_operations_running start":                 1,
		"banger_operations_running create":                0,
		"banger_boot_phase_duration_seconds total":        1,
		"banger_boot_phase_duration_seconds kernel":       1,
		"banger_vms running":                              2,
		"banger_vms stopped":                              1,
		"banger_vms broken":                               0,
		"banger_vm_up 1 up":                               1,
		"banger_vm_up 2 down":                             0,
		"banger_vm_guest_ready 1 up":                      1,
		"banger_vm_reboots_total 1 up":                    2,
		"banger_vm_disk_allocated_bytes system 1 up":      1 << 20,
		"banger_vm_network_received_bytes_total 1 up":     7,
		"banger_vm_network_sent_bytes_total 1 up":         5,
		"banger_vm_boot_phase_begin_seconds 1 up ready":   1.5,
	} {
		if value, ok := got[key]; !ok || value != want {
			t.Errorf("%s: %v (%v), want %v", key, value, ok, want)
		}
	}
	if got["banger_vm_vmm_resident_bytes 1 up"] < 1<<20 || got["banger_vm_monitor_resident_bytes 1 up"] < 1<<20 {
		t.Error("no memory of a VM's processes")
	}
}

// What cannot be read costs its own metrics and no others.
func TestUnreadableRows(t *testing.T) {
	m := metrics.New("v9", time.Now(), &vms{err: errors.New("the database is gone")})
	if got := scrape(t, m); got["banger_build_info v9"] != 1 {
		t.Errorf("%v", got)
	}
}
