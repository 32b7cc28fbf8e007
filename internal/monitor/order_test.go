package monitor

import "testing"

// A life of a VM, in the order in which its monitor tells it.
func TestBefore(t *testing.T) {
	life := []Status{
		{Boots: 1}, {Boots: 1, Ready: true},
		{Boots: 1, Ready: true, Pauses: 1, Paused: true}, {Boots: 1, Ready: true, Pauses: 1},
		{Boots: 1, Ready: true, Pauses: 2, Paused: true}, {Boots: 1, Ready: true, Pauses: 2},
		{Boots: 2, Pauses: 2}, {Boots: 2, Pauses: 3, Paused: true}, {Boots: 2, Pauses: 3}, {Boots: 2, Ready: true, Pauses: 3},
	}
	for i, s := range life {
		for j, u := range life {
			if s.Before(u) != (i < j) {
				t.Errorf("%+v before %+v: %v", s, u, s.Before(u))
			}
		}
	}
}
