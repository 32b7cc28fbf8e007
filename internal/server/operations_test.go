package server_test

import (
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

// tales are the events of operations so far, as "type kind target".
func (w *world) tales() (all []string) {
	w.t.Helper()
	_, _, text := w.do("GET", api.RouteEvents+"?after=0", "")
	for line := range strings.Lines(text) {
		var e banger.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			w.t.Fatal(err)
		}
		if strings.HasPrefix(string(e.Type), "operation.") {
			vm := e.Detail["target"]
			if strings.Contains(e.Detail["kind"], " ") { // it is about something else
				vm = ""
			}
			if e.Detail["operation"] == "" || e.Request == "" || e.VM != vm {
				w.t.Errorf("%+v", e)
			}
			all = append(all, strings.TrimSpace(string(e.Type)+" "+e.Detail["kind"]+" "+e.Detail["target"]+" "+e.Reason))
		}
	}
	return all
}

// listed is the operation with this id as the list has it.
func (w *world) listed(id string) api.Operation {
	w.t.Helper()
	all := get[[]api.Operation](w, "GET", api.RouteOperations, "", 200)
	i := slices.IndexFunc(all, func(op api.Operation) bool { return op.ID == id })
	if i < 0 {
		w.t.Fatalf("%s is not in %+v", id, all)
	}
	return all[i]
}

// watch begins to read an operation's events, and waits for a report of progress.
func (w *world) watch(op api.Operation) (leave func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", w.http.URL+"/v1/operations/"+op.ID+"/events", http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	reply, err := w.http.Client().Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	decoder := json.NewDecoder(reply.Body)
	for event := (api.Operation{}); event.Progress == nil; {
		if err := decoder.Decode(&event); err != nil {
			w.t.Fatal(err)
		}
	}
	return func() {
		cancel()
		reply.Body.Close()
	}
}

// kinds begin an operation of each kind on a VM; the name is where it exists already.
var kinds = map[string]func(w *world, name string) api.Operation{
	"create": func(w *world, name string) api.Operation {
		return get[api.Operation](w, "POST", api.RouteVMs, `{"name":"`+name+`"}`, 202)
	},
	"start": func(w *world, name string) api.Operation {
		return get[api.Operation](w, "POST", "/v1/vms/"+name+"/start", "", 202)
	},
	"restart": func(w *world, name string) api.Operation {
		return get[api.Operation](w, "POST", "/v1/vms/"+name+"/restart", "", 202)
	},
}

// Every kind of operation can be listed, watched, left without being stopped,
// cancelled, and is told in events.
func TestEveryKindOfOperation(t *testing.T) {
	for kind, begin := range kinds {
		t.Run(kind, func(t *testing.T) {
			hold := make(chan struct{})
			w := newWorld(t, &servertest.VMs{Hold: hold})
			if kind != "create" {
				made := kinds["create"](w, "box")
				hold <- struct{}{}
				w.follow(made)
			}
			told := len(w.tales())

			op := begin(w, "box")
			if one := w.listed(op.ID); one.Status != api.OperationRunning || one.Kind != kind || one.Target != "box" {
				t.Errorf("%+v", one)
			}
			w.watch(op)() // and its client leaves
			hold <- struct{}{}
			if op = w.follow(op); op.Status != api.OperationDone || op.Result == nil {
				t.Errorf("its client has left: %+v", op)
			}
			if one := w.listed(op.ID); one.Status != api.OperationDone || one.Ended == nil {
				t.Errorf("%+v", one)
			}
			if got := w.tales()[told:]; !slices.Equal(got, []string{"operation.started " + kind + " box", "operation.done " + kind + " box"}) {
				t.Errorf("%q", got)
			}

			name := "box"
			if kind == "create" {
				name = "other"
			}
			told = len(w.tales())
			op = begin(w, name)
			get[api.Operation](w, "DELETE", "/v1/operations/"+op.ID, "", 200)
			if op = w.follow(op); op.Status != api.OperationCancelled || op.Error.Kind != banger.KindCancelled {
				t.Errorf("%+v", op)
			}
			if got := w.tales()[told:]; len(got) != 2 || !strings.HasPrefix(got[1], "operation.cancelled "+kind+" "+name+" "+kind+" "+name+" was cancelled") {
				t.Errorf("%q", got)
			}
		})
	}
}

// The target of a create without a name is known when it is done.
func TestOperationsThatFailAndThatChoose(t *testing.T) {
	w := newWorld(t, &servertest.VMs{})
	w.create(`{"spec":{"image":"absent"}}`)
	made := w.create(`{}`)
	want := []string{"operation.started create", `operation.failed create  no image "absent"`, "operation.started create", "operation.done create " + made.Target}
	if got := w.tales(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if _, _, text := newWorld(t, &servertest.VMs{}).do("GET", api.RouteOperations, ""); text != "[]\n" {
		t.Errorf("%q", text)
	}
}
