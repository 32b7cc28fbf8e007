// Package credit counts what may be sent before the other side takes more.
package credit

import (
	"math"
	"sync"
)

// Credit is how many bytes may be sent. All methods may be called from any
// goroutine.
type Credit struct {
	mu      sync.Mutex
	changed sync.Cond
	left    int
	most    int
	ended   bool
}

// New is a credit of left bytes that never grows beyond most, whatever the other
// side says.
func New(left, most int) *Credit {
	c := &Credit{left: left, most: most}
	c.changed.L = &c.mu
	return c
}

// Unbounded is for another side that does not count.
func Unbounded() *Credit { return New(math.MaxInt, math.MaxInt) }

// Add lets n more bytes be sent.
func (c *Credit) Add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left += min(n, c.most-c.left)
	c.changed.Broadcast()
}

// Spend counts n bytes, no more than Wait has said.
func (c *Credit) Spend(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left -= n
}

// Wait returns how many of want bytes may be sent as soon as any may, and 0 after
// End.
func (c *Credit) Wait(want int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.left == 0 && !c.ended {
		c.changed.Wait()
	}
	if c.ended {
		return 0
	}
	return min(want, c.left)
}

// End has whoever waits give up.
func (c *Credit) End() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.changed.Broadcast()
}
