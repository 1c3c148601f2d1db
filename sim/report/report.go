package report

import (
	"math"
	"slices"
	"time"
)

// Schema is the version of the JSON form; a change that a reader would stumble over raises it.
const Schema = "bizra-sim/1"

// EngineReal is the engine that runs the nodes themselves.
const EngineReal = "real"

// Report is what one run has to say.
type Report struct {
	Schema   string `json:"schema"`
	Engine   string `json:"engine"`
	Scenario string `json:"scenario"`
	Seed     uint64 `json:"seed"`
	// Interrupted says that the run was ended before its plan was.
	Interrupted bool   `json:"interrupted"`
	Failure     string `json:"failure,omitempty"` // what the run could not go on for

	Nodes   int `json:"nodes"` // that were started
	Regions int `json:"regions"`
	Voters  int `json:"voters"`
	Members int `json:"members"`
	Routers int `json:"gossip_routers"` // GossipSub routers that ran

	Certificates  int       `json:"certificates"`   // that were formed while it was measured
	PropagationMS Quantiles `json:"propagation_ms"` // from a certificate's assembly to every node
	LimitMS       float64   `json:"limit_ms"`       // the 99th percentile that light would allow: shortest paths through the latencies
	Ratio         float64   `json:"ratio"`          // of propagation's 99th percentile to it

	Proofs  Proofs   `json:"proofs"`
	Timings []Timing `json:"timings"`
	Spread  Spread   `json:"spread"`
	Traffic Traffic  `json:"traffic"`
	Memo    []Memo   `json:"memo"`

	VirtualSeconds float64 `json:"virtual_seconds"`
	WallSeconds    float64 `json:"wall_seconds"`
	CPUSeconds     float64 `json:"cpu_seconds"`
	PeakRSSBytes   int64   `json:"peak_rss_bytes"`
	GoroutinesMax  int     `json:"goroutines_max"`
	Phases         []Phase `json:"phases"` // in their order; together all of the run
	Machine        Machine `json:"machine"`

	Violations int         `json:"violations"`
	Broken     []Violation `json:"broken"`
	Invariants []Invariant `json:"invariants"`
	Findings   []string    `json:"findings"` // what the scenario is there to find, and the run has found
	Faults     []Fault     `json:"faults"`
	Settings   []Setting   `json:"settings"`

	ByRegion []Region `json:"by_region"`
	Timeline []Moment `json:"timeline"`
	Events   []Event  `json:"events"`

	// Cost is what runs of other sizes took, where there were some.
	Cost *Cost `json:"cost,omitempty"`
}

// OK says that the run did what it set out to, and that no promise broke.
func (r *Report) OK() bool { return !r.Interrupted && r.Failure == "" && r.Violations == 0 }

// Phase is what a part of the run took of the machine.
type Phase struct {
	Name        string  `json:"name"`
	WallSeconds float64 `json:"wall_seconds"`
	CPUSeconds  float64 `json:"cpu_seconds"`
}

// Quantiles of what was measured, in milliseconds where nothing else is said. All are 0 of nothing.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Rank is the nearest-rank quantile of sorted values.
func Rank[T any](sorted []T, q float64) (v T) {
	if len(sorted) == 0 {
		return v
	}
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[max(0, min(i, len(sorted)-1))]
}

// QuantilesOf sorts durations and gives their quantiles in milliseconds.
func QuantilesOf(d []time.Duration) Quantiles {
	slices.Sort(d)
	return Quantiles{Millis(Rank(d, 0.5)), Millis(Rank(d, 0.9)), Millis(Rank(d, 0.99)), Millis(Rank(d, 1))}
}

// Millis is a duration in milliseconds.
func Millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Proofs counts what the workload handed to nodes.
type Proofs struct {
	Submitted int `json:"submitted"`
	Committed int `json:"committed"` // acknowledged by their region
	Attested  int `json:"attested"`  // committed, and under a certificate
	Refused   int `json:"refused"`   // by a gate
	Failed    int `json:"failed"`    // no answer: the node was down, or knew no leader in time
}

// Timing is how long something took, beside the least that it could.
type Timing struct {
	Name  string    `json:"name"`
	What  string    `json:"what"` // from when to when
	Count int       `json:"count"`
	Took  Quantiles `json:"took_ms"`
	Limit Quantiles `json:"limit_ms"` // of the same items; all 0 where there is no limit but 0
	// Ratio is the median of the items' own ratios where each has its limit, else 0.
	Ratio float64 `json:"ratio"`
}

