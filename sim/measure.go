package sim

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/gossip"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/sim/report"
)

// A commit counts as a round trip to the nearest majority of the region's own voters.
const localCommit = 2 * near

// measures are what is measured of a world while its workload runs.
type measures struct {
	world   *World
	numbers map[*Node]int
	began   time.Time
	traffic traffic
	copies  gossip.Copies // of certificates, when it began; in the end, since then

	mu     sync.Mutex
	said   map[string]said                // the last certificate that a region published
	sealed map[string]map[int64]time.Time // when the first voter had applied a seal, by region and entries
	spread map[string]map[int64]*arrivals // of certificates
}

// said is a certificate that sets out.
type said struct {
	first time.Time // when it was put together
	by    int       // the number of the node that did
}

// arrivals is when each node has learned of a certificate, by its number; zero: not yet.
type arrivals struct {
	said
	at    []time.Duration
	known []bool
	count int // of those that know
}

func newMeasures() *measures {
	return &measures{numbers: map[*Node]int{}, said: map[string]said{}, sealed: map[string]map[int64]time.Time{}, spread: map[string]map[int64]*arrivals{}}
}

// begin measures a world from now on.
func (m *measures) begin(w *World) {
	m.world, m.began = w, time.Now()
	for i, n := range w.All() {
		m.numbers[n] = i
	}
	m.traffic.counting.Store(true)
	m.copies = w.copies()
	w.Auditor.watchAll(m.observe)
}

// end stops counting the traffic; what is learned is noted on.
func (m *measures) end() {
	m.traffic.counting.Store(false)
	is := m.world.copies()
	// What a node counted before it went down is not among them.
	m.copies = gossip.Copies{Received: is.Received - min(is.Received, m.copies.Received), Duplicates: is.Duplicates - min(is.Duplicates, m.copies.Duplicates)}
}

// copies sums up what the nodes that are up have counted.
func (w *World) copies() (sum gossip.Copies) {
	for _, n := range w.All() {
		if up := n.Running(); up != nil {
			c := up.CertificateCopies()
			sum.Received, sum.Duplicates = sum.Received+c.Received, sum.Duplicates+c.Duplicates
		}
	}
	return sum
}

func (m *measures) observe(n *Node, res *fsm.Result, l *attest.Learned) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if res != nil && res.Seal != nil {
		note(m.sealed, n.Region, res.Seal.Size, time.Now)
	}
	if l != nil {
		a := note(m.spread, l.Origin, l.Size, func() *arrivals {
			by, ok := m.said[l.Origin]
			if !ok {
				by = said{time.Now(), m.numbers[n]}
			}
			return &arrivals{said: by, at: make([]time.Duration, len(m.numbers)), known: make([]bool, len(m.numbers))}
		})
		if i := m.numbers[n]; !a.known[i] {
			a.at[i], a.known[i] = time.Since(a.first), true
			a.count++
		}
	}
}

// heard notes when a certificate sets out.
func (m *measures) heard(n *Node, t attest.Topic) {
	if t.Name != attest.TopicCertificates {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said[n.Region] = said{time.Now(), m.numbers[n]}
}

// note makes what there is to remember of a region's ledger at a size, unless that is done.
func note[T any](of map[string]map[int64]T, region string, size int64, make1 func() T) T {
	if of[region] == nil {
		of[region] = map[int64]T{}
	}
	v, ok := of[region][size]
	if !ok {
		v = make1()
		of[region][size] = v
	}
	return v
}

// certificates counts those that were formed while it was measured.
func (m *measures) certificates() (count int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, of := range m.spread {
		count += len(of)
	}
	return count
}

// everywhere says whether every node that has been up all the time knows the newest certificate of
// each region that has one. A node that came back hears of the next one; and a region that lied may have
// ended in the middle of telling its newest, and tells nobody who asks.
func (m *measures) everywhere() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	lied := map[string]bool{}
	for n := range m.numbers {
		lied[n.Region] = lied[n.Region] || n.lies.Load() != nil
	}
	for region, of := range m.spread {
		if lied[region] {
			continue
		}
		sizes := sizesOf(of)
		newest := of[sizes[len(sizes)-1]]
		if newest.count == len(m.numbers) {
			continue
		}
		for n, i := range m.numbers {
			if n.Running() != nil && n.starts == 1 && n.honest() && !newest.known[i] {
				return false
			}
		}
	}
	return true
}

