package gossip

import (
	"errors"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

var (
	errMuted   = errors.New("peer is muted")
	errUnknown = errors.New("too many peers to remember")
)

// inspect sees every RPC before GossipSub does anything with it, and takes out what the
// peer may not send or sends too much of. It has to be here: a message that were dropped
// any later would be known by its name, and the same from an honest peer dropped as a
// duplicate, so that a muted or fast peer could silence others by being first.
func (r *Router) inspect(from peer.ID, rpc *pubsub.RPC) error {
	now := time.Now()
	where := r.place(from)
	r.standings.mu.Lock()
	defer r.standings.mu.Unlock()
	s := r.standingFor(from, now)
	switch {
	case s == nil:
		r.metrics.dropped.With("unknown_peer").Add(float64(len(rpc.Publish)))
		return errUnknown
	case s.muted(now):
		r.metrics.dropped.With("muted").Add(float64(len(rpc.Publish)))
		return errMuted
	}
	r.inspectMessages(s, where, rpc, now)
	r.inspectControl(s, rpc, now)
	return nil
}

// inspectMessages leaves the messages that the peer may send, up to its rates.
func (r *Router) inspectMessages(s *standing, where place, rpc *pubsub.RPC, now time.Time) {
	keep := rpc.Publish[:0]
	for _, m := range rpc.Publish {
		topic, ok := parseTopic(r.cfg.Federation, m.GetTopic())
		switch {
		case !ok || !where.sends(topic):
			s.offend(trespass, 1)
			r.metrics.dropped.With("trespass").Inc()
		case !r.allow(s, int(topic.Kind), now, 1):
			s.offend(spam, 1)
			r.metrics.dropped.With("rate").Inc()
		default:
			keep = append(keep, m)
		}
	}
	clear(rpc.Publish[len(keep):])
	rpc.Publish = keep
}

// inspectControl takes out control messages above their rates.
func (r *Router) inspectControl(s *standing, rpc *pubsub.RPC, now time.Time) {
	changes := len(rpc.Subscriptions)
	if c := rpc.GetControl(); c != nil {
		changes += len(c.GetGraft()) + len(c.GetPrune())
		if n := idsIn(c.GetIhave()); n > 0 && !r.allow(s, ihaveBucket, now, n) {
			s.offend(tellMuch, float64(n))
			c.Ihave = nil
		}
		if n := idsIn(c.GetIwant()); n > 0 && !r.allow(s, iwantBucket, now, n) {
			s.offend(askMuch, float64(n))
			c.Iwant = nil
		}
	}
	if changes > 0 && !r.allow(s, graftBucket, now, changes) {
		s.offend(graftMuch, float64(changes))
		rpc.Subscriptions = nil
		if c := rpc.GetControl(); c != nil {
			c.Graft, c.Prune = nil, nil
		}
	}
}

func idsIn[M interface{ GetMessageIDs() []string }](list []M) (n int) {
	for _, m := range list {
		n += 1 + len(m.GetMessageIDs()) // an empty one is not for nothing
	}
	return n
}

// allow takes n from one of the peer's buckets, if there is as much.
func (r *Router) allow(s *standing, bucket int, now time.Time, n int) bool {
	if r.cfg.off.rates {
		return true
	}
	if s.buckets[bucket] == nil {
		perSecond, burst := r.cfg.rateOf(bucket)
		s.buckets[bucket] = rate.NewLimiter(rate.Limit(perSecond), burst)
	}
	return s.buckets[bucket].AllowN(now, n)
}

// rateOf is what one peer may send of a kind, or of a kind of control messages: a second, and at once.
func (c *Config) rateOf(bucket int) (perSecond float64, burst int) {
	switch bucket {
	case ihaveBucket:
		return ihaveIDsPerSecond, controlBurst * ihaveIDsPerSecond
	case iwantBucket:
		return iwantIDsPerSecond, controlBurst * iwantIDsPerSecond
	case graftBucket:
		return graftsPerSecond, 4 * subscriptionsMax
	default:
		perSecond = max(ratePerSecondMin, ratesMargin*c.expected(Kind(bucket))) //nolint:gosec // buckets begin with the kinds
		return perSecond, int(burstSeconds * perSecond)
	}
}

// sharesFor is into how many equal parts the rate of a kind is divided, which is what each node grants
// its peers: one for each region, one for what is of no region, and one for what the node says itself.
func (c *Config) sharesFor(k Kind) int {
	if k == Members || k == Roster {
		return 3 // they are of one region
	}
	return c.Regions + 2
}

// relays says whether one more message of a region may be passed on. Who passed on all that is valid
// would be taken for its author, by peers that grant it no more than anybody else; a few
// voters of one region, each within its rate, could so have every honest node muted by the others.
func (r *Router) relays(k Kind, of string, now time.Time) bool {
	if r.cfg.off.relays {
		return true
	}
	r.relayed.mu.Lock()
	defer r.relayed.mu.Unlock()
	key := relayKey{k, of}
	if r.relayed.limits[key] == nil {
		if len(r.relayed.limits) >= int(kinds)*regionsHeardMax {
			return false
		}
		perSecond, burst := r.cfg.rateOf(int(k))
		shares := r.cfg.sharesFor(k)
		r.relayed.limits[key] = rate.NewLimiter(rate.Limit(perSecond/float64(shares)), max(1, burst/shares))
	}
	return r.relayed.limits[key].AllowN(now, 1)
}

// relayKey names what has a share of its own.
type relayKey struct {
	kind Kind
	of   string // region; "" for what is of none
}

// subscriptionFilter lets peers subscribe to what they may.
type subscriptionFilter struct{ r *Router }

var _ pubsub.SubscriptionFilter = subscriptionFilter{}

func (f subscriptionFilter) CanSubscribe(topic string) bool {
	_, ok := parseTopic(f.r.cfg.Federation, topic)
	return ok
}

func (f subscriptionFilter) FilterIncomingSubscriptions(from peer.ID, subs []*pb.RPC_SubOpts) ([]*pb.RPC_SubOpts, error) {
	if len(subs) > subscriptionsMax {
		return nil, pubsub.ErrTooManySubscriptions
	}
	where := f.r.place(from)
	var turnedDown []Topic
	kept := pubsub.FilterSubscriptions(subs, func(name string) bool {
		topic, ok := parseTopic(f.r.cfg.Federation, name)
		may := ok && where.subscribes(topic)
		if ok && !may {
			turnedDown = append(turnedDown, topic)
		}
		return may
	})
	f.r.streams.turnDown(from, turnedDown)
	for _, s := range kept {
		if s.GetSubscribe() {
			f.r.listeners.Add(1)
			break
		}
	}
	return kept, nil
}

// inMesh is GossipSub's peer filter: where the mesh of a topic is regional, peers of other
// regions are not part of it, and are neither told nor asked what messages there are.
func (r *Router) inMesh(p peer.ID, name string) bool {
	topic, ok := parseTopic(r.cfg.Federation, name)
	if !ok {
		return false
	}
	where := r.place(p)
	if !where.subscribes(topic) {
		return false
	}
	return r.cfg.off.peerFilter || !topic.Kind.rule().regionalMesh || where.region == r.access.Region()
}
