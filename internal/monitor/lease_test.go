package monitor

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestLeaseRules(t *testing.T) {
	const timeout = time.Minute
	for _, test := range []struct {
		name    string
		timeout time.Duration
		do      func(*leases)
		expired bool
	}{
		{"NobodyComes", timeout, func(l *leases) { l.ready(); time.Sleep(timeout + time.Second) }, true},
		{"NotReadyYet", timeout, func(*leases) { time.Sleep(timeout + time.Second) }, false},
		{"ComesInTime", timeout, func(l *leases) { l.ready(); time.Sleep(timeout - time.Second); l.take(); time.Sleep(timeout) }, false},
		{"ComesBeforeReady", timeout, func(l *leases) { l.take(); l.ready(); time.Sleep(timeout + time.Second) }, false},
		{"OneOfTwoGoes", timeout, func(l *leases) { l.take(); l.take()(); l.ready(); time.Sleep(timeout + time.Second) }, false},
		{"BothGo", timeout, func(l *leases) { first, second := l.take(), l.take(); second(); first() }, true},
		{"GoesBeforeReady", timeout, func(l *leases) { l.take()() }, true},
		{"ReadyAgain", timeout, func(l *leases) { l.ready(); l.take(); l.ready(); time.Sleep(timeout + time.Second) }, false},
		{"NoTimeout", 0, func(l *leases) { l.ready(); l.take()(); time.Sleep(time.Hour) }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				expired := false
				l := newLeases(test.timeout, func() { expired = true })
				test.do(l)
				synctest.Wait()
				if expired != test.expired {
					t.Errorf("expired: %t", expired)
				}
			})
		})
	}
}
