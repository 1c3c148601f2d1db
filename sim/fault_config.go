package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// FaultConfig says what goes wrong, and whom it befalls. A zero field takes the default named at it.
type FaultConfig struct {
	Kind string // one of FaultKinds
	Seed uint64 // draws whom it befalls, and what of it is left to chance

	Regions int     // how many it befalls; 1
	Share   float64 // of the regions, instead, rounded down, at least 1
	Named   []string
	Whom    string  // of faults of nodes: leaders, voters, members, all; the kind's own
	Nodes   int     // of each of the regions; 1
	Part    float64 // of its members, instead, rounded down, at least 1; of writes, of faults of links
	Turn    int     // of a fault that repeats: each time the next node, from 1; 0 draws

	Delay time.Duration // how late, how slow, how far ahead; the kind's own
}

// Limits of a fault.
const (
	FaultDelayMax = time.Hour
	FaultNodesMax = MembersMax
)

// Whom faults of nodes befall.
const (
	Leaders = "leaders"
	Voters  = "voters"
	Members = "members"
	All     = "all"
)

// kind is what is known of a kind of fault.
type kind struct {
	what  string // for people
	whom  string // by default; "": it is not nodes that it befalls
	delay time.Duration
	part  float64
	// everywhere says that all regions are befallen where nothing else is said.
	everywhere bool
	make       func(b *befall) Fault
}

// kinds are all that can go wrong.
func kinds() map[string]kind {
	all := map[string]kind{}
	for _, some := range []map[string]kind{nodeFaults(), linkFaults(), diskFaults(), regionFaults(), peerFaults()} {
		for name, k := range some {
			all[name] = k
		}
	}
	return all
}

// FaultKinds lists the kinds of faults, each with what it is.
func FaultKinds() map[string]string {
	list := map[string]string{}
	for name, k := range kinds() {
		list[name] = k.what
	}
	return list
}

// NewFault makes a fault.
func NewFault(cfg FaultConfig) (Fault, error) {
	k, ok := kinds()[cfg.Kind]
	if !ok {
		var names []string
		for name := range kinds() {
			names = append(names, name)
		}
		slices.Sort(names)
		return nil, fmt.Errorf("no fault is called %q: %s", cfg.Kind, strings.Join(names, ", "))
	}
	switch {
	case cfg.Regions < 0 || cfg.Regions > RegionsMax:
		return nil, fmt.Errorf("regions is %d: from 1 to %d", cfg.Regions, RegionsMax)
	case !isPart(cfg.Share):
		return nil, fmt.Errorf("share is %v: a part of all regions, from 0 to 1", cfg.Share)
	case !isPart(cfg.Part):
		return nil, fmt.Errorf("part is %v: from 0 to 1", cfg.Part)
	case cfg.Nodes < 0 || cfg.Nodes > FaultNodesMax:
		return nil, fmt.Errorf("nodes is %d: from 1 to %d of each region", cfg.Nodes, FaultNodesMax)
	case cfg.Delay.Abs() > FaultDelayMax:
		return nil, fmt.Errorf("delay is %v: at most %v", cfg.Delay, FaultDelayMax)
	case cfg.Whom != "" && k.whom == "":
		return nil, fmt.Errorf("%s does not befall nodes: leave whom out", cfg.Kind)
	case cfg.Whom != "" && !slices.Contains([]string{Leaders, Voters, Members, All}, cfg.Whom):
		return nil, fmt.Errorf("whom is %q: %s, %s, %s or %s", cfg.Whom, Leaders, Voters, Members, All)
	}
	if cfg.Whom == "" {
		cfg.Whom = k.whom
	}
	if cfg.Delay == 0 {
		cfg.Delay = k.delay
	}
	if k.everywhere && cfg.Regions == 0 && cfg.Share == 0 && len(cfg.Named) == 0 {
		cfg.Share = 1
	}
	if cfg.Part == 0 {
		cfg.Part = k.part
	}
	return k.make(&befall{cfg: cfg, draw: &draws{rng: rand.New(rand.NewPCG(cfg.Seed, uint64(cfg.Turn)))}}), nil //nolint:gosec // draws faults, guards no secret
}

