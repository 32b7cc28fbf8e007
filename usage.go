package banger

// What takes space on disk beside the entries of the cache.
const (
	UsageVM       = "vm"
	UsageTemp     = "temp"     // half-made, and its maker is dead
	UsageDatabase = "database" // and its journal
	UsageOther    = "other"    // logs, locks, links, directories
)

// DiskUsage is what a home and its cache take on disk: what du counts, each
// block once. Its JSON form is stable and only grows.
type DiskUsage struct {
	Total       Bytes       `json:"total_bytes"`
	Reclaimable Bytes       `json:"reclaimable_bytes"` // by prune --all
	Entries     []DiskEntry `json:"entries"`
}

// DiskEntry is one thing that takes space on disk.
type DiskEntry struct {
	Kind        string           `json:"kind"` // a CacheKind, or one of the above
	Name        string           `json:"name"`
	Path        string           `json:"path"`
	Bytes       Bytes            `json:"bytes"`
	Reclaimable Bytes            `json:"reclaimable_bytes"` // all of it or nothing
	NeededBy    int              `json:"needed_by"`         // VMs, of any home that shares the cache
	Parts       map[string]Bytes `json:"parts,omitempty"`   // of a VM: system, work, logs, other
}

// Pruned is what a prune has removed, or would.
type Pruned struct {
	Entries []PrunedEntry `json:"entries"`
	Freed   Bytes         `json:"freed_bytes"`
}

// PrunedEntry is one thing that nothing needs.
type PrunedEntry struct {
	DiskEntry
	Removed bool   `json:"removed"`
	Error   string `json:"error,omitempty"` // why it is still there
}
