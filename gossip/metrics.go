package gossip

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/internal/tally"
)

const metricsPrefix = "bizra_gossip"

// metrics are what the router has counted; the rest is worked out when it is asked for.
type metrics struct {
	*tally.Figures
	verdicts    tally.Counters // kind, verdict
	published   tally.Counters // kind
	reannounced tally.Counters // kind
	unheard     tally.Counters // kind
	dropped     tally.Counters // reason
	offences    tally.Counters // offence
	duplicates  tally.Counter
	sent        tally.Counter
	received    tally.Counter
	grafts      tally.Counter
	prunes      tally.Counter
	mutes       tally.Counter
}

func newMetrics(r *Router) *metrics {
	m := &metrics{}
	m.Figures = tally.New(metricsPrefix, nil, func(s *tally.Sheet) {
		m.counts(s)
		r.gauges(s)
	})
	for _, reason := range []string{"muted", "unknown_peer", "trespass", "rate", "signed", "validate_queue", "deliver_queue", "outbound_queue", "relay"} {
		m.dropped.With(reason) // shown as 0 rather than missing
	}
	return m
}

func (m *metrics) counts(s *tally.Sheet) {
	s.Counters("messages_total", "Distinct messages, by kind of topic and what was made of them (known: announced again).", &m.verdicts, "kind", "verdict")
	s.Counters("published_total", "Messages that this node sent of its own, repetitions included.", &m.published, "kind")
	s.Counters("reannounced_total", "Messages that this node announced again.", &m.reannounced, "kind")
	s.Counters("published_to_nobody_total", "Messages sent while no connected peer subscribed to their topic.", &m.unheard, "kind")
	s.Counters("dropped_total", "Messages and RPCs that were dropped, by reason: muted, unknown_peer, trespass, rate, signed, validate_queue, deliver_queue, outbound_queue; relay: taken, and not passed on.", &m.dropped, "reason")
	s.Counters("offences_total", "What peers did and should not.", &m.offences, "offence")
	s.Counter("duplicates_total", "Messages that another peer had brought before.", &m.duplicates)
	s.Counter("messages_sent_total", "Copies of messages handed to peers' queues.", &m.sent)
	s.Counter("messages_received_total", "Copies of messages received, duplicates included.", &m.received)
	s.Counter("grafts_total", "Peers taken into a mesh.", &m.grafts)
	s.Counter("prunes_total", "Peers taken out of a mesh.", &m.prunes)
	s.Counter("mutes_total", "Times that a peer was muted.", &m.mutes)
}

func (r *Router) gauges(s *tally.Sheet) {
	s.Gauge("outbox_entries", "Announcements that are not done.", func() float64 { n, _, _ := r.outbox.size(); return float64(n) })
	s.Gauge("outbox_bytes", "Their payloads.", func() float64 { _, n, _ := r.outbox.size(); return float64(n) })
	s.Gauge("outbox_evicted", "Announcements that were given up because there were too many.", func() float64 { _, _, n := r.outbox.size(); return float64(n) })
	s.Gauge("deliver_queue", "Accepted messages that wait to be delivered.", func() float64 { return float64(r.deliver.size()) })
	s.Gauge("local_only", "1 while no other region is heard.", func() float64 {
		if r.LocalOnly().Local {
			return 1
		}
		return 0
	})
	for _, state := range []string{"muted", "probation"} {
		s.GaugeOf("peers_restrained", "Peers that the circuit breaker holds back, by state.", prometheus.Labels{"state": state}, func() float64 {
			muted, probation := r.standingCounts()
			if state == "muted" {
				return float64(muted)
			}
			return float64(probation)
		})
	}
	for i, level := range []string{"good", "low", "no_gossip", "no_publish", "graylisted"} {
		s.GaugeOf("peers_by_score", "Peers by the threshold that their score is under.", prometheus.Labels{"level": level}, func() float64 {
			a, b, c, d, e := r.scoreCounts()
			return float64([]int{a, b, c, d, e}[i])
		})
	}
}
