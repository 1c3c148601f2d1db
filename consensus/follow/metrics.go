package follow

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

const metricsNamespace = "bizra"

// collectors are registered and taken out together.
type collectors []prometheus.Collector

func (cs collectors) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for i, c := range cs {
		if err := r.Register(c); err != nil {
			cs[:i].unregister(r)
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

func (cs collectors) unregister(r prometheus.Registerer) {
	if r == nil {
		return
	}
	for _, c := range cs {
		r.Unregister(c)
	}
}

type serverMetrics struct {
	collectors
	open  prometheus.Gauge
	count prometheus.Counter
	bytes prometheus.Counter
	seals prometheus.Counter
	ended *prometheus.CounterVec // by reason, of a closed set
}

func newServerMetrics(region string) *serverMetrics {
	counter, vec := counters("entries_server", region)
	m := &serverMetrics{
		open: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: metricsNamespace, Subsystem: "entries_server", Name: "streams",
			Help: "Followers being served now.", ConstLabels: prometheus.Labels{"region": region}}),
		count: counter("entries_total", "Entries sent to followers."),
		bytes: counter("bytes_total", "Bytes of entries sent to followers."),
		seals: counter("seals_total", "Seals sent to followers."),
		ended: vec("ended_total", "Streams that ended, by reason.", "reason"),
	}
	m.collectors = collectors{m.open, m.count, m.bytes, m.seals, m.ended}
	return m
}

func (m *serverMetrics) sent(f *frame) {
	m.count.Add(float64(len(f.Entries)))
	m.bytes.Add(float64(entryBytes(f.Entries)))
	if f.Seal != nil {
		m.seals.Inc()
	}
}

type followerMetrics struct {
	collectors
	count prometheus.Counter
	bytes prometheus.Counter
	seals prometheus.Counter
	left  *prometheus.CounterVec // by reason, of a closed set

	early   prometheus.Counter
	refused *prometheus.CounterVec // by code, of a closed set
}

func newFollowerMetrics(region string, status func() Status) *followerMetrics {
	counter, vec := counters("follow", region)
	gauge := func(name, help string, value func(Status) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: metricsNamespace, Subsystem: "follow", Name: name, Help: help,
			ConstLabels: prometheus.Labels{"region": region}}, func() float64 { return value(status()) })
	}
	m := &followerMetrics{
		count: counter("entries_total", "Entries taken from peers and re-executed."),
		bytes: counter("bytes_total", "Bytes of entries taken from peers."),
		seals: counter("seals_total", "Seals taken from peers and found equal."),
		left:  vec("peers_left_total", "Times that a peer was left, by reason.", "reason"),

		early:   counter("early_total", "Times that an entry of another region was waited for, since its log time was more than 10 s ahead of this clock."),
		refused: vec("refused_total", "Entries and seals of another region that re-execution refused, by code.", "code"),
	}
	m.collectors = collectors{m.count, m.bytes, m.seals, m.left, m.early, m.refused,
		gauge("size_entries", "Entries of the replica.", func(s Status) float64 { return float64(s.Size) }),
		gauge("lag_entries", "Entries that the followed peer had more when it was last heard.", func(s Status) float64 { return float64(s.LagEntries) }),
		gauge("lag_seconds", "Log time by which the followed peer was ahead when it was last heard.", func(s Status) float64 { return float64(s.LagMillis) / 1000 }),
		gauge("age_seconds", "How long ago, at most, the replica held all that the region had committed.", func(s Status) float64 { return s.Age.Seconds() }),
		gauge("diverged", "1 if the replica diverged and the follower stopped.", func(s Status) float64 { return truth(s.Diverged != "") }),
	}
	return m
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func counters(subsystem, region string) (counter func(name, help string) prometheus.Counter, vec func(name, help, label string) *prometheus.CounterVec) {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: metricsNamespace, Subsystem: subsystem, Name: name, Help: help, ConstLabels: prometheus.Labels{"region": region}}
	}
	return func(name, help string) prometheus.Counter { return prometheus.NewCounter(opts(name, help)) },
		func(name, help, label string) *prometheus.CounterVec {
			return prometheus.NewCounterVec(opts(name, help), []string{label})
		}
}

func entryBytes(entries [][]byte) int {
	n := 0
	for _, e := range entries {
		n += len(e)
	}
	return n
}

// errNotIdle is returned by a second Run.
var errNotIdle = errors.New("follow: Run was called before; a follower runs once")
