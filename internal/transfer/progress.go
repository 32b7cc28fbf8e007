package transfer

import (
	"io"
	"time"

	"banger.dev/banger"
)

// reportEvery is how often progress is told.
const reportEvery = 100 * time.Millisecond

// counter tells how much has gone by.
type counter struct {
	report banger.ProgressFunc
	done   int64
	total  int64 // 0 while unknown
	last   time.Time
}

func (c Copy) count(total int64) *counter { return &counter{report: c.Progress, total: total} }

func (c *counter) add(n int) {
	if n == 0 {
		return
	}
	c.done += int64(n)
	if now := time.Now(); now.Sub(c.last) >= reportEvery {
		c.last = now
		r := banger.Progress{Stage: "copy", Done: c.done, Total: c.total, Bytes: true}
		if c.total == 0 {
			r.Message = banger.Bytes(c.done).String()
		}
		c.report.Report(r)
	}
}

type counted struct {
	w       io.Writer
	counter *counter
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.counter.add(n)
	return n, err
}

type countedReader struct {
	r       io.Reader
	counter *counter
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.counter.add(n)
	return n, err
}
