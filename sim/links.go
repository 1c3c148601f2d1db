package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bizra/bizra/sim/memnet"
)

// latency is what the network asks for each new connection.
func (w *World) latency(from, to peer.ID) time.Duration {
	a, b := w.home[from], w.home[to]
	d := w.cfg.Latency(a, b)
	if a != b {
		w.mu.Lock()
		defer w.mu.Unlock()
		d += w.slow[a] + w.slow[b]
	}
	return d
}

// Slow adds latency one way to everything between a region and the others, on connections
// made anew: those that were are ended. Nothing takes it back.
func (w *World) Slow(region string, more time.Duration) {
	w.mu.Lock()
	w.slow[region] = more
	w.mu.Unlock()
	w.pairs([]string{region}, w.others(region), func(a, b *Node) { w.net.Disconnect(a.ID, b.ID) })
}

// CutOneWay cuts or heals the way from one node to another. What is sent across waits.
func (w *World) CutOneWay(from, to *Node, cut bool) { w.net.Cut(from.ID, to.ID, cut) }

// CutOff cuts or heals all links between a region and the others.
func (w *World) CutOff(region string, cut bool) { w.Split([]string{region}, w.others(region), cut) }

// Split cuts or heals all links between two groups of regions.
func (w *World) Split(left, right []string, cut bool) {
	key := fmt.Sprint("split ", left, right)
	if !cut {
		w.part(key, nil)
		return
	}
	side := map[string]int{}
	for _, r := range left {
		side[r] = 1
	}
	for _, r := range right {
		side[r] = -1
	}
	w.part(key, func(from, to *Node) bool { return side[from.Region]*side[to.Region] < 0 })
}

// part has the network cut every way of which a rule says so, until the key is given again with
// another rule or none.
func (w *World) part(key string, rule func(from, to *Node) bool) {
	rules := setRule(w.parts, key, rule, rule != nil)
	if len(rules) == 0 {
		w.net.Part(nil)
		return
	}
	w.net.Part(func(from, to peer.ID) bool {
		a, b := w.byID[from], w.byID[to]
		return a != nil && b != nil && slices.ContainsFunc(rules, func(r func(from, to *Node) bool) bool { return r(a, b) })
	})
}

// weather has what is written meet the fate that a rule gives it, as part does. Fates of several rules add up.
func (w *World) weather(key string, rule weatherRule) {
	rules := setRule(w.weathers, key, rule, rule != nil)
	if len(rules) == 0 {
		w.net.Weather(nil)
		return
	}
	w.net.Weather(func(from, to peer.ID, proto protocol.ID, latency time.Duration) (fate memnet.Fate) {
		a, b := w.byID[from], w.byID[to]
		if a == nil || b == nil {
			return fate
		}
		for _, r := range rules {
			f := r(a, b, proto, latency)
			fate.Late += f.Late
			fate.Twice, fate.Swap = fate.Twice || f.Twice, fate.Swap || f.Swap
		}
		return fate
	})
}

// weatherRule says what becomes of a write. It is called on many goroutines.
type weatherRule = func(from, to *Node, proto protocol.ID, latency time.Duration) memnet.Fate

// setRule puts a rule under a key, or takes it away, and gives them all.
func setRule[R any](rules map[string]R, key string, rule R, there bool) []R {
	if there {
		rules[key] = rule
	} else {
		delete(rules, key)
	}
	return slices.Collect(maps.Values(rules))
}

func (w *World) others(region string) []string {
	return slices.DeleteFunc(w.Regions(), func(r string) bool { return r == region })
}

func (w *World) pairs(left, right []string, do func(a, b *Node)) {
	for _, l := range left {
		for _, r := range right {
			for _, a := range w.regions[l] {
				for _, b := range w.regions[r] {
					do(a, b)
				}
			}
		}
	}
}
