package sim

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/sim/memnet"
)

func linkFaults() map[string]kind {
	return map[string]kind{
		"loss":        {what: "packets are lost, so that what is written arrives after another round trip or more", part: 0.05, everywhere: true, make: func(b *befall) Fault { return &weatherFault{b, loss} }},
		"delay":       {what: "what is written is late", delay: 100 * time.Millisecond, everywhere: true, make: func(b *befall) Fault { return &weatherFault{b, late} }},
		"duplication": {what: "messages of gossip arrive twice", part: 0.2, everywhere: true, make: func(b *befall) Fault { return &weatherFault{b, twice} }},
		"reordering":  {what: "messages of gossip overtake each other, and streams each other", part: 0.2, delay: 50 * time.Millisecond, everywhere: true, make: func(b *befall) Fault { return &weatherFault{b, swapped} }},
		"cut-one-way": {what: "nothing that nodes say arrives, though they hear the others", whom: Leaders, make: func(b *befall) Fault { return &cutOneWay{b} }},
		"cut-region":  {what: "regions are cut off from the others", make: func(b *befall) Fault { return &cutRegion{b} }},
		"halves":      {what: "the federation is split into halves", make: func(b *befall) Fault { return &halves{b} }},
	}
}

// weatherFault makes the weather on all links of some regions, to the others and inside.
type weatherFault struct {
	*befall
	fate func(b *befall, proto protocol.ID, latency time.Duration) (memnet.Fate, bool)
}

// Begin implements [Fault].
func (f *weatherFault) Begin(w *World) error {
	f.drawRegions(w)
	befallen := f.of()
	w.weather(f.key(), func(from, to *Node, proto protocol.ID, latency time.Duration) memnet.Fate {
		if !befallen(from) && !befallen(to) {
			return memnet.Fate{}
		}
		fate, met := f.fate(f.befall, proto, latency)
		if met {
			f.effects.Add(1)
		}
		return fate
	})
	return nil
}

// End implements [Fault].
func (f *weatherFault) End(w *World) error {
	w.weather(f.key(), nil)
	return nil
}

// retransmission is the least time after which TCP and QUIC take a packet for lost that no later
// packet shows to be lost.
const retransmission = 200 * time.Millisecond

// loss has writes wait for a retransmission, of which some are lost too.
func loss(b *befall, _ protocol.ID, latency time.Duration) (f memnet.Fate, lost bool) {
	for timeout := max(retransmission, 3*latency); b.draw.chance(b.cfg.Part) && f.Late < time.Minute; timeout *= 2 {
		f.Late += timeout
		lost = true
	}
	return f, lost
}

func late(b *befall, _ protocol.ID, _ time.Duration) (memnet.Fate, bool) {
	return memnet.Fate{Late: b.cfg.Delay/2 + b.draw.upTo(b.cfg.Delay)}, true
}

// twice and swapped are of whole messages. Each write of gossip is one; of other protocols a
// transport drops what comes twice and sorts what comes out of order.
func twice(b *befall, proto protocol.ID, _ time.Duration) (memnet.Fate, bool) {
	f := memnet.Fate{Twice: proto == p2p.ProtocolGossip && b.draw.chance(b.cfg.Part)}
	return f, f.Twice
}

func swapped(b *befall, proto protocol.ID, _ time.Duration) (memnet.Fate, bool) {
	if !b.draw.chance(b.cfg.Part) {
		return memnet.Fate{}, false
	}
	return memnet.Fate{Late: b.draw.upTo(b.cfg.Delay), Swap: proto == p2p.ProtocolGossip}, true
}

// cutOneWay has nothing arrive that some nodes say.
type cutOneWay struct{ *befall }

// Begin implements [Fault].
func (c *cutOneWay) Begin(w *World) error {
	if _, err := c.drawNodes(w); err != nil {
		return err
	}
	mute := c.among()
	w.part(c.key(), c.counted(func(from, _ *Node) bool { return mute(from) }))
	return nil
}

// End implements [Fault].
func (c *cutOneWay) End(w *World) error {
	w.part(c.key(), nil)
	return c.revive()
}

// counted counts how often a rule held something back.
func (b *befall) counted(rule func(from, to *Node) bool) func(from, to *Node) bool {
	return func(from, to *Node) bool {
		cut := rule(from, to)
		if cut {
			b.effects.Add(1)
		}
		return cut
	}
}

// cutRegion cuts regions off, each by itself.
type cutRegion struct{ *befall }

// Begin implements [Fault].
func (c *cutRegion) Begin(w *World) error {
	c.drawRegions(w)
	off := c.of()
	w.part(c.key(), c.counted(func(from, to *Node) bool { return from.Region != to.Region && (off(from) || off(to)) }))
	return nil
}

// End implements [Fault].
func (c *cutRegion) End(w *World) error {
	w.part(c.key(), nil)
	return nil
}

// halves splits the federation.
type halves struct{ *befall }

// Begin implements [Fault].
func (h *halves) Begin(w *World) error {
	names := slices.Clone(w.names)
	left := map[string]bool{}
	for _, i := range h.draw.perm(len(names))[:len(names)/2] {
		left[names[i]] = true
	}
	w.part(h.key(), h.counted(func(from, to *Node) bool { return left[from.Region] != left[to.Region] }))
	return nil
}

// End implements [Fault].
func (h *halves) End(w *World) error {
	w.part(h.key(), nil)
	return nil
}
