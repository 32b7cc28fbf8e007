package monitor

import (
	"context"
	"net/http"
	"time"
)

// clockReply is what a guest's clock is, or was before it was set.
type clockReply struct {
	Drift time.Duration `json:"drift_ns"` // how far it is ahead of the host's
}

// drift asks the guest for its time and takes half of the round trip off.
func (m *monitor) drift(ctx context.Context) (time.Duration, error) {
	sent := time.Now()
	now, err := m.control(m.currentChannel()).Clock(ctx)
	if err != nil {
		return 0, err
	}
	return now.Sub(sent.Add(time.Since(sent) / 2).Round(0)), nil
}

func (s *server) getClock(w http.ResponseWriter, r *http.Request) {
	drift, err := s.m.drift(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	reply(w, clockReply{drift})
}

// postClock sets the clock also where an old agent cannot say what it was.
func (s *server) postClock(w http.ResponseWriter, r *http.Request) {
	drift, err := s.m.drift(r.Context())
	if err != nil {
		s.m.log.Info("the agent does not say what time it is", "err", err)
	}
	if err := s.m.control(s.m.currentChannel()).SetClock(r.Context(), time.Now()); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	reply(w, clockReply{drift})
}

// Clock is how far the guest's clock is ahead of the host's.
func (c *Client) Clock(ctx context.Context) (drift time.Duration, err error) {
	var r clockReply
	err = c.call(ctx, http.MethodGet, routeClock, &r)
	return r.Drift, err
}

// SetClock sets the guest's clock to the host's, and says how far ahead it was:
// 0 where the agent cannot say.
func (c *Client) SetClock(ctx context.Context) (drift time.Duration, err error) {
	var r clockReply
	err = c.call(ctx, http.MethodPost, routeClock, &r)
	return r.Drift, err
}
