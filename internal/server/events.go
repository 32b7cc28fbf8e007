package server

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

// events writes what has happened, and what happens until the client is gone.
// The first thing said is where the stream begins, so that a client that is cut
// off before the first event can go on from there too.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := s.untilClosing(r.Context())
	defer cancel()
	newest, pruned, err := s.Events.Bounds(ctx)
	if err != nil {
		writeError(w, err)
		return
	}
	query := r.URL.Query()
	filter, follow, err := eventFilter(query)
	if err != nil {
		writeError(w, err)
		return
	}
	after, err := beginAfter(query, newest, pruned)
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set(api.HeaderLastEvent, strconv.FormatInt(after, 10))
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	if control.Flush() != nil {
		return
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	err = s.Events.Follow(ctx, after, filter, follow, func(e banger.Event) error {
		if err := encoder.Encode(e); err != nil {
			return err
		}
		return control.Flush()
	})
	if err != nil {
		if ctx.Err() == nil {
			s.Log.WarnContext(ctx, "stream of events cut off", "error", err)
		}
		panic(http.ErrAbortHandler) // so that the client sees that there was more
	}
}

func eventFilter(q url.Values) (banger.EventFilter, bool, error) {
	filter := banger.EventFilter{VM: q.Get("vm")}
	for _, t := range q["type"] {
		filter.Types = append(filter.Types, banger.EventType(t))
	}
	var err error
	if filter.Since, err = moment(q, "since"); err != nil {
		return filter, false, err
	}
	follow, err := yes(q, "follow")
	return filter, follow, err
}

// beginAfter is the id behind which a client wants the events. Without a word
// of it that is the newest, or, with since, the oldest there is. An id that is
// pruned, or was never given, is refused: what followed it cannot be told.
func beginAfter(q url.Values, newest, pruned int64) (int64, error) {
	text := q.Get("after")
	switch {
	case text == "" && q.Get("since") != "":
		return pruned, nil
	case text == "":
		return newest, nil
	}
	after, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil || after < 0:
		return 0, banger.Errorf(banger.KindInvalid, "--after %q: must be the id of an event", text)
	case after > newest:
		return 0, banger.Errorf(banger.KindInvalid, "--after %d: there has been no such event, the newest is %d", after, newest).
			WithNext("banger events --after %d", newest)
	case after < pruned:
		return 0, banger.Errorf(banger.KindNotFound, "the events from %d to %d are forgotten, so those after %d cannot be told without a gap", after+1, pruned, after).
			WithNext("banger events --after %d", pruned)
	}
	return after, nil
}
