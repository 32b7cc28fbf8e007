package monitor

import (
	"context"
	"fmt"
	"net"

	"banger.dev/banger/internal/network"
	"banger.dev/banger/internal/network/user"
	"banger.dev/banger/internal/vmm"
)

// newNetwork makes the VM's network, which goes on over the guest's reboots.
func (m *monitor) newNetwork() error {
	nic := m.order.Machine.NIC
	if nic == nil {
		return nil
	}
	mac, err := net.ParseMAC(nic.MAC)
	if err != nil {
		return err
	}
	var settings network.Settings
	if m.order.Network != nil {
		settings = *m.order.Network
	}
	m.network = user.New(user.Config{Plan: network.User(), Settings: settings, MAC: mac, Busy: m.idle, Log: m.log})
	return nil
}

// attach runs the stack for one boot of the guest until detach, which returns
// when every connection of that boot is closed.
func (m *monitor) attach(machine vmm.Machine) (detach func(), err error) {
	if m.network == nil {
		return func() {}, nil
	}
	networker, ok := machine.(vmm.Networker)
	if !ok {
		return nil, fmt.Errorf("the VMM %s does not give us its network", m.order.VMM)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.network.Serve(ctx, networker.Network()); err != nil {
			m.log.Error("the network has ended before the VM", "err", err)
		}
	}()
	return func() {
		cancel()
		<-done
	}, nil
}

func (m *monitor) detachNetwork() {
	m.mu.Lock()
	detach := m.detach
	m.mu.Unlock()
	detach()
}
