package gossip

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
)

// PeerStanding is what a node thinks of a peer.
type PeerStanding struct {
	// Score is GossipSub's, at most Config.ScoreEvery old: above 0 for a peer that is
	// useful, below −10, −20 and −40 less and less is taken from it and sent to it.
	Score float64
	// Muted is true while the circuit breaker does not let the peer be heard.
	Muted bool
	// Probation is true after that, until it has shown that it behaves.
	Probation bool
	// Why says what is held against the peer, worst first; empty for a good one.
	Why []string
}

func (r *Router) standingScore(p peer.ID) float64 {
	r.standings.mu.Lock()
	defer r.standings.mu.Unlock()
	if s := r.standings.byPeer[p]; s != nil {
		return s.score(time.Now())
	}
	return 0
}

// Standing says what this node thinks of a peer and why; the zero value for one that it never heard.
func (r *Router) Standing(p peer.ID) PeerStanding {
	now := time.Now()
	var st PeerStanding
	r.standings.mu.Lock()
	if s := r.standings.byPeer[p]; s != nil {
		st.Score = s.score(now)
		st.Muted, st.Probation = s.muted(now), s.probation()
		st.Why = s.why(now)
	}
	r.standings.mu.Unlock()
	if all := r.scores.Load(); all != nil {
		if its, ok := (*all)[p]; ok {
			st.Score += its.score - its.application
			st.Why = append(st.Why, its.why...)
		}
	}
	return st
}

// Why says in words what is held against a peer, worst first.
func (r *Router) Why(p peer.ID) []string { return r.Standing(p).Why }

// taken is what remains of a peer's score until it is taken again.
type taken struct {
	score, application float64 // the latter is its part that the application gave
	why                []string
}

func (r *Router) takeScores(all map[peer.ID]*pubsub.PeerScoreSnapshot) {
	scores := make(map[peer.ID]taken, len(all))
	for p, s := range all {
		scores[p] = taken{score: s.Score, application: s.AppSpecificScore, why: r.whySnapshot(s)}
	}
	r.scores.Store(&scores)
}

// whySnapshot reads what GossipSub itself holds against a peer.
func (r *Router) whySnapshot(s *pubsub.PeerScoreSnapshot) []string {
	var reasons []string
	for name, t := range s.Topics {
		if n := t.InvalidMessageDeliveries; n >= 0.1 {
			topic := strings.TrimPrefix(name, topicPrefix+r.cfg.Federation+"/")
			reasons = append(reasons, fmt.Sprintf("brought invalid messages to %s: counts as %.1f now, costs %.0f", topic, n, -invalidWeight*n*n))
		}
	}
	slices.Sort(reasons)
	if over := s.BehaviourPenalty - behaviourFree; over > 0 {
		reasons = append(reasons, fmt.Sprintf("offered messages that it did not send, or joined meshes too soon after it was told to leave: counts as %.1f, costs %.0f",
			s.BehaviourPenalty, math.Abs(behaviourWeight)*over*over))
	}
	return reasons
}

// standingCounts are for metrics: how many peers are muted, on probation, and below each threshold.
func (r *Router) standingCounts() (muted, probation int) {
	now := time.Now()
	r.standings.mu.Lock()
	defer r.standings.mu.Unlock()
	for _, s := range r.standings.byPeer {
		switch {
		case s.muted(now):
			muted++
		case s.probation():
			probation++
		}
	}
	return muted, probation
}

// scoreCounts says how many peers have a score of at least 0, and below that, below which threshold.
func (r *Router) scoreCounts() (good, low, noGossip, noPublish, graylisted int) {
	all := r.scores.Load()
	if all == nil {
		return 0, 0, 0, 0, 0
	}
	for _, s := range *all {
		switch {
		case s.score >= 0:
			good++
		case s.score >= gossipThreshold:
			low++
		case s.score >= publishThreshold:
			noGossip++
		case s.score >= graylistThreshold:
			noPublish++
		default:
			graylisted++
		}
	}
	return good, low, noGossip, noPublish, graylisted
}
