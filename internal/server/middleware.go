package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/request"
)

// wrap is what happens around every request: it gets an id, its reply says who
// answers, its body is read within bounds, it is logged, and a panic in its
// handler becomes an error.
func (s *Server) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.begin(r) {
			s.refuse(w)
			return
		}
		defer s.end(r)
		started := time.Now()
		id := request.NewID()
		w.Header().Set(api.HeaderAPI, strconv.Itoa(api.Version))
		w.Header().Set(api.HeaderVersion, s.Version)
		w.Header().Set(api.HeaderRequestID, id)
		rec := &recorder{ResponseWriter: w}
		r = r.WithContext(context.WithValue(request.With(r.Context(), id), recorderKey{}, rec))
		defer func() {
			attrs := []slog.Attr{
				slog.String("method", r.Method), slog.String("path", r.URL.Path),
				slog.Int("status", rec.status), slog.Duration("duration", time.Since(started)),
			}
			if rec.failure != nil {
				attrs = append(attrs, slog.Any("err", rec.failure))
			}
			s.Log.LogAttrs(r.Context(), levelOf(r, rec), "request answered", attrs...)
			s.Metrics.Request(r.Pattern, rec.status, time.Since(started))
		}()
		defer s.recovered(r.Context(), rec)
		if err := readBody(rec, r); err != nil {
			writeError(rec, err)
			return
		}
		next.ServeHTTP(rec, r)
	})
}

// recovered ends a handler that panicked. What had been written before cannot
// be taken back, so the connection is cut then, for the client to notice.
func (s *Server) recovered(ctx context.Context, w *recorder) {
	cause := recover()
	if cause == nil {
		return
	}
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(cause)
	}
	s.Log.ErrorContext(ctx, "request panicked", "panic", cause, "stack", string(debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	writeError(w, banger.Errorf(banger.KindInternal, "the request failed by a defect in banger").WithNext("banger daemon logs"))
}

// readBody reads the whole body, so that handlers, which may take long, are not
// bound by the deadline for it: one that is still set when the body has been
// read would cancel the request's context.
func readBody(w http.ResponseWriter, r *http.Request) error {
	if slices.Contains([]string{api.RouteImageImport, api.RouteImageRegister, api.RouteKernelImport}, r.URL.Path) || r.ContentLength == 0 { // those are streams
		return nil
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout)) // not every connection of a test can
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	_ = control.SetReadDeadline(time.Time{})
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		return banger.Errorf(banger.KindInvalid, "the request's body is longer than %d bytes", long.Limit)
	}
	if err != nil {
		return banger.Errorf(banger.KindInvalid, "read the request's body: %w", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(content))
	return nil
}

// levelOf is how much a request matters to who reads the log.
func levelOf(r *http.Request, w *recorder) slog.Level {
	switch {
	case w.status >= 500:
		return slog.LevelError
	case r.Method == http.MethodGet:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// recorder remembers the status of a reply, 0 before there is one, and the error
// that it tells.
type recorder struct {
	http.ResponseWriter
	status  int
	failure error
}

// recorderKey is where a request's context has its recorder.
type recorderKey struct{}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
