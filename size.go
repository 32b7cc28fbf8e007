package banger

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is an amount of memory or storage.
type Bytes int64

// The units that a user may write and that String prints.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
	TiB Bytes = 1 << 40
)

var units = []struct {
	suffix string
	factor Bytes
}{
	{"KiB", KiB}, {"MiB", MiB}, {"GiB", GiB}, {"TiB", TiB},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"K", KiB}, {"M", MiB}, {"G", GiB}, {"T", TiB},
	{"k", KiB}, {"m", MiB}, {"g", GiB}, {"t", TiB},
	{"B", 1},
}

// ParseBytes reads a size such as "2GiB", "512M" or "1.5GiB". A unit is
// required: "2" might mean bytes to one reader and gigabytes to another.
func ParseBytes(s string) (Bytes, error) {
	trimmed := strings.TrimSpace(s)
	for _, u := range units {
		number, ok := strings.CutSuffix(trimmed, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) || n < 0 || n*float64(u.factor) >= math.MaxInt64 {
			break
		}
		return Bytes(n * float64(u.factor)), nil
	}
	return 0, Errorf(KindInvalid, "%q is not a size: write a number and a unit, such as 512MiB or 20GiB", s)
}

// String prints b in the largest binary unit that leaves at most one decimal.
func (b Bytes) String() string {
	for i := 3; i >= 0; i-- {
		u := units[i]
		if b < u.factor {
			continue
		}
		if b%u.factor == 0 {
			return fmt.Sprintf("%d%s", b/u.factor, u.suffix)
		}
		return fmt.Sprintf("%.1f%s", float64(b)/float64(u.factor), u.suffix)
	}
	return fmt.Sprintf("%dB", int64(b))
}
