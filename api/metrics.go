package api

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/pci"
)

// metrics are the interface's own. Labels are routes, statuses and codes: sets that
// no client can make grow.
type metrics struct {
	requests *prometheus.CounterVec   // route, status
	seconds  *prometheus.HistogramVec // route
	proofs   *prometheus.CounterVec   // code
	turned   *prometheus.CounterVec   // limit
	panics   prometheus.Counter
	inFlight prometheus.Gauge
	waiting  *prometheus.GaugeVec   // what
	events   *prometheus.CounterVec // kind
	cut      prometheus.Counter
}

// Limits that turn requests away, as labels.
const (
	turnedRequests = "requests"
	// Connections that gave way to others while nothing was asked on them.
	turnedConnections = "connections"
	turnedBodies      = "bodies"
	turnedBundles     = "bundles"
	turnedWaits       = "waits"   // also of what waits, as a gauge
	turnedStreams     = "streams" // likewise
)

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bizra_http_requests_total",
			Help: "Requests answered, by route and HTTP status."}, []string{"route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "bizra_http_request_seconds",
			Help:    "Time from a request's headers to its answer, by route.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15}}, []string{"route"}),
		proofs: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bizra_http_proofs_total",
			Help: "Proofs answered over HTTP, by outcome; UNDECIDED where no node could decide."}, []string{"code"}),
		turned: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bizra_http_turned_away_total",
			Help: "Requests told to come back later, by the limit that they ran into."}, []string{"limit"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "bizra_http_panics_total",
			Help: "Requests that ended in a panic; each is a bug worth a report."}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "bizra_http_requests_in_flight",
			Help: "Requests being answered."}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "bizra_http_waiting",
			Help: "Requests that wait: for a proof's finality, or for events."}, []string{"what"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bizra_http_events_total",
			Help: "Events sent, by kind."}, []string{"kind"}),
		cut: prometheus.NewCounter(prometheus.CounterOpts{Name: "bizra_http_streams_cut_total",
			Help: "Streams of events cut off, since their reader was too slow or had gone."}),
	}
	for _, c := range pci.Codes() {
		m.proofs.WithLabelValues(c.String())
	}
	m.proofs.WithLabelValues(undecided)
	m.turned.WithLabelValues(turnedRequests)
	m.turned.WithLabelValues(turnedConnections)
	m.turned.WithLabelValues(turnedBodies)
	m.turned.WithLabelValues(turnedBundles)
	for _, kind := range eventKinds() {
		m.events.WithLabelValues(kind)
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.proofs, m.turned, m.panics, m.inFlight, m.waiting, m.events, m.cut} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

const undecided = "UNDECIDED"

func (m *metrics) answered(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}

// proof counts one outcome.
func (m *metrics) proof(o Outcome) {
	m.proofs.WithLabelValues(outcomeName(o)).Inc()
}

func outcomeName(o Outcome) string {
	if o.Err == nil {
		return o.Code.String()
	}
	if r, ok := errors.AsType[*pci.Reject](o.Err); ok {
		return r.Code.String()
	}
	return undecided
}
