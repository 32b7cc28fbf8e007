// Package metrics counts what the daemon does and shows it, with what is known
// of each VM, in Prometheus' text form. docs/metrics.md lists the names. It asks
// nobody while it is scraped but /proc, so that nothing that hangs holds it up.
package metrics

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"banger.dev/banger"
)

// Metrics is all counters of one daemon. All methods may be called from any
// goroutine.
type Metrics struct {
	http.Handler
	requests   *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	operations *prometheus.HistogramVec
	running    *prometheus.GaugeVec
	phases     *prometheus.HistogramVec
}

// slow are the buckets of what takes seconds.
var slow = []float64{0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}

// New makes the counters of a daemon of this version that started at since. vms
// gives the VMs at each scrape.
func New(version string, since time.Time, vms VMs) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "banger_requests_total", Help: "Requests answered, by route and HTTP status.",
		}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "banger_request_duration_seconds", Help: "How long requests took; streams take as long as their client stays.",
			Buckets: prometheus.DefBuckets,
		}, []string{"route"}),
		operations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "banger_operation_duration_seconds", Help: "How long operations took, by kind and how they ended.", Buckets: slow,
		}, []string{"kind", "status"}),
		running: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "banger_operations_running", Help: "Operations under way, by kind.",
		}, []string{"kind"}),
		phases: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "banger_boot_phase_duration_seconds", Help: "How long each phase of the boots took; total is to ready.", Buckets: slow,
		}, []string{"phase"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "banger_build_info", Help: "1; the label says which build the daemon is.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	uptime := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "banger_uptime_seconds", Help: "How long the daemon has run.",
	}, func() float64 { return time.Since(since).Seconds() })
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.requests, m.seconds, m.operations, m.running, m.phases, build, uptime, &collector{vms},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.Handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, DisableCompression: true,
	})
	return m
}

// Request counts a request that was answered.
func (m *Metrics) Request(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}

// Operation counts one that has begun; ended is to be called once.
func (m *Metrics) Operation(kind string) (ended func(status string)) {
	begun := time.Now()
	m.running.WithLabelValues(kind).Inc()
	return func(status string) {
		m.running.WithLabelValues(kind).Dec()
		m.operations.WithLabelValues(kind, status).Observe(time.Since(begun).Seconds())
	}
}

// Booted counts a boot that got ready, by its phases.
func (m *Metrics) Booted(phases []banger.BootPhase) {
	for i, p := range phases {
		if i+1 < len(phases) {
			m.phases.WithLabelValues(p.Name).Observe(float64(phases[i+1].BeginMS-p.BeginMS) / 1000)
			continue
		}
		m.phases.WithLabelValues("total").Observe(float64(p.BeginMS) / 1000)
	}
}
