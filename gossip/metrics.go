package gossip

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	metricsNamespace = "bizra"
	metricsSubsystem = "gossip"
)

type metrics struct {
	collectors  []prometheus.Collector
	verdicts    *prometheus.CounterVec // kind, verdict
	published   *prometheus.CounterVec // kind
	reannounced *prometheus.CounterVec // kind
	unheard     *prometheus.CounterVec // kind
	dropped     *prometheus.CounterVec // reason
	offences    *prometheus.CounterVec // offence
	duplicates  prometheus.Counter
	sent        prometheus.Counter
	received    prometheus.Counter
	grafts      prometheus.Counter
	prunes      prometheus.Counter
	mutes       prometheus.Counter
}

func newMetrics(r *Router) *metrics {
	m := &metrics{}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: name, Help: help})
		m.collectors = append(m.collectors, c)
		return c
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: name, Help: help}, labels)
		m.collectors = append(m.collectors, c)
		return c
	}
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) {
		m.collectors = append(m.collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: metricsNamespace, Subsystem: metricsSubsystem,
			Name: name, Help: help, ConstLabels: labels}, value))
	}
	m.verdicts = vec("messages_total", "Distinct messages, by kind of topic and what was made of them (known: announced again).", "kind", "verdict")
	m.published = vec("published_total", "Messages that this node sent of its own, repetitions included.", "kind")
	m.reannounced = vec("reannounced_total", "Messages that this node announced again.", "kind")
	m.unheard = vec("published_to_nobody_total", "Messages sent while no connected peer subscribed to their topic.", "kind")
	m.dropped = vec("dropped_total", "Messages and RPCs that were dropped, by reason: muted, unknown_peer, trespass, rate, signed, validate_queue, deliver_queue, outbound_queue; relay: taken, and not passed on.", "reason")
	for _, reason := range []string{"muted", "unknown_peer", "trespass", "rate", "signed", "validate_queue", "deliver_queue", "outbound_queue", "relay"} {
		m.dropped.WithLabelValues(reason) // shown as 0 rather than missing
	}
	m.offences = vec("offences_total", "What peers did and should not.", "offence")
	m.duplicates = counter("duplicates_total", "Messages that another peer had brought before.")
	m.sent = counter("messages_sent_total", "Copies of messages handed to peers' queues.")
	m.received = counter("messages_received_total", "Copies of messages received, duplicates included.")
	m.grafts = counter("grafts_total", "Peers taken into a mesh.")
	m.prunes = counter("prunes_total", "Peers taken out of a mesh.")
	m.mutes = counter("mutes_total", "Times that a peer was muted.")
	gauge("outbox_entries", "Announcements that are not done.", nil, func() float64 { n, _, _ := r.outbox.size(); return float64(n) })
	gauge("outbox_bytes", "Their payloads.", nil, func() float64 { _, n, _ := r.outbox.size(); return float64(n) })
	gauge("outbox_evicted", "Announcements that were given up because there were too many.", nil, func() float64 { _, _, n := r.outbox.size(); return float64(n) })
	gauge("deliver_queue", "Accepted messages that wait to be delivered.", nil, func() float64 { return float64(r.deliver.size()) })
	gauge("local_only", "1 while no other region is heard.", nil, func() float64 {
		if r.LocalOnly().Local {
			return 1
		}
		return 0
	})
	for _, state := range []string{"muted", "probation"} {
		gauge("peers_restrained", "Peers that the circuit breaker holds back, by state.", prometheus.Labels{"state": state}, func() float64 {
			muted, probation := r.standingCounts()
			if state == "muted" {
				return float64(muted)
			}
			return float64(probation)
		})
	}
	for i, level := range []string{"good", "low", "no_gossip", "no_publish", "graylisted"} {
		gauge("peers_by_score", "Peers by the threshold that their score is under.", prometheus.Labels{"level": level}, func() float64 {
			a, b, c, d, e := r.scoreCounts()
			return float64([]int{a, b, c, d, e}[i])
		})
	}
	return m
}

func (m *metrics) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	for i, c := range m.collectors {
		if err := reg.Register(c); err != nil {
			for _, done := range m.collectors[:i] {
				reg.Unregister(done)
			}
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

func (m *metrics) unregister(reg prometheus.Registerer) {
	if reg == nil {
		return
	}
	for _, c := range m.collectors {
		reg.Unregister(c)
	}
}
