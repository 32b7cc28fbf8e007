package banger

// CacheKind says what an entry of the cache is. The words are stable; more may come.
type CacheKind string

// The kinds of entries.
const (
	CacheImage    CacheKind = "image"
	CacheKernel   CacheKind = "kernel"
	CacheLayer    CacheKind = "layer"    // of a registry's images, for the next pull that has it
	CacheTemplate CacheKind = "template" // an empty file system that work disks are laid over
	CachePackages CacheKind = "packages" // that kernels were made of
	CacheLists    CacheKind = "lists"    // of the packages that there are
)

// CacheEntry is something in the cache that can be fetched or made again.
type CacheEntry struct {
	Kind    CacheKind
	Name    string // for people
	Digest  string // of an image or a kernel
	Path    string
	Holders int  // VMs of any home that cannot start without it
	Current bool // what the next VM is made of, or what a user has given a name
}
