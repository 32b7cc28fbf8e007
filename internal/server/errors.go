package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"syscall"

	"github.com/danielgtaylor/huma/v2"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/request"
)

// replyError is api.ErrorReply as huma wants an error to be.
type replyError struct {
	Reply banger.Error `json:"error"`
}

func (e *replyError) Error() string  { return e.Reply.Message }
func (e *replyError) GetStatus() int { return api.StatusOf(e.Reply.Kind) }

// wireError is err as it travels: the kind and next command of the first
// banger.Error in it, the message of the whole, and the request that failed.
func wireError(request string, err error) *banger.Error {
	kind := banger.KindOf(err)
	if kind == banger.KindInternal && errors.Is(err, context.Canceled) {
		kind = banger.KindCancelled
	}
	e := &banger.Error{Kind: kind, Message: err.Error(), Next: banger.NextOf(err), Request: request}
	if e.Next == "" && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)) {
		e.Next = "banger system df"
	}
	return e
}

// writeError answers a raw handler's request with err.
func writeError(w http.ResponseWriter, err error) {
	if rec, ok := w.(*recorder); ok {
		rec.failure = err
	}
	e := wireError(w.Header().Get(api.HeaderRequestID), err)
	var said bytes.Buffer // for its length: the client may not have to wait for the end of the request
	encoder := json.NewEncoder(&said)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(api.ErrorReply{Error: *e}) // it is made of text
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(said.Len()))
	w.WriteHeader(api.StatusOf(e.Kind))
	_, _ = w.Write(said.Bytes()) // the client is gone
}

// plainError turns what huma itself says of a request into api.ErrorReply.
func plainError(ctx huma.Context, _ string, v any) (any, error) {
	model, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	ctx.SetHeader("Content-Type", "application/json")
	e := banger.Error{Kind: banger.KindInvalid, Message: model.Detail, Request: request.ID(ctx.Context())}
	if model.Status >= 500 {
		e.Kind = banger.KindInternal
	}
	var details []string
	for _, d := range model.Errors {
		if d != nil {
			details = append(details, strings.TrimSpace(d.Location+" "+d.Message))
		}
	}
	if len(details) > 0 {
		e.Message += ": " + strings.Join(details, ", ")
	}
	return api.ErrorReply{Error: e}, nil
}

// plainStatus gives huma's own refusals the one status that KindInvalid has.
func plainStatus(ctx huma.Context, next func(huma.Context)) { next(plainContext{ctx}) }

// inner lets plainContext embed the interface under a name that is not that of
// its method Context.
type inner = huma.Context

type plainContext struct{ inner }

func (c plainContext) SetStatus(status int) {
	switch status {
	case http.StatusNotAcceptable, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		status = api.StatusOf(banger.KindInvalid)
	}
	c.inner.SetStatus(status)
}
