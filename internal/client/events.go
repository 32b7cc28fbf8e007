package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

// EventStream is events as the daemon tells them. It is for one goroutine.
type EventStream struct {
	After   int64 // the id of the last event that came, at first the one behind which the stream begins
	client  *Client
	ctx     context.Context
	reply   *http.Response
	decoder *json.Decoder
}

// Events begins a stream of what has happened after an id; -1 is from now, or
// with filter.Since, from then. Without follow it ends with what is there.
func (c *Client) Events(ctx context.Context, after int64, filter banger.EventFilter, follow bool) (*EventStream, error) {
	query := url.Values{}
	if after >= 0 {
		query.Set("after", strconv.FormatInt(after, 10))
	}
	if !filter.Since.IsZero() {
		query.Set("since", filter.Since.UTC().Format(time.RFC3339Nano))
	}
	if filter.VM != "" {
		query.Set("vm", filter.VM)
	}
	for _, t := range filter.Types {
		query.Add("type", string(t))
	}
	if follow {
		query.Set("follow", "true")
	}
	reply, err := c.send(ctx, request{method: http.MethodGet, path: api.RouteEvents, query: query})
	if err != nil {
		return nil, err
	}
	s := &EventStream{client: c, ctx: ctx, reply: reply, decoder: json.NewDecoder(reply.Body)}
	if s.After, err = strconv.ParseInt(reply.Header.Get(api.HeaderLastEvent), 10, 64); err != nil {
		reply.Body.Close()
		return nil, banger.Errorf(banger.KindInternal, "the daemon does not say where its events begin")
	}
	return s, nil
}

// Next is the next event. The stream's end is io.EOF; one that is cut off is
// KindUnavailable, and can be taken up again behind After.
func (s *EventStream) Next() (banger.Event, error) {
	var e banger.Event
	if err := s.decoder.Decode(&e); err != nil {
		if err == io.EOF && s.ctx.Err() == nil { // and not one that was cut off
			return e, err
		}
		return e, s.client.unanswered(s.ctx, err)
	}
	s.After = e.ID
	return e, nil
}

// Close gives the stream up.
func (s *EventStream) Close() { s.reply.Body.Close() }
