package doctor

import (
	"testing"

	"banger.dev/banger"
)

func TestProbeFindsThisHost(t *testing.T) {
	h, err := Probe()
	if err != nil {
		t.Fatal(err)
	}
	if h.CPUs < 1 || h.Memory < 64*banger.MiB {
		t.Errorf("implausible host: %+v", h)
	}
	if h.Accel() == "kvm" && h.KVM != nil {
		t.Errorf("KVM is chosen though: %v", h.KVM)
	}
}

func TestTSCIsSteady(t *testing.T) {
	first := measureTSC()
	if first == 0 {
		t.Skip("the counter stands still here")
	}
	for range 5 {
		again := measureTSC()
		if diff := float64(again)/float64(first) - 1; diff > 0.005 || diff < -0.005 {
			t.Errorf("measured %d kHz, then %d: the guest refines by 1 %% at most", first, again)
		}
	}
}

func TestKVMWithoutHardwareIsRefused(t *testing.T) {
	if err := kvm(map[string]bool{}); err == nil {
		t.Error("a CPU without vmx and svm is said to run guests")
	}
}
