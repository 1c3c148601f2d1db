package drive

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/consensus/attest"
)

// metrics are those of one driver; what the machine knows is read from its status.
type metrics struct {
	status    func() attest.Status
	latency   prometheus.Histogram
	alarms    *prometheus.CounterVec // by kind, of a closed set
	exchanges *prometheus.CounterVec // by outcome, of a closed set
	dropped   *prometheus.CounterVec // by queue, of a closed set

	certified, waiting, messages                                          *prometheus.Desc
	voted, regionCertified, regionWaiting, missing, evidence, refuses, no *prometheus.Desc
}

const (
	namespace = "bizra"
	subsystem = "attest"
)

func newMetrics(region string, status func() attest.Status) *metrics {
	own := prometheus.Labels{"region": region}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help, ConstLabels: own}, []string{label})
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, subsystem, name), help, labels, own)
	}
	m := &metrics{status: status,
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Subsystem: subsystem, Name: "certificate_seconds", ConstLabels: own,
			Help:    "From when a majority of the own voters agreed on a seal until a certificate that covers it was recorded.",
			Buckets: []float64{.025, .05, .1, .15, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}}),
		alarms:          vec("alarms_total", "What an operator must see: evidence, contradicting certificates, refusals.", "kind"),
		exchanges:       vec("exchanges_total", "Exchanges with voters of other regions: asked, answered, failed.", "outcome"),
		dropped:         vec("dropped_total", "What found no place, and is said again: by queue.", "queue"),
		certified:       desc("certified_entries", "Entries of the own ledger that a certificate covers."),
		waiting:         desc("seals_waiting", "Own checkpoints that wait for a certificate."),
		messages:        desc("messages_total", "Messages of attestation that came, by what became of them.", "outcome"),
		voted:           desc("voted_entries", "Entries of another region that this region voted for.", "of"),
		regionCertified: desc("certified_seen_entries", "Entries of another region that the newest certificate covers that this node has seen.", "of"),
		regionWaiting:   desc("checkpoints_waiting", "Checkpoints of another region that wait for a vote here.", "of"),
		missing:         desc("votes_missing", "Own checkpoints that another region has not cosigned.", "of"),
		evidence:        desc("evidence", "1 where there is evidence that a region lied.", "of"),
		refuses:         desc("refused_by", "1 where another region refuses an own checkpoint.", "of"),
		no:              desc("refusing", "1 where this region refuses a checkpoint of another.", "of"),
	}
	for _, kind := range []attest.AlarmKind{attest.AlarmEvidence, attest.AlarmCertificate, attest.AlarmForked, attest.AlarmRefused, attest.AlarmRefuses} {
		m.alarms.WithLabelValues(string(kind)) // shown as 0 rather than missing
	}
	return m
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.latency, m.alarms, m.exchanges, m.dropped, m}
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for i, c := range m.collectors() {
		if err := r.Register(c); err != nil {
			for _, c := range m.collectors()[:i] {
				r.Unregister(c)
			}
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

func (m *metrics) unregister(r prometheus.Registerer) {
	if r == nil {
		return
	}
	for _, c := range m.collectors() {
		r.Unregister(c)
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.certified, m.waiting, m.messages, m.voted, m.regionCertified, m.regionWaiting, m.missing, m.evidence, m.refuses, m.no} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	st := m.status()
	gauge := func(d *prometheus.Desc, value int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), labels...)
	}
	count := func(outcome string, value int) {
		ch <- prometheus.MustNewConstMetric(m.messages, prometheus.CounterValue, float64(value), outcome)
	}
	gauge(m.certified, st.Size)
	gauge(m.waiting, int64(st.Waiting))
	count("invalid", st.Counts.Invalid)
	count("other_document", st.Counts.Other)
	count("useless", st.Counts.Useless)
	count("useful", st.Counts.Received-st.Counts.Invalid-st.Counts.Other-st.Counts.Useless)
	truth := map[bool]int64{true: 1}
	for i := range st.Regions {
		r := &st.Regions[i]
		gauge(m.voted, r.Voted, r.Region)
		gauge(m.regionCertified, r.Certified, r.Region)
		gauge(m.regionWaiting, int64(r.Waiting), r.Region)
		gauge(m.missing, int64(r.Missing), r.Region)
		gauge(m.evidence, truth[r.Evidence], r.Region)
		gauge(m.refuses, truth[r.Refuses != ""], r.Region)
		gauge(m.no, truth[r.Refused != ""], r.Region)
	}
}
