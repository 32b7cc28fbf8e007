package server_test

import (
	"testing"
	"time"

	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/server/servertest"
)

// A daemon that leaves takes nothing more, and says that it has done nothing.
func TestLeave(t *testing.T) {
	w := newWorld(t, &servertest.VMs{})
	op := w.create(`{"name":"box"}`)
	if w.srv.LeaveIfIdle(time.Hour) {
		t.Fatal("it left an hour too early")
	}
	if !w.srv.LeaveIfIdle(0) {
		t.Fatal("it did not leave")
	}
	for _, request := range [][2]string{{"GET", api.RoutePing}, {"GET", api.RouteVMs}, {"POST", api.RouteVMs}, {"DELETE", "/v1/vms/box"}} {
		status, header, _ := w.do(request[0], request[1], "")
		if status != 503 || header.Get(api.HeaderLeaving) == "" || header.Get(api.HeaderAPI) == "" {
			t.Errorf("%v: %d, %v", request, status, header)
		}
	}
	// How an operation ended is known here alone.
	if now := get[api.Operation](w, "GET", "/v1/operations/"+op.ID, "", 200); now.Status != api.OperationDone {
		t.Errorf("%+v", now)
	}
}

// A stop for a newer daemon waits for what is under way, and a plain one does not.
func TestStopWhenIdle(t *testing.T) {
	hold := make(chan struct{})
	w := newWorld(t, &servertest.VMs{Hold: hold})
	op := get[api.Operation](w, "POST", api.RouteVMs, `{"name":"box"}`, 202)
	if status, header, _ := w.do("POST", api.RouteDaemonStop+"?when=idle", ""); status != 409 || header.Get(api.HeaderLeaving) != "" {
		t.Errorf("%d, %v", status, header)
	}
	if status, _, _ := w.do("POST", api.RouteDaemonStop+"?when=never", ""); status != 400 {
		t.Errorf("%d", status)
	}
	hold <- struct{}{}
	w.follow(op)
	for {
		status, _, _ := w.do("POST", api.RouteDaemonStop+"?when=idle", "")
		if status == 202 {
			break
		}
		if status != 409 {
			t.Fatalf("%d", status)
		}
		time.Sleep(10 * time.Millisecond)
	}
	<-w.stop
}