// Spread is how certificates reached the nodes: pairs of a certificate and a node other than
// those of which it set out.
type Spread struct {
	Pairs   int `json:"pairs"`
	Missing int `json:"missing"` // pairs that never met, of nodes that were up in the end
	// WithinPart is the part of the pairs within WithinFactor times the direct way and 10 ms.
	WithinFactor float64 `json:"within_factor"`
	WithinPart   float64 `json:"within_part"`
	// NearPairs are those whose limit is under 80 ms; NearLate of them took 100 ms or longer.
	NearPairs int     `json:"near_pairs"`
	NearLate  int     `json:"near_late"`
	Curve     []Point `json:"curve"` // part of the pairs reached, over time
	Limit     []Point `json:"limit"` // the same, if each went by the shortest path
}

// Point is a part of all, from 0 to 1, that is reached within a time.
type Point struct {
	MS   float64 `json:"ms"`
	Part float64 `json:"part"`
}

// Traffic is what crossed the network while it was measured.
type Traffic struct {
	MessagesPerNode float64    `json:"messages_per_node"` // writes to streams
	BytesPerNode    float64    `json:"bytes_per_node"`
	Protocols       []Protocol `json:"protocols"`
	// Copies of certificates that gossip brought to nodes; Duplicates of them they had already.
	Copies                   int64   `json:"certificate_copies"`
	Duplicates               int64   `json:"certificate_duplicates"`
	CopiesPerNodeCertificate float64 `json:"copies_per_node_and_certificate"`
	DuplicatesPerDelivery    float64 `json:"duplicates_per_delivery"`
}

// Protocol is the part of one protocol in the traffic.
type Protocol struct {
	Name     string `json:"name"`
	Messages int64  `json:"messages"`
	Bytes    int64  `json:"bytes"`
}

// Memo counts computations of one kind: those that were really made, and those whose result was
// taken from an identical one.
type Memo struct {
	Kind     string `json:"kind"`
	Real     int64  `json:"real"`
	Memoised int64  `json:"memoised"`
}

// Machine is what the run ran on.
type Machine struct {
	CPUs   int    `json:"cpus"`
	Model  string `json:"model"`
	Memory int64  `json:"memory_bytes"`
	Go     string `json:"go"`
	OS     string `json:"os"`
	Arch   string `json:"arch"`
}

// Violation is a promise that was found broken.
type Violation struct {
	Invariant string  `json:"invariant"`
	At        float64 `json:"at_seconds"` // virtual
	What      string  `json:"what"`
	Last      []Event `json:"last"` // that happened before it was found, since the world began
}

// Invariant is a promise, and how often it was checked.
type Invariant struct {
	Name       string `json:"name"`
	Checks     int    `json:"checks"`
	Violations int    `json:"violations"`
}

// Fault is something that was made to go wrong.
type Fault struct {
	Name       string  `json:"name"`
	Count      int     `json:"count"`
	TookEffect bool    `json:"took_effect"`
	From       float64 `json:"from_seconds"` // virtual, since the workload began
	Until      float64 `json:"until_seconds"`
}

// Setting is one that differs from what cmd/bizra runs with.
type Setting struct {
	Name      string `json:"name"`
	Simulated string `json:"simulated"`
	Default   string `json:"default"`
	Why       string `json:"why"`
}

// Region is one region's part.
type Region struct {
	Name         string  `json:"name"`
	Place        string  `json:"place"` // cloud region
	Certificates int     `json:"certificates"`
	MedianMS     float64 `json:"certificate_ms"` // from the seal to its certificate, the median
	LimitMS      float64 `json:"limit_ms"`       // the round trip that completes a quorum, and two commits
	LastMS       float64 `json:"last_node_ms"`   // until the last node had it, the median
}

// Moment is the state of things at a time of the run.
type Moment struct {
	At        float64 `json:"at_seconds"` // virtual, since the workload began
	NodesUp   int     `json:"nodes_up"`
	Submitted int     `json:"submitted"`
	Committed int     `json:"committed"`
	Attested  int     `json:"attested"`
	Messages  int64   `json:"messages"`
}

// Event is something that happened in the run.
type Event struct {
	At   float64 `json:"at_seconds"` // virtual, since the workload began
	What string  `json:"what"`
}
