package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
)

// LogOptions say which part of which log is wanted.
type LogOptions struct {
	Source string    // "": the console; see lifecycle.Source
	Follow bool      // what is yet to come too, until the VM has ended
	Since  time.Time // zero: from the first line there is
	Tail   int       // of what is there already only the last lines; -1: all
	After  string    // where an earlier stream was cut off; "": none was
}

// LogStream is a log of a VM as the daemon gives it. It is for one goroutine.
type LogStream struct {
	VM     string // the VM's id
	Lost   bool   // some of what followed LogOptions.After is gone
	After  string // the place behind the last line that came, at first where the stream begins
	client *Client
	ctx    context.Context
	reply  *http.Response
	lines  *bufio.Reader
}

// LogsVM begins a stream of a log's lines, each with a time stamp if the log is
// the console.
func (c *Client) LogsVM(ctx context.Context, ref string, opts LogOptions) (*LogStream, error) {
	path, err := vmPath(api.RouteVMLogs, ref)
	if err != nil {
		return nil, err
	}
	reply, err := c.send(ctx, request{method: http.MethodGet, path: path, query: opts.query()})
	if err != nil {
		return nil, err
	}
	kept := reply.Header.Get(api.HeaderPlaces)
	if kept == "" { // of a build before places; one that is newer than ours never is
		reply.Body.Close()
		return nil, banger.Errorf(banger.KindConflict, "the daemon (%s) is older than this banger and cannot say where in a log it is", reply.Header.Get(api.HeaderVersion)).
			WithNext("banger daemon stop")
	}
	return &LogStream{
		VM: reply.Header.Get(api.HeaderVM), Lost: kept == api.PlacesLost, After: reply.Header.Get(api.HeaderPlace),
		client: c, ctx: ctx, reply: reply, lines: bufio.NewReaderSize(reply.Body, 64<<10),
	}, nil
}

func (o LogOptions) query() url.Values {
	query := url.Values{"places": {"true"}}
	if o.Source != "" {
		query.Set("source", o.Source)
	}
	if o.Follow {
		query.Set("follow", "true")
	}
	if !o.Since.IsZero() {
		query.Set("since", o.Since.UTC().Format(time.RFC3339Nano))
	}
	if o.Tail >= 0 {
		query.Set("tail", strconv.Itoa(o.Tail))
	}
	if o.After != "" {
		query.Set("after", o.After)
	}
	return query
}

// Next is the next line, with its end; the last one may have none. The log's end
// is io.EOF; one that is cut off is KindUnavailable, and can be taken up again
// behind After.
func (s *LogStream) Next() ([]byte, error) {
	line, err := s.lines.ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) { // what came of the line will come again
		return nil, s.client.unanswered(s.ctx, err)
	}
	if len(line) == 0 {
		return nil, err
	}
	place, text, _ := bytes.Cut(line, []byte{' '})
	s.After = string(place)
	return text, nil
}

// Close gives the stream up.
func (s *LogStream) Close() { s.reply.Body.Close() }
