package monitor

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"banger.dev/banger/internal/vmm"
)

// stuck is a driver whose VMM never comes up.
type stuck struct{}

func (stuck) Features() vmm.Features { return vmm.Features{} }

func (stuck) Start(ctx context.Context, _ vmm.Config) (vmm.Machine, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A VMM that does not come up when the guest reboots, while no daemon waits for
// it, is given up.
func TestVMMThatDoesNotComeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &monitor{driver: stuck{}}
		if _, err := m.startVMM(t.Context(), vmm.Config{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}