// settleUp gives each node that has skipped a certificate the time of the one after, which covers it.
func (m *measures) settleUp() {
	for _, of := range m.spread {
		sizes := sizesOf(of)
		for s := len(sizes) - 2; s >= 0; s-- {
			a, next := of[sizes[s]], of[sizes[s+1]]
			for i := range a.at {
				if next.known[i] && !a.known[i] {
					a.at[i], a.known[i] = next.first.Add(next.at[i]).Sub(a.first), true
				}
			}
		}
	}
}

func sizesOf[T any](of map[int64]T) (sizes []int64) {
	for size := range of {
		sizes = append(sizes, size)
	}
	slices.Sort(sizes)
	return sizes
}

// attestedAt is when the first certificate that covers an entry was known, false if there is none.
func (m *measures) attestedAt(region string, index int64) (at time.Time, ok bool) {
	for _, size := range sizesOf(m.spread[region]) {
		if size > index {
			return m.spread[region][size].first, true
		}
	}
	return at, false
}

// traffic counts what is written to streams, by protocol.
type traffic struct {
	counting atomic.Bool
	of       [protocolsCounted + 1]struct{ messages, bytes atomic.Int64 } // the last: any other
}

// protocolsCounted are those counted apart.
const protocolsCounted = 10

// counted lists them, what is written most first.
func counted() [protocolsCounted]protocol.ID {
	return [...]protocol.ID{p2p.ProtocolGossip, p2p.ProtocolEntries, p2p.ProtocolAttest, p2p.ProtocolRaft, p2p.ProtocolSubmit, p2p.ProtocolStatus,
		p2p.ProtocolRead, p2p.ProtocolJoin, p2p.ProtocolKeys, p2p.ProtocolCertificates}
}

// tap counts one write.
func (t *traffic) tap(_, _ peer.ID, proto protocol.ID, data []byte) {
	if !t.counting.Load() {
		return
	}
	protocols := counted()
	i := 0
	for i < len(protocols) && protocols[i] != proto {
		i++
	}
	t.of[i].messages.Add(1)
	t.of[i].bytes.Add(int64(len(data)))
}

func (t *traffic) messages() (sum int64) {
	for i := range t.of {
		sum += t.of[i].messages.Load()
	}
	return sum
}

// report fills in what was counted.
func (m *measures) report(nodes, certificates int) (r report.Traffic) {
	t := &m.traffic
	var bytes int64
	protocols := counted()
	for i := range t.of {
		p := report.Protocol{Name: "other", Messages: t.of[i].messages.Load(), Bytes: t.of[i].bytes.Load()}
		if i < len(protocols) {
			p.Name = string(protocols[i]) //nolint:gosec // i is looked at above
		}
		if p.Messages > 0 {
			r.Protocols = append(r.Protocols, p)
		}
		bytes += p.Bytes
	}
	r.MessagesPerNode, r.BytesPerNode = float64(t.messages())/float64(nodes), float64(bytes)/float64(nodes)
	r.Copies, r.Duplicates = int64(m.copies.Received), int64(m.copies.Duplicates) //nolint:gosec // counts of one run
	if certificates > 0 {
		r.CopiesPerNodeCertificate = float64(r.Copies) / float64(nodes*certificates)
	}
	if delivered := r.Copies - r.Duplicates; delivered > 0 {
		r.DuplicatesPerDelivery = float64(r.Duplicates) / float64(delivered)
	}
	return r
}

// routers counts the GossipSub routers that run: one in each node that is up.
func (w *World) routers() (count int) {
	for _, n := range w.All() {
		if n.Running() != nil {
			count++
		}
	}
	return count
}
