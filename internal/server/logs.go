package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/lifecycle"
	"banger.dev/banger/internal/tail"
)

// logs writes a log of a VM. One that cannot be written to its end, or whose
// follower we leave, is cut off, so that the client sees that there was more.
func (s *Server) logs(w http.ResponseWriter, r *http.Request) {
	opts, err := consoleOptions(r.URL.Query())
	if err != nil {
		writeError(w, err)
		return
	}
	ctx, cancel := s.untilClosing(r.Context())
	defer cancel()
	console, err := s.VMs.Console(ctx, r.PathValue("ref"), opts)
	if err != nil {
		writeError(w, err)
		return
	}
	defer console.Close()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set(api.HeaderVM, console.VM)
	if opts.Places {
		w.Header().Set(api.HeaderPlaces, placesWord(console.Lost))
		w.Header().Set(api.HeaderPlace, console.Begin.String())
	}
	w.WriteHeader(http.StatusOK)
	if err := copyFlushed(w, console); err != nil {
		if ctx.Err() == nil {
			s.Log.WarnContext(ctx, "console cut off", "ref", r.PathValue("ref"), "error", err)
		}
		panic(http.ErrAbortHandler)
	}
}

func placesWord(lost bool) string {
	if lost {
		return api.PlacesLost
	}
	return api.PlacesKept
}

// copyFlushed copies what comes as it comes.
func copyFlushed(w http.ResponseWriter, from io.Reader) error {
	control := http.NewResponseController(w)
	if err := control.Flush(); err != nil {
		return err
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			if err := control.Flush(); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// untilClosing is ctx, which ends also when the server shuts down.
func (s *Server) untilClosing(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.streams, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

func consoleOptions(q url.Values) (lifecycle.ConsoleOptions, error) {
	opts := lifecycle.ConsoleOptions{Tail: -1, Source: lifecycle.Source(q.Get("source"))}
	var err error
	if opts.Places, err = yes(q, "places"); err != nil {
		return opts, err
	}
	if opts.After, err = tail.ParsePlace(q.Get("after")); err != nil {
		return opts, banger.Errorf(banger.KindInvalid, "after: %w", err)
	}
	if opts.Follow, err = yes(q, "follow"); err != nil {
		return opts, err
	}
	if opts.Since, err = moment(q, "since"); err != nil {
		return opts, err
	}
	if text := q.Get("tail"); text != "" {
		if opts.Tail, err = strconv.Atoi(text); err != nil || opts.Tail < 0 {
			return opts, banger.Errorf(banger.KindInvalid, "--tail %q: must be a number of lines", text)
		}
	}
	return opts, nil
}

func yes(q url.Values, name string) (bool, error) {
	text := q.Get(name)
	if text == "" {
		return false, nil
	}
	value, err := strconv.ParseBool(text)
	if err != nil {
		return false, banger.Errorf(banger.KindInvalid, "%s=%q: must be true or false", name, text)
	}
	return value, nil
}

func moment(q url.Values, name string) (time.Time, error) {
	text := q.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return at, banger.Errorf(banger.KindInvalid, "--%s %q: must be a time as in RFC 3339", name, text)
	}
	return at, nil
}

// setClock sets a guest's clock.
func (s *Server) setClock(ctx context.Context, in *refInput) (*body[api.ClockReply], error) {
	drift, err := s.VMs.SetClock(ctx, in.Ref)
	if err != nil {
		return nil, err
	}
	return &body[api.ClockReply]{api.ClockReply{DriftMS: drift.Milliseconds()}}, nil
}
