package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/sim/report"
)

// The yardsticks of a certificate's spread.
const (
	spreadFactor = 1.25
	spreadMargin = 10 * time.Millisecond
	nearLimit    = 80 * time.Millisecond
	nearBound    = 100 * time.Millisecond
	curvePoints  = 100
)

// report says what the run found.
func (r *run) report() *report.Report {
	cfg := r.plan.Config
	voters := cfg.Regions * cfg.Voters
	rep := &report.Report{Schema: report.Schema, Engine: report.EngineReal, Scenario: r.plan.Name, Seed: cfg.Seed, Nodes: cfg.nodes(),
		Regions: cfg.Regions, Voters: voters, Members: cfg.nodes() - voters, Routers: r.routers, VirtualSeconds: r.lasted.Seconds(),
		Violations: len(r.broken), Broken: r.broken, Findings: r.findings, Faults: r.faults, Settings: settings(r.plan), Timeline: r.moments, Events: r.events,
		Invariants: r.invariants(), Memo: r.memoised(), Machine: machine()}
	if r.work == nil {
		return rep // it ended before there was anything to measure
	}
	m := r.measure
	m.settleUp()
	rep.Certificates = m.certificates()
	rep.Proofs = r.work.counts()
	rep.Traffic = m.report(rep.Nodes, rep.Certificates)
	pairs := m.pairs(r.latencies())
	spread := pairs.timing()
	rep.Spread, rep.PropagationMS, rep.LimitMS = pairs.spread(), spread.Took, spread.Limit.P99
	if rep.LimitMS > 0 {
		rep.Ratio = rep.PropagationMS.P99 / rep.LimitMS
	}
	regions, certified := m.regions(r.latencies(), cfg.Regions)
	rep.ByRegion = regions
	rep.Timings = []report.Timing{r.committed(), certified, spread, r.everywhere()}
	return rep
}

// committed is how long proofs took to be acknowledged.
func (r *run) committed() report.Timing {
	return report.Timing{Name: "commit", What: "proof handed to a node → its receipt", Count: len(r.work.took), Took: report.QuantilesOf(r.work.took),
		Limit: report.QuantilesOf([]time.Duration{localCommit})}
}

// everywhere is how long it took from handing over a proof until a certificate covered it.
func (r *run) everywhere() report.Timing {
	var took []time.Duration
	for i, x := range r.work.acked {
		if at, ok := r.measure.attestedAt(x.region, x.index); ok {
			took = append(took, at.Sub(r.work.given[i]))
		}
	}
	return report.Timing{Name: "attested", What: "proof handed to a node → a certificate covers it", Count: len(took), Took: report.QuantilesOf(took)}
}

// latencies are those of the run, and the least that they allow.
type latencies struct {
	direct, shortest func(from, to string) time.Duration
	place            func(region string) string
	names            []string
}

func (r *run) latencies() latencies {
	direct := r.plan.Config.Latency
	l := latencies{direct: direct, shortest: direct, names: r.world.names, place: func(string) string { return "" }}
	if p := r.plan.Placement; p != nil {
		l.shortest, l.place = p.Limit, p.Place
	}
	return l
}

// floor is the round trip to the region that completes the quorum, with two local commits.
func (l latencies) floor(region string) time.Duration {
	var trips []time.Duration
	for _, other := range l.names {
		if other != region {
			trips = append(trips, l.direct(region, other)+l.direct(other, region))
		}
	}
	slices.Sort(trips)
	if need := federation.Quorum(len(l.names)) - 1; need > 0 {
		return trips[need-1] + 2*localCommit
	}
	return 2 * localCommit
}

// pair is a certificate and a node that it reached.
type pair struct{ took, direct, shortest time.Duration }

type pairs struct {
	all     []pair
	missing int
}

// pairs are those of all certificates and nodes, but the ones that put them together.
func (m *measures) pairs(l latencies) (p pairs) {
	byNumber := make([]*Node, len(m.numbers))
	for n, i := range m.numbers {
		byNumber[i] = n
	}
	for region, of := range m.spread {
		for _, a := range of {
			for i, n := range byNumber {
				switch {
				case a.known[i] && n.Region == region && i == a.by:
				case a.known[i]:
					p.all = append(p.all, pair{a.at[i], l.direct(region, n.Region), l.shortest(region, n.Region)})
				case n.Running() != nil && n.starts == 1:
					p.missing++
				}
			}
		}
	}
	return p
}

