package sim

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
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
	w.pairs(left, right, func(a, b *Node) {
		w.net.Cut(a.ID, b.ID, cut)
		w.net.Cut(b.ID, a.ID, cut)
	})
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
