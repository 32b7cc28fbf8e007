package credit

import (
	"math"
	"testing"
)

func TestWhatIsLeftMayBeSent(t *testing.T) {
	c := New(10, 20)
	if got := c.Wait(100); got != 10 {
		t.Errorf("%d of 10", got)
	}
	c.Spend(8)
	if got := c.Wait(1); got != 1 {
		t.Errorf("%d of 1 that was wanted", got)
	}
	c.Add(3)
	if got := c.Wait(100); got != 5 {
		t.Errorf("%d after 3 more", got)
	}
}

// The other side may be hostile.
func TestItNeverGrowsBeyondItsMost(t *testing.T) {
	c := New(10, 20)
	c.Add(math.MaxInt)
	if got := c.Wait(100); got != 20 {
		t.Errorf("%d of at most 20", got)
	}
	u := Unbounded()
	u.Spend(7)
	u.Add(math.MaxUint32)
	if got := u.Wait(100); got != 100 {
		t.Errorf("%d of 100 without bounds", got)
	}
}

func TestWhoWaitsIsWoken(t *testing.T) {
	c, got := New(0, 20), make(chan int)
	wait := func() { got <- c.Wait(100) }
	go wait()
	c.Add(3)
	if n := <-got; n != 3 {
		t.Errorf("%d after 3 more", n)
	}
	c.Spend(3)
	go wait()
	c.End()
	if n := <-got; n != 0 {
		t.Errorf("%d after the end", n)
	}
	c.Add(3)
	if n := c.Wait(100); n != 0 {
		t.Errorf("%d long after the end", n)
	}
}
