package monitor

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/vmm"
)

// routeGrow: POST ?disk=&bytes= → growReply. The disk is a place in the order's
// Disks, and the guest's root file system is to fill it.
const routeGrow = "/grow"

// growReply says how far it got.
type growReply struct {
	Behind string `json:"behind,omitempty"` // why the guest's file system is not as large yet
}

// guestGrowTimeout is how long a guest may take to fill its disk.
const guestGrowTimeout = 20 * time.Second

func (s *server) postGrow(w http.ResponseWriter, r *http.Request) {
	disk, err := strconv.Atoi(r.FormValue("disk"))
	bytes, wrong := strconv.ParseInt(r.FormValue("bytes"), 10, 64)
	if err != nil || wrong != nil || bytes <= 0 {
		http.Error(w, fmt.Sprintf("disk=%q, bytes=%q: not a disk and its size", r.FormValue("disk"), r.FormValue("bytes")), http.StatusBadRequest)
		return
	}
	err = vmm.ErrUnsupported
	if g, ok := s.m.currentMachine().(vmm.Grower); ok {
		err = g.Grow(r.Context(), disk, banger.Bytes(bytes))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	reply(w, growReply{Behind: s.m.growGuest(r.Context(), uint64(bytes))})
}

// growGuest says why the guest's file system did not grow; "" if it did.
func (m *monitor) growGuest(ctx context.Context, bytes uint64) (behind string) {
	if m.status().Paused {
		return "it is paused"
	}
	ctx, cancel := context.WithTimeout(ctx, guestGrowTimeout)
	defer cancel()
	if err := m.control(m.currentChannel()).Grow(ctx, bytes); err != nil {
		return err.Error()
	}
	return ""
}

// Grow makes a disk of the VM larger, and the guest's root file system with it.
// behind says why that is to come yet, at the next boot.
func (c *Client) Grow(ctx context.Context, disk int, size banger.Bytes) (behind string, err error) {
	var r growReply
	err = c.call(ctx, http.MethodPost, fmt.Sprintf("%s?disk=%d&bytes=%d", routeGrow, disk, int64(size)), &r)
	return r.Behind, err
}
