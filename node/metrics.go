package node

import (
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/internal/tally"
)

// metrics are those of the node as a whole; the interface and the follower have their own.
type metrics struct {
	*tally.Figures
	decided    tally.Counters // by reject code: what the state machine made of proofs, on every voter
	commit     tally.Histogram
	apply      tally.Histogram
	layers     []tally.Histogram // by layer of the state machine
	batch      tally.Histogram
	refusedRPC tally.Counter
	overloaded tally.Counter
	clockOff   tally.Gauge
	leading    tally.Gauge
	snapshots  tally.Counters
	persist    tally.Histogram
	seals      tally.Counter
}

// What is observed falls into these, in seconds or proofs.
func commitBuckets() tally.Buckets  { return tally.Buckets{First: 0.0005, Factor: 2, Count: 14} }
func applyBuckets() tally.Buckets   { return tally.Buckets{First: 0.0001, Factor: 2, Count: 15} }
func layerBuckets() tally.Buckets   { return tally.Buckets{First: 0.0000002, Factor: 4, Count: 11} }
func batchBuckets() tally.Buckets   { return tally.Buckets{First: 1, Factor: 2, Count: 10} }
func persistBuckets() tally.Buckets { return tally.Buckets{First: 0.001, Factor: 2, Count: 15} }

func newMetrics(n *Node) *metrics {
	m := &metrics{layers: make([]tally.Histogram, len(fsm.Layers()))}
	m.Figures = tally.New("bizra", nil, func(s *tally.Sheet) {
		m.counts(s)
		n.raftGauges(s)
		n.gauges(s)
	})
	return m
}

func (m *metrics) counts(s *tally.Sheet) {
	s.Counters("fsm_proofs_total", "Proofs applied by the state machine, by the name of their code.", &m.decided, "code")
	s.Histogram("raft_commit_seconds", "From the proposal of a log entry to its result, on the leader.", commitBuckets(), &m.commit)
	s.Histogram("fsm_apply_seconds", "One call of the state machine, on every voter: some Raft entries, decided and written.", applyBuckets(), &m.apply)
	s.Histograms("fsm_layer_seconds", "What one proof cost in a layer of the state machine, on every voter.", layerBuckets(), "layer",
		func(yield func(string, *tally.Histogram) bool) {
			for _, l := range fsm.Layers() {
				if !yield(l.String(), &m.layers[l]) {
					return
				}
			}
		})
	s.Histogram("raft_batch_proofs", "Proofs in one Raft log entry.", batchBuckets(), &m.batch)
	s.Counter("raft_rpcs_refused_total", "Raft RPCs refused because of who sent them.", &m.refusedRPC)
	s.Counter("raft_proofs_overloaded_total", "Proofs turned away because the queue was full.", &m.overloaded)
	s.Gauge("raft_clock_offset_seconds", "This leader's clock against the median of its voters' when it was last found too far off.", m.clockOff.Value)
	s.Gauge("raft_leading", "1 while this node leads its region.", m.leading.Value)
	s.Counters("raft_snapshots_total", "Snapshots taken, by result.", &m.snapshots, "result")
	s.Histogram("raft_snapshot_seconds", "Taking a snapshot: the state is made durable, and Raft's log is cut.", persistBuckets(), &m.persist)
	s.Counter("fsm_seals_total", "Seals applied.", &m.seals)
}

func (n *Node) raftGauges(s *tally.Sheet) {
	gauge := func(name, help string, f func(region.Status) float64) {
		s.Gauge(name, help, func() float64 {
			if r := n.region.Load(); r != nil {
				return f(r.Status())
			}
			return 0
		})
	}
	gauge("raft_term", "Raft term.", func(s region.Status) float64 { return float64(s.Term) })
	gauge("raft_commit_index", "Raft commit index.", func(s region.Status) float64 { return float64(s.CommitIndex) })
	gauge("raft_applied_index", "Raft index applied by the state machine.", func(s region.Status) float64 { return float64(s.AppliedIndex) })
	gauge("raft_last_contact_seconds", "Since this voter heard from its leader; 0 on the leader and on members.", func(s region.Status) float64 {
		if s.LastContact.IsZero() {
			return 0
		}
		return time.Since(s.LastContact).Seconds()
	})
	gauge("disk_low", "1 while the disk is so full that this node takes no proofs when it leads.", func(s region.Status) float64 {
		if s.DiskLow {
			return 1
		}
		return 0
	})
}

func (n *Node) gauges(s *tally.Sheet) {
	s.Gauge("ledger_entries", "Entries of the ledger here.", func() float64 { return float64(n.feed.Size()) })
	for _, b := range []fsm.BreakerState{fsm.Throttled, fsm.Muted, fsm.Probation} {
		s.GaugeOf("fsm_agents_limited", "Agents whose breaker is not clear, by its state.", prometheus.Labels{"breaker": b.String()},
			func() float64 { return n.limitedIn(b) })
	}
	s.Gauge("federation_document_version", "Version of the federation document in force here.", func() float64 { return float64(n.inForce().Version) })
	s.Gauge("node_ready", "1 while the node can serve.", func() float64 {
		if n.notReady() == "" {
			return 1
		}
		return 0
	})
	s.Gauge("node_peers_connected", "Peers connected.", func() float64 { return float64(len(n.host.Network().Peers())) })
	s.Gauge("disk_free_bytes", "Bytes free on the file system of the home, -1 if it does not say.", func() float64 {
		free, err := region.FreeBytes(n.home.Dir)
		if err != nil {
			return -1
		}
		return float64(free)
	})
}

// layerTimer tells what layers cost. A state machine goes through one at a time, on one goroutine.
type layerTimer struct {
	costs []tally.Histogram // by layer
	since time.Time
}

func (m *metrics) newLayerTimer() *layerTimer { return &layerTimer{costs: m.layers} }

// Enter implements [fsm.Observer].
func (t *layerTimer) Enter(fsm.Layer) { t.since = time.Now() }

// Leave implements [fsm.Observer].
func (t *layerTimer) Leave(l fsm.Layer) {
	t.costs[l].Observe(layerBuckets(), time.Since(t.since).Seconds())
}

func (m *metrics) applied(res *fsm.Result) {
	for i := range res.Receipts {
		m.decided.With(res.Receipts[i].Code.String()).Inc()
	}
	if res.Seal != nil {
		m.seals.Inc()
	}
}

func (m *metrics) hooks() region.Hooks {
	return region.Hooks{
		RPCRefused: func(raft.ServerID, error) { m.refusedRPC.Inc() },
		Committed: func(proofs, _ int, took time.Duration) {
			m.batch.Observe(batchBuckets(), float64(proofs))
			m.commit.Observe(commitBuckets(), took.Seconds())
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
				m.persist.Observe(persistBuckets(), took.Seconds())
			}
			m.snapshots.With(result).Inc()
		},
	}
}
