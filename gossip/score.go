package gossip

import (
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Thresholds of a peer's score; see docs/network.md, where each number is derived.
const (
	gossipThreshold   = -10 // below it nothing is told to and asked from a peer
	publishThreshold  = -20 // below it nothing of ours is sent to it
	graylistThreshold = -40 // below it nothing that it sends is looked at

	// topicScoreCap bounds what a peer can earn, so that no credit pays for four invalid messages.
	topicScoreCap = 10

	timeInMeshWeight  = 0.1
	timeInMeshQuantum = time.Minute
	timeInMeshCap     = 10

	meshDegree      = 4   // a copy more a message and node for each; hops are a millisecond long, and what is lost is pulled
	meshLazy        = 2   // peers outside of the mesh to whom a node tells each heartbeat what there is
	firstWorth      = 1.0 // what delivering its share first is worth
	firstCapShares  = 3   // at most this many shares count
	firstDecayTicks = 100 // seconds until a first delivery is forgotten

	invalidWeight      = -4
	invalidForgotten   = 30 * time.Minute
	behaviourWeight    = -10
	behaviourFree      = 6
	behaviourForgotten = 10 * time.Minute
	retainScore        = time.Hour
)

// scoreParams derives GossipSub's score of peers from what is expected on each topic.
func (r *Router) scoreParams() *pubsub.PeerScoreParams {
	topics := make(map[string]*pubsub.TopicScoreParams)
	for _, k := range Kinds() {
		topics[Topic{Kind: k, Region: r.access.Region()}.name(r.cfg.Federation)] = r.cfg.topicScore(k)
	}
	return &pubsub.PeerScoreParams{
		Topics:            topics,
		TopicScoreCap:     topicScoreCap,
		AppSpecificScore:  func(p peer.ID) float64 { return r.standingScore(p) },
		AppSpecificWeight: 1,
		// A whole region may sit behind one address, and who may speak is decided by keys.
		IPColocationFactorWeight:    0,
		IPColocationFactorThreshold: 1,
		BehaviourPenaltyWeight:      behaviourWeight,
		BehaviourPenaltyThreshold:   behaviourFree,
		BehaviourPenaltyDecay:       pubsub.ScoreParameterDecay(behaviourForgotten),
		DecayInterval:               time.Second,
		DecayToZero:                 0.01,
		RetainScore:                 retainScore,
	}
}

func scoreThresholds() *pubsub.PeerScoreThresholds {
	return &pubsub.PeerScoreThresholds{GossipThreshold: gossipThreshold, PublishThreshold: publishThreshold, GraylistThreshold: graylistThreshold,
		AcceptPXThreshold: 1e9, OpportunisticGraftThreshold: 0.5}
}

// topicScore gives credit for time in the mesh and for messages brought first, and takes
// it for invalid ones. What a peer did not bring (P3, P3b) costs nothing: in a federation
// that is idle or cut in two nobody brings anything.
func (c *Config) topicScore(k Kind) *pubsub.TopicScoreParams {
	decay := pubsub.ScoreParameterDecay(firstDecayTicks * time.Second)
	// A counter that grows by share a second and decays each second comes to rest at share/(1−decay).
	share := max(1, c.expected(k)/meshDegree/(1-decay))
	return &pubsub.TopicScoreParams{
		TopicWeight:      1,
		TimeInMeshWeight: timeInMeshWeight, TimeInMeshQuantum: timeInMeshQuantum, TimeInMeshCap: timeInMeshCap,
		FirstMessageDeliveriesWeight: firstWorth / share, FirstMessageDeliveriesDecay: decay, FirstMessageDeliveriesCap: firstCapShares * share,
		InvalidMessageDeliveriesWeight: invalidWeight, InvalidMessageDeliveriesDecay: pubsub.ScoreParameterDecay(invalidForgotten),
	}
}

// meshParams are GossipSub's own, but for what floods could make of them and for exchange
// of peers, which keys and the federation document make needless.
func (c *Config) meshParams() pubsub.GossipSubParams {
	p := pubsub.DefaultGossipSubParams()
	p.D, p.Dlo, p.Dhi, p.Dout, p.Dscore = meshDegree, 3, 8, 1, 2
	p.Dlazy = meshLazy
	p.HeartbeatInterval = c.Heartbeat
	p.HistoryLength = max(2, int((c.History+c.Heartbeat-1)/c.Heartbeat))
	p.HistoryGossip = min(p.HistoryLength-1, (3*p.HistoryLength+4)/5) // what was told of last must still be there when it is asked for
	p.MaxIHaveLength, p.MaxIHaveMessages = ihaveLengthMax, ihaveMessagesMax
	p.Connectors, p.MaxPendingConnections = 0, 1
	return p
}
