package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/until"
)

// lingerTimeout is how long a client may take to read why its archive is refused.
const lingerTimeout = 5 * time.Second

// receiver makes something with a name of an archive, which ends with ctx.
type receiver func(ctx context.Context, name string, archive io.Reader, report banger.ProgressFunc) (Result, error)

// receive has take make something of the request's body. That is an operation as
// any other, but that it needs its client to the end, who has the answer then.
func (s *Server) receive(w http.ResponseWriter, r *http.Request, kind string, take receiver) {
	client, gone := s.untilClosing(r.Context())
	defer gone()
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex() // or else a refusal waits for the rest of the body
	name := r.URL.Query().Get("name")
	op := s.beginOperation(client, kind, name, false, func(ctx context.Context, report banger.ProgressFunc) (Result, error) {
		defer context.AfterFunc(ctx, func() { _ = control.SetReadDeadline(time.Now()) })()
		return take(ctx, name, until.Done(ctx, &upload{r.Body, ctx, gone}), report)
	})
	defer context.AfterFunc(client, op.Abandon)()
	for range op.Watch(context.WithoutCancel(client)) { // to its end
	}
	made := op.Snapshot()
	if made.Err == nil {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(made.Result.thing()) // the client is gone
		return
	}
	writeError(w, made.Err)
	_ = control.Flush()
	// A connection that is closed with something unread loses the reply.
	_ = control.SetReadDeadline(time.Now().Add(lingerTimeout))
	_, _ = io.Copy(io.Discard, r.Body)
}

// upload is what a client sends in an operation that has this context. If it does
// not send all of it, it is gone, and the operation cancelled.
type upload struct {
	r    io.Reader
	ctx  context.Context
	gone func()
}

func (u *upload) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		u.gone()
		<-u.ctx.Done()
	}
	return n, err
}
