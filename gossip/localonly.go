package gossip

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// regionsHeardMax bounds how many regions are remembered to have been heard; a document has at most 149.
const regionsHeardMax = 256

// silenceWithLink is how many times longer a connection to another region counts for
// something while nothing is heard over it.
const silenceWithLink = 3

// LocalStatus says whether the rest of the federation is heard.
type LocalStatus struct {
	// Local is true while no other region is heard. Then the region goes on by itself:
	// what it commits stays committed and is attested later.
	Local bool
	// Since is when Local became what it is.
	Since time.Time
	// Regions lists the other regions that were heard, by name.
	Regions []RegionHeard
}

// RegionHeard says when another region was heard last.
type RegionHeard struct {
	Region string
	// Heard is when a message that speaks for the region was accepted last, from whoever
	// brought it; zero if none was.
	Heard time.Time
	// Connected is how many of its nodes this node is connected to.
	Connected int
}

// localOnly decides from connections and from silence whether a node is alone.
type localOnly struct {
	cfg *Config

	mu      sync.Mutex
	local   bool
	since   time.Time
	heard   map[string]time.Time
	lastAny time.Time // anything of any other region
	links   map[string]int
}

func newLocalOnly(cfg *Config, now time.Time) *localOnly {
	return &localOnly{cfg: cfg, since: now, heard: make(map[string]time.Time), lastAny: now}
}

// hear notes that a message of another region came in.
func (l *localOnly) hear(region string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.After(l.lastAny) {
		l.lastAny = now
	}
	if was, ok := l.heard[region]; ok && now.After(was) || !ok && len(l.heard) < regionsHeardMax {
		l.heard[region] = now
	}
}

// Hear notes that another region was there at a time, as somebody says whom this node believes.
func (r *Router) Hear(region string, at time.Time) {
	if region != "" && region != r.access.Region() && !at.After(time.Now()) {
		r.local.hear(region, at)
	}
}

// look decides anew and says whether the decision changed. alone is true for a
// federation of one region, which misses nobody.
func (l *localOnly) look(now time.Time, links map[string]int, alone bool) (status LocalStatus, changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.links = links
	patience := l.cfg.SilenceAfter
	if len(links) > 0 {
		patience *= silenceWithLink
	}
	local := !alone && now.Sub(l.lastAny) >= patience
	if changed = local != l.local; changed {
		l.local, l.since = local, now
	}
	return l.status(), changed
}

// status is under mu.
func (l *localOnly) status() LocalStatus {
	st := LocalStatus{Local: l.local, Since: l.since}
	names := make(map[string]bool)
	for region := range l.heard {
		names[region] = true
	}
	for region := range l.links {
		names[region] = true
	}
	for region := range names {
		st.Regions = append(st.Regions, RegionHeard{Region: region, Heard: l.heard[region], Connected: l.links[region]})
	}
	slices.SortFunc(st.Regions, func(a, b RegionHeard) int { return strings.Compare(a.Region, b.Region) })
	return st
}

// LocalOnly says whether the rest of the federation is heard.
func (r *Router) LocalOnly() LocalStatus {
	r.local.mu.Lock()
	defer r.local.mu.Unlock()
	return r.local.status()
}

// heardOf notes which region an accepted message shows to be there: the one that it
// speaks for, or that of the peer who brought it.
func (r *Router) heardOf(from peer.ID, origin string, now time.Time) {
	if origin == "" {
		origin = r.access.RegionOf(from)
	}
	if origin != "" && origin != r.access.Region() {
		r.local.hear(origin, now)
	}
}

// lookAround runs after each sample.
func (r *Router) lookAround() {
	links := make(map[string]int)
	for _, p := range r.host.Network().Peers() {
		if region := r.access.RegionOf(p); region != "" && region != r.access.Region() {
			links[region]++
		}
	}
	doc := r.access.Document()
	now, listeners := time.Now(), r.listeners.Load()
	status, changed := r.local.look(now, links, doc == nil || len(doc.Regions) < 2)
	if listeners != r.seenListeners {
		r.seenListeners = listeners
		r.outbox.hurry(now, listeners)
		r.stir()
	}
	if !changed {
		return
	}
	if status.Local {
		r.cfg.Logger.Warn("no other region is heard: going on alone; what is committed will be attested later")
	} else {
		r.cfg.Logger.Info("the rest of the federation is heard again", "regions", len(status.Regions))
	}
	r.cfg.LocalOnly(status)
}
