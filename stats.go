package banger

import "time"

// Stats is what a VM takes at one moment. What is not known is null: the VM is
// not alive, its guest does not answer in time, or it was started by an older
// banger. Its JSON form is stable and only grows.
type Stats struct {
	ID    string    `json:"id"`
	Name  string    `json:"name"`
	State State     `json:"state"`
	Time  time.Time `json:"time"` // of the sample

	UptimeSeconds   *float64 `json:"uptime_seconds"`
	CPUSeconds      *float64 `json:"cpu_seconds"` // of the VMM since it was started
	CPUPercent      *float64 `json:"cpu_percent"` // of one CPU, between two samples: see Since
	VMMRSSBytes     *Bytes   `json:"vmm_rss_bytes"`
	MonitorRSSBytes *Bytes   `json:"monitor_rss_bytes"`

	// As the guest says itself; used is what is not available.
	MemoryTotalBytes     *Bytes `json:"memory_total_bytes"`
	MemoryUsedBytes      *Bytes `json:"memory_used_bytes"`
	MemoryAvailableBytes *Bytes `json:"memory_available_bytes"`
	PIDs                 *int   `json:"pids"`

	NetReceivedBytes *uint64 `json:"net_received_bytes"` // by the guest; null without a network
	NetSentBytes     *uint64 `json:"net_sent_bytes"`

	Disks []DiskStats `json:"disks"`
}

// DiskStats is what one disk of a VM takes.
type DiskStats struct {
	Name           string  `json:"name"`            // system or work
	ReadBytes      *uint64 `json:"read_bytes"`      // by the guest, since the VMM was started
	WrittenBytes   *uint64 `json:"written_bytes"`   // by the guest, since the VMM was started
	AllocatedBytes *Bytes  `json:"allocated_bytes"` // of the host's disk
}

// Since fills in what takes two samples of one run of the VMM.
func (s *Stats) Since(before Stats) {
	if s.ID != before.ID || s.CPUSeconds == nil || before.CPUSeconds == nil {
		return
	}
	used, passed := *s.CPUSeconds-*before.CPUSeconds, s.Time.Sub(before.Time).Seconds()
	if used < 0 || passed <= 0 {
		return
	}
	percent := used / passed * 100
	s.CPUPercent = &percent
}
