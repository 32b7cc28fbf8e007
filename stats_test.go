package banger_test

import (
	"testing"
	"time"

	"banger.dev/banger"
)

func TestCPUPercentOfTwoSamples(t *testing.T) {
	at := func(second int, cpu float64) banger.Stats {
		return banger.Stats{ID: "1", Time: time.Unix(int64(second), 0), CPUSeconds: &cpu}
	}
	after := at(4, 11)
	if after.Since(at(2, 10)); after.CPUPercent == nil || *after.CPUPercent != 50 {
		t.Errorf("%v", after.CPUPercent)
	}
	other := at(1, 1)
	other.ID = "2"
	for _, before := range []banger.Stats{at(4, 10), at(2, 12), other, {ID: "1"}} { // no time, another run, another VM, nothing known
		after := at(4, 11)
		if after.Since(before); after.CPUPercent != nil {
			t.Errorf("%v since %+v", *after.CPUPercent, before)
		}
	}
}