// isPart is false of what is no number, too.
func isPart(x float64) bool { return x >= 0 && x <= 1 }

// draws is a source for many goroutines.
type draws struct {
	mu  sync.Mutex
	rng *rand.Rand
}

// chance is true in a part of the calls.
func (d *draws) chance(part float64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.Float64() < part
}

// upTo draws a duration.
func (d *draws) upTo(most time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Duration(d.rng.Float64() * float64(most))
}

func (d *draws) perm(n int) []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.Perm(n)
}

// errNobody is returned by a fault that has nobody to befall: it did not happen.
var errNobody = errors.New("sim: there is no node that is up and that nothing else befalls")

// befall is what faults have in common: whom they befall, and how often they made a difference.
type befall struct {
	cfg     FaultConfig
	draw    *draws
	regions []string // drawn at the beginning
	victims []*Node
	effects atomic.Int64
}

// Name implements [Fault].
func (b *befall) Name() string { return b.cfg.Kind }

// TookEffect implements [Fault].
func (b *befall) TookEffect() int { return int(b.effects.Load()) }

// key names the fault among the world's rules.
func (b *befall) key() string { return fmt.Sprintf("%s %p", b.cfg.Kind, b) }

// drawRegions draws the regions, of those that do not lie.
func (b *befall) drawRegions(w *World) []string {
	var honest []string
	for _, r := range w.names {
		if !w.lies(r) {
			honest = append(honest, r)
		}
	}
	if len(b.cfg.Named) > 0 {
		b.regions = b.cfg.Named
		return b.regions
	}
	count := max(1, b.cfg.Regions)
	if b.cfg.Share > 0 {
		count = max(1, int(b.cfg.Share*float64(len(w.names))))
	}
	order := b.draw.perm(len(honest))
	b.regions = nil
	for _, i := range order[:min(count, len(honest))] {
		b.regions = append(b.regions, honest[i])
	}
	return b.regions
}

// drawNodes draws the nodes, of those that are up and that nothing else befalls.
func (b *befall) drawNodes(w *World) ([]*Node, error) {
	b.victims = nil
	for _, r := range b.drawRegions(w) {
		var of []*Node
		switch b.cfg.Whom {
		case Leaders:
			if n := w.Leader(r); n != nil {
				of = []*Node{n}
			}
		case Voters:
			of = slices.Clone(w.Voters(r))
		case Members:
			of = slices.Clone(w.regions[r][w.cfg.Voters:])
		default:
			of = slices.Clone(w.regions[r])
		}
		count := max(1, b.cfg.Nodes)
		switch {
		case b.cfg.Whom == Members && b.cfg.Part > 0:
			count = max(1, int(b.cfg.Part*float64(len(of))))
		case b.cfg.Whom == All && b.cfg.Nodes == 0:
			count = len(of)
		}
		order := b.draw.perm(len(of))
		if t := b.cfg.Turn; t > 0 && len(of) > 0 {
			order = []int{(t - 1) % len(of)}
		}
		for _, i := range order {
			if n := of[i]; count > 0 && n.Running() != nil && n.faults == 0 {
				b.victims = append(b.victims, n)
				count--
			}
		}
	}
	if len(b.victims) == 0 {
		return nil, fmt.Errorf("%w: %s of %s (%s)", errNobody, b.cfg.Whom, strings.Join(b.regions, ", "), b.cfg.Kind)
	}
	for _, n := range b.victims {
		n.faults++
	}
	return b.victims, nil
}

// among says whether a node is befallen. The victims do not change while the fault lasts.
func (b *befall) among() func(n *Node) bool {
	set := map[*Node]bool{}
	for _, n := range b.victims {
		set[n] = true
	}
	return func(n *Node) bool { return set[n] }
}

// of says whether a node's region is befallen.
func (b *befall) of() func(n *Node) bool {
	set := map[string]bool{}
	for _, r := range b.regions {
		set[r] = true
	}
	return func(n *Node) bool { return set[n.Region] }
}
