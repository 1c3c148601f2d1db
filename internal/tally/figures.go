package tally

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Figures are what a part shows.
type Figures struct {
	prefix string
	own    prometheus.Labels
	list   func(*Sheet)
}

var _ prometheus.Collector = (*Figures)(nil)

// New gives the figures that a function lists, the same ones in each of its calls, under names that begin with the
// prefix, such as bizra_gossip, and with these labels, if there are any.
func New(prefix string, own prometheus.Labels, list func(*Sheet)) *Figures {
	return &Figures{prefix: prefix, own: own, list: list}
}

// Describe implements [prometheus.Collector].
func (f *Figures) Describe(ch chan<- *prometheus.Desc) { f.list(&Sheet{Figures: f, described: ch}) }

// Collect implements [prometheus.Collector].
func (f *Figures) Collect(ch chan<- prometheus.Metric) { f.list(&Sheet{Figures: f, collected: ch}) }

// Register registers the figures, if there is somebody to register them with.
func (f *Figures) Register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	if err := r.Register(f); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}

// Unregister takes them back.
func (f *Figures) Unregister(r prometheus.Registerer) {
	if r != nil {
		r.Unregister(f)
	}
}

// Sheet takes figures down, for a description or for a scrape.
type Sheet struct {
	*Figures
	described chan<- *prometheus.Desc  // or
	collected chan<- prometheus.Metric // one of both
}

// desc gives what is called so, or nil where being told of it is all that was wanted.
func (s *Sheet) desc(name, help string, more prometheus.Labels, labels ...string) *prometheus.Desc {
	own := s.own
	if more != nil {
		own = maps.Clone(more)
		maps.Copy(own, s.own)
	}
	d := prometheus.NewDesc(s.prefix+"_"+name, help, labels, own)
	if s.described != nil {
		s.described <- d
		return nil
	}
	return d
}

// Counter takes down a count.
func (s *Sheet) Counter(name, help string, c *Counter) {
	if d := s.desc(name, help, nil); d != nil {
		s.collected <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, c.Value())
	}
}

// Counters takes down counts that labels tell apart.
func (s *Sheet) Counters(name, help string, v *Counters, labels ...string) {
	d := s.desc(name, help, nil, labels...)
	if d == nil {
		return
	}
	for _, l := range v.all() {
		s.collected <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, l.Value(), l.labels[:len(labels)]...)
	}
}

// Gauge takes down a number that comes and goes.
func (s *Sheet) Gauge(name, help string, value func() float64) { s.GaugeOf(name, help, nil, value) }

// GaugeOf takes down one of the numbers of a name that labels tell apart.
func (s *Sheet) GaugeOf(name, help string, labels prometheus.Labels, value func() float64) {
	if d := s.desc(name, help, labels); d != nil {
		s.collected <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value())
	}
}

// Histogram takes down observations, which have these buckets.
func (s *Sheet) Histogram(name, help string, b Buckets, h *Histogram) {
	s.Histograms(name, help, b, "", func(yield func(string, *Histogram) bool) { yield("", h) })
}

// Histograms takes down observations that a label tells apart; without one there is one histogram.
func (s *Sheet) Histograms(name, help string, b Buckets, label string, all func(yield func(string, *Histogram) bool)) {
	var labels []string
	if label != "" {
		labels = []string{label}
	}
	d := s.desc(name, help, nil, labels...)
	if d == nil {
		return
	}
	for value, h := range all {
		byBound, sum, total := h.cumulative(b)
		s.collected <- prometheus.MustNewConstHistogram(d, total, sum, byBound, []string{value}[:len(labels)]...)
	}
}

// Registry registers collectors once somebody asks for them. Until then that two of them clash is not
// found. Safe for concurrent use.
type Registry struct {
	mu      sync.Mutex
	waiting []prometheus.Collector
	open    *prometheus.Registry // nil until it is asked for
}

var _ prometheus.Registerer = (*Registry)(nil)

// Register implements [prometheus.Registerer].
func (r *Registry) Register(c prometheus.Collector) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open != nil {
		return r.open.Register(c)
	}
	r.waiting = append(r.waiting, c)
	return nil
}

// MustRegister implements [prometheus.Registerer].
func (r *Registry) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

// Unregister implements [prometheus.Registerer].
func (r *Registry) Unregister(c prometheus.Collector) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open != nil {
		return r.open.Unregister(c)
	}
	before := len(r.waiting)
	r.waiting = slices.DeleteFunc(r.waiting, func(x prometheus.Collector) bool { return x == c })
	return len(r.waiting) < before
}

// Open registers what waits, and is from then on registered at once.
func (r *Registry) Open() (*prometheus.Registry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open != nil {
		return r.open, nil
	}
	open := prometheus.NewRegistry()
	for _, c := range r.waiting {
		if err := open.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	r.open, r.waiting = open, nil
	return open, nil
}
