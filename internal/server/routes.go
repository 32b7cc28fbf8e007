package server

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/request"
)

// body is a reply with nothing but a body.
type body[T any] struct{ Body T }

// refInput is a request about one VM. huma sets no field of an embedded struct
// that is not exported, so those with more to say have a Ref of their own.
type refInput struct {
	Ref string `path:"ref"`
}

// route is one line of the interface's description.
type route struct {
	method, path string
	id           string // operationId in the document
	summary      string
	status       int // of success
}

// routes registers every route of internal/api.
func (s *Server) routes(mux *http.ServeMux, h huma.API) {
	errorReply := h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[api.ErrorReply](), true, "")
	d := &docs{h, errorReply}

	handle(d, route{http.MethodGet, api.RoutePing, "ping", "Who answers", 200}, s.ping)
	handle(d, route{http.MethodGet, api.RouteVMs, "list-vms", "All VMs of this user, the oldest first", 200}, s.list)
	handle(d, route{http.MethodPost, api.RouteVMs, "create-vm", "Make a VM, and start it if asked to", 202}, s.create)
	handle(d, route{http.MethodGet, api.RouteVM, "show-vm", "One VM with everything that is known of it", 200}, s.show)
	handle(d, route{http.MethodPatch, api.RouteVM, "set-vm", "Change a VM's spec; what can be done while it runs is done at once", 202}, s.set)
	handle(d, route{http.MethodDelete, api.RouteVM, "delete-vm", "Delete a VM and its disks", 200}, s.delete)
	handle(d, route{http.MethodPost, api.RouteVMStart, "start-vm", "Boot a VM", 202}, s.start)
	handle(d, route{http.MethodPost, api.RouteVMStop, "stop-vm", "Have the guest power off, and kill the VM if it does not", 200}, s.stop)
	handle(d, route{http.MethodPost, api.RouteVMKill, "kill-vm", "End a VM without asking the guest", 200}, s.kill)
	handle(d, route{http.MethodPost, api.RouteVMRestart, "restart-vm", "Stop a VM and boot it again", 202}, s.restart)
	handle(d, route{http.MethodPost, api.RouteVMPause, "pause-vm", "Stop a VM's vCPUs", 200}, s.pause)
	handle(d, route{http.MethodPost, api.RouteVMResume, "resume-vm", "Let a paused VM's vCPUs go on", 200}, s.resume)
	handle(d, route{http.MethodPost, api.RouteVMCommit, "commit-image", "Make an image of a stopped VM's system disk", 202}, s.commitImage)
	handle(d, route{http.MethodPost, api.RouteVMReset, "reset-vm", "Throw away what a VM has written over its image; its work disk stays", 202}, s.reset)
	handle(d, route{http.MethodGet, api.RouteVMWait, "wait-vm", "A VM as soon as it is as wanted, or as it is when the time is up", 200}, s.wait)
	handle(d, route{http.MethodGet, api.RouteVMPorts, "list-ports", "The published ports of a VM", 200}, s.listPorts)
	handle(d, route{http.MethodPost, api.RouteVMPorts, "add-ports", "Publish ports of a VM, at once if it runs", 200}, s.addPorts)
	handle(d, route{http.MethodDelete, api.RouteVMPorts, "remove-ports", "Publish ports of a VM no more; their connections are cut", 200}, s.removePorts)
	handle(d, route{http.MethodPost, api.RouteVMClock, "set-vm-clock", "Set the guest's clock to the host's", 200}, s.setClock)
	handle(d, route{http.MethodGet, api.RouteStats, "stats", "What VMs take at this moment", 200}, s.stats)
	handle(d, route{http.MethodGet, api.RouteOperations, "list-operations", "The operations that run or ended a short while ago, the oldest first", 200}, s.operations)
	handle(d, route{http.MethodGet, api.RouteOperation, "show-operation", "How far an operation is", 200}, s.operation)
	handle(d, route{http.MethodDelete, api.RouteOperation, "cancel-operation", "Cancel an operation; it ends soon after", 200}, s.cancel)
	handle(d, route{http.MethodGet, api.RouteImages, "list-images", "The images in the cache", 200}, s.listImages)
	handle(d, route{http.MethodDelete, api.RouteImages, "delete-image", "Take a name of an image away, and with the last one the image", 200}, s.deleteImage)
	handle(d, route{http.MethodGet, api.RouteImageCatalog, "image-catalog", "The images that can be had by a name of their own", 200}, s.catalog)
	handle(d, route{http.MethodGet, api.RouteImageLookup, "lookup-image", "What a name of an image stands for", 200}, s.lookupImage)
	handle(d, route{http.MethodPost, api.RouteImagePull, "pull-image", "Get the newest image of a name", 202}, s.pullImage)
	handle(d, route{http.MethodGet, api.RouteKernels, "list-kernels", "The kernels in the cache, and who uses them", 200}, s.listKernels)
	handle(d, route{http.MethodDelete, api.RouteKernels, "delete-kernel", "Take a name of a kernel away, and with the last one the kernel", 200}, s.deleteKernel)
	handle(d, route{http.MethodGet, api.RouteKernelLookup, "lookup-kernel", "The kernel that a name stands for", 200}, s.lookupKernel)
	handle(d, route{http.MethodPost, api.RouteKernelPull, "pull-kernel", "Get the newest kernel of a distribution's release", 202}, s.pullKernel)
	handle(d, route{http.MethodGet, api.RouteDoctor, "examine", "What is missing or left over in this home", 200}, s.examine)
	handle(d, route{http.MethodPost, api.RouteDoctor, "fix", "Remove what is left over in this home", 200}, s.fix)
	handle(d, route{http.MethodGet, api.RouteUsage, "usage", "What the home and its cache take on disk", 200}, s.usage)
	handle(d, route{http.MethodPost, api.RoutePrune, "prune", "Remove what no VM needs from the cache", 200}, s.prune)

	operation := h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[api.Operation](), true, "")
	raw(d, mux, route{http.MethodGet, api.RouteVMLogs, "logs-vm", "The console, a time stamp a line; query: source, follow, since, tail, places, after", 200},
		s.logs, "text/plain", &huma.Schema{Type: huma.TypeString}, "ref")
	raw(d, mux, route{http.MethodPost, api.RouteImageImport, "import-image",
		"Make an image of an archive of one, or of a tar of a root; query: name; the archive is the body", 200},
		s.importImage, "application/json", h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[banger.Image](), true, ""))
	raw(d, mux, route{http.MethodPost, api.RouteImageRegister, "register-image",
		"Make an image of an ext4 file system; query: name; the body is a tar of one file, rootfs.ext4", 200},
		s.registerImage, "application/json", h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[banger.Image](), true, ""))
	raw(d, mux, route{http.MethodPost, api.RouteKernelImport, "import-kernel",
		"Make a kernel of a package, or of a tar of one; query: name; the package is the body", 200},
		s.importKernel, "application/json", h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[banger.Kernel](), true, ""))
	raw(d, mux, route{http.MethodGet, api.RouteOperationEvents, "watch-operation",
		"The operation now and after each change, one JSON object a line, until it has ended", 200},
		s.watchOperation, "application/x-ndjson", operation, "id")
	raw(d, mux, route{http.MethodGet, api.RouteEvents, "events",
		"What has happened, one JSON object a line; query: after, since, vm, type, follow", 200},
		s.events, "application/x-ndjson", h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[banger.Event](), true, ""))
	raw(d, mux, route{http.MethodGet, api.RouteMetrics, "metrics", "Metrics in Prometheus' text form", 200},
		s.Metrics.ServeHTTP, "text/plain", &huma.Schema{Type: huma.TypeString})
	raw(d, mux, route{http.MethodPost, api.RouteDaemonStop, "stop-daemon", "Stop the daemon; VMs go on", 202},
		s.stopDaemon, "", nil)
	raw(d, mux, route{http.MethodGet, api.RouteOpenAPI, "openapi", "This document", 200},
		document(h), "application/json", &huma.Schema{Type: huma.TypeObject})
	mux.HandleFunc("/", nowhere)

	// huma puts its own form of errors in, which no reply here has.
	schemas := h.OpenAPI().Components.Schemas.Map()
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
}

