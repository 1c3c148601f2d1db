package node

import (
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm"
)

// metrics are those of the node as a whole; the interface and the follower have their own.
type metrics struct {
	decided    *prometheus.CounterVec // by reject code: what the state machine made of proofs, on every voter
	commit     prometheus.Histogram
	apply      prometheus.Histogram
	layers     *prometheus.HistogramVec // by layer of the state machine
	batch      prometheus.Histogram
	refusedRPC prometheus.Counter
	overloaded prometheus.Counter
	clockOff   prometheus.Gauge
	leading    prometheus.Gauge
	snapshots  *prometheus.CounterVec
	persist    prometheus.Histogram
	seals      prometheus.Counter
	gauges     []prometheus.Collector
}

func newMetrics(n *Node) *metrics {
	const ns = "bizra"
	m := &metrics{
		decided:    prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: "fsm", Name: "proofs_total", Help: "Proofs applied by the state machine, by the name of their code."}, []string{"code"}),
		commit:     prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Subsystem: "raft", Name: "commit_seconds", Help: "From the proposal of a log entry to its result, on the leader.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}),
		apply:      prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Subsystem: "fsm", Name: "apply_seconds", Help: "One call of the state machine, on every voter: some Raft entries, decided and written.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 15)}),
		layers:     prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: ns, Subsystem: "fsm", Name: "layer_seconds", Help: "What one proof cost in a layer of the state machine, on every voter.", Buckets: prometheus.ExponentialBuckets(0.0000002, 4, 11)}, []string{"layer"}),
		batch:      prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Subsystem: "raft", Name: "batch_proofs", Help: "Proofs in one Raft log entry.", Buckets: prometheus.ExponentialBuckets(1, 2, 10)}),
		refusedRPC: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: "raft", Name: "rpcs_refused_total", Help: "Raft RPCs refused because of who sent them."}),
		overloaded: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: "raft", Name: "proofs_overloaded_total", Help: "Proofs turned away because the queue was full."}),
		clockOff:   prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: "raft", Name: "clock_offset_seconds", Help: "This leader's clock against the median of its voters' when it was last found too far off."}),
		leading:    prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: "raft", Name: "leading", Help: "1 while this node leads its region."}),
		snapshots:  prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: "raft", Name: "snapshots_total", Help: "Snapshots taken, by result."}, []string{"result"}),
		persist:    prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Subsystem: "raft", Name: "snapshot_seconds", Help: "Taking a snapshot: the state is made durable, and Raft's log is cut.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15)}),
		seals:      prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: "fsm", Name: "seals_total", Help: "Seals applied."}),
	}
	gauge := func(subsystem, name, help string, f func() float64) {
		m.gauges = append(m.gauges, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: ns, Subsystem: subsystem, Name: name, Help: help}, f))
	}
	status := func(f func(region.Status) float64) func() float64 {
		return func() float64 {
			if r := n.region.Load(); r != nil {
				return f(r.Status())
			}
			return 0
		}
	}
	gauge("ledger", "entries", "Entries of the ledger here.", func() float64 { return float64(n.feed.Size()) })
	gauge("raft", "term", "Raft term.", status(func(s region.Status) float64 { return float64(s.Term) }))
	gauge("raft", "commit_index", "Raft commit index.", status(func(s region.Status) float64 { return float64(s.CommitIndex) }))
	gauge("raft", "applied_index", "Raft index applied by the state machine.", status(func(s region.Status) float64 { return float64(s.AppliedIndex) }))
	gauge("raft", "last_contact_seconds", "Since this voter heard from its leader; 0 on the leader and on members.", status(func(s region.Status) float64 {
		if s.LastContact.IsZero() {
			return 0
		}
		return time.Since(s.LastContact).Seconds()
	}))
	for _, b := range []fsm.BreakerState{fsm.Throttled, fsm.Muted, fsm.Probation} {
		m.gauges = append(m.gauges, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: ns, Subsystem: "fsm", Name: "agents_limited",
			Help: "Agents whose breaker is not clear, by its state.", ConstLabels: prometheus.Labels{"breaker": b.String()}},
			func() float64 { return n.limitedIn(b) }))
	}
	gauge("federation", "document_version", "Version of the federation document in force here.", func() float64 { return float64(n.inForce().Version) })
	gauge("node", "ready", "1 while the node can serve.", func() float64 {
		if n.notReady() == "" {
			return 1
		}
		return 0
	})
	gauge("node", "peers_connected", "Peers connected.", func() float64 { return float64(len(n.host.Network().Peers())) })
	gauge("disk", "free_bytes", "Bytes free on the file system of the home, -1 if it does not say.", func() float64 {
		free, err := region.FreeBytes(n.home.Dir)
		if err != nil {
			return -1
		}
		return float64(free)
	})
	gauge("disk", "low", "1 while the disk is so full that this node takes no proofs when it leads.", status(func(s region.Status) float64 {
		if s.DiskLow {
			return 1
		}
		return 0
	}))
	return m
}

func (m *metrics) collectors() []prometheus.Collector {
	return append(m.gauges, m.decided, m.apply, m.layers, m.commit, m.batch, m.refusedRPC, m.overloaded, m.clockOff, m.leading, m.snapshots, m.persist, m.seals)
}

// layerTimer tells what layers cost. A state machine goes through one at a time, on one goroutine.
type layerTimer struct {
	costs []prometheus.Observer // by layer
	since time.Time
}

func (m *metrics) newLayerTimer() *layerTimer {
	t := &layerTimer{}
	for _, l := range fsm.Layers() {
		t.costs = append(t.costs, m.layers.WithLabelValues(l.String()))
	}
	return t
}

// Enter implements [fsm.Observer].
func (t *layerTimer) Enter(fsm.Layer) { t.since = time.Now() }

// Leave implements [fsm.Observer].
func (t *layerTimer) Leave(l fsm.Layer) { t.costs[l].Observe(time.Since(t.since).Seconds()) }

func (m *metrics) applied(res *fsm.Result) {
	for i := range res.Receipts {
		m.decided.WithLabelValues(res.Receipts[i].Code.String()).Inc()
	}
	if res.Seal != nil {
		m.seals.Inc()
	}
}

func (m *metrics) hooks() region.Hooks {
	return region.Hooks{
		RPCRefused: func(raft.ServerID, error) { m.refusedRPC.Inc() },
		Committed: func(proofs, _ int, took time.Duration) {
			m.batch.Observe(float64(proofs))
			m.commit.Observe(took.Seconds())
		},
		Overloaded: func(proofs int) { m.overloaded.Add(float64(proofs)) },
		Leading: func(leading bool) {
			m.leading.Set(0)
			if leading {
				m.leading.Set(1)
			}
		},
		ClockOff: func(offset time.Duration) { m.clockOff.Set(offset.Seconds()) },
		Snapshot: func(took time.Duration, err error) {
			result := "ok"
			if err != nil {
				result = "failed"
			} else {
				m.persist.Observe(took.Seconds())
			}
			m.snapshots.WithLabelValues(result).Inc()
		},
	}
}
