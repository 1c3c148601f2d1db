package tally

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// Counter counts up, from 0 in its zero value. Safe for concurrent use.
type Counter struct{ bits atomic.Uint64 }

// Inc counts one.
func (c *Counter) Inc() { c.Add(1) }

// Add counts n, which is not negative.
func (c *Counter) Add(n float64) {
	for {
		was := c.bits.Load()
		if c.bits.CompareAndSwap(was, math.Float64bits(math.Float64frombits(was)+n)) {
			return
		}
	}
}

// Value is the count.
func (c *Counter) Value() float64 { return math.Float64frombits(c.bits.Load()) }

// Gauge is a number that comes and goes, 0 in its zero value. Safe for concurrent use.
type Gauge struct{ Counter }

// Set makes it v.
func (g *Gauge) Set(v float64) { g.bits.Store(math.Float64bits(v)) }

// labelsMax is how many labels a vector may have.
const labelsMax = 2

// Counters are counters told apart by the values of up to two labels, each from a closed set: they are
// looked for one by one. The zero value has none. Safe for concurrent use.
type Counters struct {
	mu   sync.Mutex
	list []*labelled
}

type labelled struct {
	labels [labelsMax]string
	Counter
}

// With gives the counter of these labels, which shows from then on.
func (v *Counters) With(labels ...string) *Counter {
	var key [labelsMax]string
	copy(key[:], labels)
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, l := range v.list {
		if l.labels == key {
			return &l.Counter
		}
	}
	l := &labelled{labels: key}
	v.list = append(v.list, l)
	return &l.Counter
}

func (v *Counters) all() []*labelled {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.list)
}

// Buckets are those of a histogram: the first one's upper bound, by what each further one's is
// greater, and how many there are.
type Buckets struct {
	First, Factor float64
	Count         int
}

// Histogram counts observations by size. It takes no memory for its buckets before the first. Safe for concurrent use.
type Histogram struct {
	mu     sync.Mutex
	counts []uint64 // by bucket, of those that fit no smaller one
	sum    float64
	total  uint64
}

// Observe counts one observation into the buckets, which are always the same.
func (h *Histogram) Observe(b Buckets, v float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.counts == nil {
		h.counts = make([]uint64, b.Count)
	}
	h.total++
	h.sum += v
	for i, bound := 0, b.First; i < len(h.counts); i, bound = i+1, bound*b.Factor {
		if v <= bound {
			h.counts[i]++
			return
		}
	}
}

// cumulative gives the counts as Prometheus wants them: by upper bound, of all that fit.
func (h *Histogram) cumulative(b Buckets) (byBound map[float64]uint64, sum float64, total uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	byBound = make(map[float64]uint64, b.Count)
	var below uint64
	for i, bound := 0, b.First; i < b.Count; i, bound = i+1, bound*b.Factor {
		if i < len(h.counts) {
			below += h.counts[i]
		}
		byBound[bound] = below
	}
	return byBound, h.sum, h.total
}