// docs is where routes describe themselves.
type docs struct {
	huma.API
	errorReply *huma.Schema
}

// operation is a route's part of the document, without what huma adds to it.
func (d *docs) operation(r route) huma.Operation {
	return huma.Operation{
		Method: r.method, Path: r.path, OperationID: r.id, Summary: r.summary, DefaultStatus: r.status,
		// The body has been read by wrap, within its own bounds.
		BodyReadTimeout: -1,
		MaxBodyBytes:    -1,
		Responses: map[string]*huma.Response{"default": {
			Description: "Error",
			Content:     map[string]*huma.MediaType{"application/json": {Schema: d.errorReply}},
		}},
	}
}

// handle registers a route whose bodies huma decodes and encodes.
func handle[I, O any](d *docs, r route, handler func(context.Context, *I) (*O, error)) {
	huma.Register(d.API, d.operation(r), func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			if rec, ok := ctx.Value(recorderKey{}).(*recorder); ok {
				rec.failure = err
			}
			return nil, &replyError{*wireError(request.ID(ctx), err)}
		}
		return out, nil
	})
}

// raw registers a route that writes its reply itself, and describes it by hand.
func raw(d *docs, mux *http.ServeMux, r route, handler http.HandlerFunc, content string, schema *huma.Schema, params ...string) {
	op := d.operation(r)
	success := &huma.Response{Description: http.StatusText(r.status)}
	if schema != nil {
		success.Content = map[string]*huma.MediaType{content: {Schema: schema}}
	}
	op.Responses[statusText(r.status)] = success
	for _, name := range params {
		op.Parameters = append(op.Parameters, &huma.Param{Name: name, In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}})
	}
	d.OpenAPI().AddOperation(&op)
	mux.HandleFunc(r.method+" "+r.path, handler)
}

// document gives the OpenAPI document, which is made when first asked for.
func document(h huma.API) http.HandlerFunc {
	made := sync.OnceValues(func() ([]byte, error) { return json.Marshal(h.OpenAPI()) })
	return func(w http.ResponseWriter, _ *http.Request) {
		content, err := made()
		if err != nil {
			writeError(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(content) // the client is gone
	}
}

// nowhere answers what no route takes, a known path with another method included.
func nowhere(w http.ResponseWriter, r *http.Request) {
	writeError(w, banger.Errorf(banger.KindNotFound, "there is no %s %s here", r.Method, r.URL.Path))
}