// took, limit and ratio of the pairs.
func (p pairs) timing() report.Timing {
	took, limit, ratio := make([]time.Duration, len(p.all)), make([]time.Duration, len(p.all)), make([]float64, len(p.all))
	for i, x := range p.all {
		took[i], limit[i], ratio[i] = x.took, x.shortest, float64(x.took)/float64(max(1, x.shortest))
	}
	slices.Sort(ratio)
	return report.Timing{Name: "every node", What: "certificate put together → a node has verified it", Count: len(p.all), Took: report.QuantilesOf(took),
		Limit: report.QuantilesOf(limit), Ratio: report.Rank(ratio, 0.5)}
}

func (p pairs) spread() report.Spread {
	s := report.Spread{Pairs: len(p.all), Missing: p.missing, WithinFactor: spreadFactor}
	within := 0
	took, limit := make([]time.Duration, len(p.all)), make([]time.Duration, len(p.all))
	for i, x := range p.all {
		took[i], limit[i] = x.took, x.shortest
		if float64(x.took) <= spreadFactor*float64(x.direct)+float64(spreadMargin) {
			within++
		}
		if x.shortest < nearLimit {
			s.NearPairs++
			if x.took >= nearBound {
				s.NearLate++
			}
		}
	}
	if len(p.all) > 0 {
		s.WithinPart = float64(within) / float64(len(p.all))
	}
	s.Curve, s.Limit = curve(took, p.missing), curve(limit, 0)
	return s
}

// curve is how the part of the pairs reached grows.
func curve(took []time.Duration, missing int) (points []report.Point) {
	slices.Sort(took)
	all := float64(len(took) + missing)
	for i := range curvePoints + 1 {
		if len(took) == 0 {
			break
		}
		k := i * (len(took) - 1) / curvePoints
		points = append(points, report.Point{MS: report.Millis(took[k]), Part: float64(k+1) / all})
	}
	return points
}

// regions tells of each region that has certificates, and how long those took.
func (m *measures) regions(l latencies, count int) (list []report.Region, all report.Timing) {
	var took, limits []time.Duration
	var ratios []float64
	for _, name := range l.names {
		r := report.Region{Name: name, Place: l.place(name), Certificates: len(m.spread[name]), LimitMS: report.Millis(l.floor(name))}
		var own, last []time.Duration
		for size, a := range m.spread[name] {
			last = append(last, slices.Max(a.at))
			at, ok := m.sealed[name][size]
			if !ok {
				continue
			}
			// The seal was committed half a commit before a voter had applied it at the soonest.
			d := a.first.Sub(at) + localCommit
			own, took, limits = append(own, d), append(took, d), append(limits, l.floor(name))
			ratios = append(ratios, float64(d)/float64(l.floor(name)))
		}
		r.MedianMS, r.LastMS = report.QuantilesOf(own).P50, report.QuantilesOf(last).P50
		list = append(list, r)
	}
	slices.Sort(ratios)
	return list, report.Timing{Name: "certificate", What: fmt.Sprintf("seal proposed → certificate of %d of %d regions", federation.Quorum(count), count),
		Count: len(took), Took: report.QuantilesOf(took), Limit: report.QuantilesOf(limits), Ratio: report.Rank(ratios, 0.5)}
}

// memoised says what was computed, and what taken from an identical computation.
func (r *run) memoised() (list []report.Memo) {
	for _, kind := range slices.Sorted(maps.Keys(r.memo)) {
		list = append(list, report.Memo{Kind: kind, Real: r.memo[kind].Real, Memoised: r.memo[kind].Memoised})
	}
	return list
}

// invariants are what was checked, and how often.
func (r *run) invariants() (list []report.Invariant) {
	if r.world == nil {
		return nil
	}
	for _, i := range r.world.Auditor.Invariants() {
		x := report.Invariant{Name: i.Name(), Checks: i.Checks()}
		for _, v := range r.broken {
			if v.Invariant == i.Name() {
				x.Violations++
			}
		}
		list = append(list, x)
	}
	return list
}
