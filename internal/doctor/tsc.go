package doctor

import (
	"time"

	"golang.org/x/sys/unix"
)

// rdtsc reads the CPU's time stamp counter; in tsc_amd64.s.
func rdtsc() uint64

// tscSpan is how long the counter is watched: reading the clock takes well
// under a microsecond, so the result is good to some 1e-4. The guest's kernel
// refines what it is told by up to 1 %.
const tscSpan = 10 * time.Millisecond

// measureTSC is the counter's frequency in kHz. An emulated guest sees the
// host's own counter and cannot calibrate it on a busy host.
func measureTSC() uint64 {
	t0, c0 := tscNow()
	time.Sleep(tscSpan)
	t1, c1 := tscNow()
	if t1 <= t0 || c1 <= c0 {
		return 0
	}
	return uint64(float64(c1-c0) * 1e6 / float64(t1-t0))
}

// tscNow pairs the clock (ns) with the counter, taking the closest of a few
// readings so that an interrupt in between does no harm.
func tscNow() (ns int64, tsc uint64) {
	const tries = 8
	best := uint64(1 << 63)
	for range tries {
		var ts unix.Timespec
		before := rdtsc()
		if unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &ts) != nil {
			return 0, 0
		}
		after := rdtsc()
		if after-before < best {
			best, ns, tsc = after-before, ts.Nano(), before+(after-before)/2
		}
	}
	return ns, tsc
}
