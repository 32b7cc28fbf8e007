package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"banger.dev/banger"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/proc"
)

// VMs gives what is known of the VMs, at once.
type VMs interface {
	Samples(ctx context.Context) ([]lifecycle.Sample, error)
}

// scrapeTimeout bounds the reading of the rows.
const scrapeTimeout = 2 * time.Second

// collector shows the VMs as they are at each scrape.
type collector struct{ vms VMs }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("banger_"+name, help, labels, nil)
}

// vmDescs are the metrics of the VMs.
type vmDescs struct {
	states, up, cpu, rss, monitorRSS, boot, ready, reboots, allocated, received, sent *prometheus.Desc
}

func describe() vmDescs {
	return vmDescs{
		states:     desc("vms", "VMs by state.", "state"),
		up:         desc("vm_up", "1 if the VM is alive, else 0.", "name", "id"),
		cpu:        desc("vm_vmm_cpu_seconds_total", "CPU time of the VM's VMM since it was started.", "name", "id"),
		rss:        desc("vm_vmm_resident_bytes", "Resident memory of the VM's VMM.", "name", "id"),
		monitorRSS: desc("vm_monitor_resident_bytes", "Resident memory of the VM's monitor.", "name", "id"),
		boot:       desc("vm_boot_phase_begin_seconds", "When each phase of the VM's last boot began, since its VMM was started.", "name", "id", "phase"),
		ready:      desc("vm_guest_ready", "1 if the guest's agent has answered since the last boot, else 0.", "name", "id"),
		allocated:  desc("vm_disk_allocated_bytes", "What a disk of the VM takes on the host's.", "name", "id", "disk"),
		received:   desc("vm_network_received_bytes_total", "What the guest received since the VM was started; up to 10 s old.", "name", "id"),
		sent:       desc("vm_network_sent_bytes_total", "What the guest sent since the VM was started; up to 10 s old.", "name", "id"),
		reboots:    desc("vm_reboots_total", "How often the guest rebooted since the VM was started.", "name", "id"),
	}
}

// Describe is prometheus.Collector's.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	d := describe()
	for _, each := range []*prometheus.Desc{d.states, d.up, d.cpu, d.rss, d.monitorRSS, d.boot, d.ready, d.reboots, d.allocated, d.received, d.sent} {
		to <- each
	}
}

// Collect is prometheus.Collector's.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	d := describe()
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	samples, err := c.vms.Samples(ctx)
	if err != nil {
		to <- prometheus.NewInvalidMetric(d.states, err)
		return
	}
	states := map[banger.State]int{
		banger.StateCreating: 0, banger.StateRunning: 0, banger.StatePaused: 0, banger.StateStopped: 0, banger.StateBroken: 0,
	}
	for _, s := range samples {
		states[s.VM.State]++
		d.collect(to, s)
	}
	for state, n := range states {
		to <- gauge(d.states, float64(n), string(state))
	}
}

func (d vmDescs) collect(to chan<- prometheus.Metric, s lifecycle.Sample) {
	name, id := s.VM.Name, s.VM.ID
	alive := s.VM.State == banger.StateRunning || s.VM.State == banger.StatePaused
	to <- gauge(d.up, truth(alive), name, id)
	for _, disk := range s.Disks {
		if disk.AllocatedBytes != nil {
			to <- gauge(d.allocated, float64(*disk.AllocatedBytes), name, id, disk.Name)
		}
	}
	if s.Status == nil {
		return
	}
	if n := s.Status.Network; n != nil {
		to <- counter(d.received, n.ToGuestBytes, name, id)
		to <- counter(d.sent, n.FromGuestBytes, name, id)
	}
	to <- gauge(d.ready, truth(s.Status.Ready), name, id)
	to <- prometheus.MustNewConstMetric(d.reboots, prometheus.CounterValue, float64(max(0, s.Status.Boots-1)), name, id)
	for _, p := range s.Status.Phases {
		to <- gauge(d.boot, float64(p.BeginMS)/1000, name, id, p.Name)
	}
	// A process that has just ended has nothing to show.
	if u, err := proc.UsageOf(s.Status.VMM.PID); err == nil && proc.Alive(s.Status.VMM.PID, s.Status.VMM.Start) {
		to <- prometheus.MustNewConstMetric(d.cpu, prometheus.CounterValue, u.CPU.Seconds(), name, id)
		to <- gauge(d.rss, float64(u.RSS), name, id)
	}
	if u, err := proc.UsageOf(s.Status.MonitorPID); err == nil {
		to <- gauge(d.monitorRSS, float64(u.RSS), name, id)
	}
}

func gauge(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func counter(d *prometheus.Desc, n uint64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
