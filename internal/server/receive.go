package server

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"banger.dev/banger"
)

// lingerTimeout is how long a client may take to read why its archive is refused.
const lingerTimeout = 5 * time.Second

// receive has take make something with a name of the request's body, which ends
// with the client and with the server.
func (s *Server) receive(w http.ResponseWriter, r *http.Request, what string, take func(ctx context.Context, name string, archive io.Reader) (any, error)) {
	ctx, cancel := s.untilClosing(r.Context())
	defer cancel()
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex() // or else a refusal waits for the rest of the body
	stop := context.AfterFunc(ctx, func() { _ = control.SetReadDeadline(time.Now()) })
	made, err := take(ctx, r.URL.Query().Get("name"), r.Body)
	stop()
	if err == nil {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(made) // the client is gone
		return
	}
	if s.streams.Err() != nil {
		err = banger.Errorf(banger.KindUnavailable, "the daemon was stopped while it imported the %s, of which nothing is left: %w", what, err).
			WithNext("the same again")
	}
	writeError(w, err)
	_ = control.Flush()
	// A connection that is closed with something unread loses the reply.
	_ = control.SetReadDeadline(time.Now().Add(lingerTimeout))
	_, _ = io.Copy(io.Discard, r.Body)
}
