package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/server/servertest"
)

func TestEvents(t *testing.T) {
	w := newWorld(t, &servertest.VMs{})
	w.events.Pruned = 40
	for _, kind := range []banger.EventType{"a", "b", "a"} { // 41, 42, 43
		w.events.Add(banger.Event{Type: kind})
	}
	for query, c := range map[string]struct{ ids, begins string }{
		"":                                  {"", "43"},
		"?after=43":                         {"", "43"},
		"?after=40":                         {"41 42 43", "40"},
		"?after=42":                         {"43", "42"},
		"?since=2026-01-02T03:04:05Z":       {"41 42 43", "40"},
		"?after=41&type=a":                  {"43", "41"},
		"?after=40&type=a&type=b&vm=nosuch": {"41 42 43", "40"},
	} {
		code, header, text := w.do("GET", api.RouteEvents+query, "")
		var ids []string
		for line := range strings.Lines(text) {
			var e struct{ ID json.Number }
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, e.ID.String())
		}
		if got := strings.Join(ids, " "); code != 200 || got != c.ids || header.Get(api.HeaderLastEvent) != c.begins {
			t.Errorf("%q: %d %q behind %s, want %+v", query, code, got, header.Get(api.HeaderLastEvent), c)
		}
	}
	for query, c := range map[string]struct {
		status int
		says   string
	}{
		"?after=39":      {404, "the events from 40 to 40 are forgotten"},
		"?after=44":      {400, "no such event, the newest is 43"},
		"?after=-1":      {400, "--after"},
		"?after=x":       {400, "--after"},
		"?since=gestern": {400, "RFC 3339"},
		"?follow=maybe":  {400, "follow"},
		"?vm=x&after=x1": {400, "--after"},
	} {
		e := get[api.ErrorReply](w, "GET", api.RouteEvents+query, "", c.status)
		if !strings.Contains(e.Error.Message, c.says) || e.Error.Request == "" {
			t.Errorf("%q: %+v", query, e.Error)
		}
	}
}

// A follower gets events as they come, and is cut off, rather than ended, when
// the server goes: it can tell that there may be more.
func TestFollowedStreamsEndWithTheServer(t *testing.T) {
	w := newWorld(t, &servertest.VMs{Text: "booting\n"})
	w.create(`{"name":"box"}`)
	for path, first := range map[string]string{
		api.RouteEvents + "?follow=true&after=0&type=a": `"type":"a"`,
		"/v1/vms/box/logs?follow=true":                  "booting",
	} {
		w.events.Add(banger.Event{Type: "a"})
		req, err := http.NewRequestWithContext(t.Context(), "GET", w.http.URL+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := w.http.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Body.Close()
		lines := bufio.NewReader(reply.Body)
		if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, first) {
			t.Errorf("%s: %q %v", path, line, err)
		}
		defer func() {
			for {
				if _, err := lines.ReadString('\n'); err != nil {
					if err.Error() != "unexpected EOF" {
						t.Errorf("%s ends with %v", path, err)
					}
					return
				}
			}
		}()
	}
	if err := w.srv.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

// A log says where it begins and of which VM it is; what names no place is refused.
func TestPlacesOfALog(t *testing.T) {
	w := newWorld(t, &servertest.VMs{Text: "booting\nready\n"})
	op := w.create(`{"name":"box"}`)
	_, header, text := w.do("GET", "/v1/vms/box/logs?places=true&after=console%2B8", "")
	if text != "console+14 ready\n" || header.Get(api.HeaderPlaces) != api.PlacesKept || header.Get(api.HeaderVM) != op.Result.ID {
		t.Errorf("%q %v", text, header)
	}
	if _, header, _ := w.do("GET", "/v1/vms/box/logs?places=true&after=gone%2B8", ""); header.Get(api.HeaderPlaces) != api.PlacesLost {
		t.Errorf("%v", header)
	}
	for _, query := range []string{"after=console", "places=perhaps", "after=console%2B-1"} {
		if code, _, text := w.do("GET", "/v1/vms/box/logs?"+query, ""); code != 400 {
			t.Errorf("%s: %d %s", query, code, text)
		}
	}
}

func TestMetricsAndClock(t *testing.T) {
	w := newWorld(t, &servertest.VMs{})
	w.create(`{"name":"box"}`)
	if r := get[api.ClockReply](w, "POST", "/v1/vms/box/clock", "", 200); r.DriftMS != 1000 {
		t.Errorf("%+v", r)
	}
	if code, _, text := w.do("GET", api.RouteMetrics, ""); code != 200 || text != "# metrics\n" {
		t.Errorf("%d %q", code, text)
	}
	w.do("GET", "/v1/vms/box/nowhere", "")
	// Labels are routes, so that no client makes new ones.
	if routes := w.metrics.Routes(); !slices.Contains(routes, "POST /v1/vms/{ref}/clock") || !slices.Contains(routes, "/") {
		t.Errorf("%q", routes)
	}
}

// One id: in the reply's header, in the error, and in an operation's error.
func TestRequestID(t *testing.T) {
	w := newWorld(t, &servertest.VMs{})
	for _, c := range [][3]string{{"GET", "/v1/vms/nosuch", ""}, {"GET", "/v1/vms/nosuch/logs", ""}, {"POST", api.RouteVMs, `{"spec":{"vcpus":"two"}}`}} {
		_, header, text := w.do(c[0], c[1], c[2])
		var e api.ErrorReply
		if err := json.Unmarshal([]byte(text), &e); err != nil || e.Error.Request != header.Get(api.HeaderRequestID) || e.Error.Request == "" {
			t.Errorf("%v: %q in %s, %v", c, header.Get(api.HeaderRequestID), text, err)
		}
	}
	_, header, text := w.do("POST", api.RouteVMs, `{"spec":{"image":"absent"}}`)
	var op api.Operation
	if err := json.Unmarshal([]byte(text), &op); err != nil {
		t.Fatal(err)
	}
	if op = w.follow(op); op.Error == nil || op.Error.Request != header.Get(api.HeaderRequestID) {
		t.Errorf("%+v, want request %s", op.Error, header.Get(api.HeaderRequestID))
	}
}
