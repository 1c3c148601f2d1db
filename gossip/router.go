package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"golang.org/x/time/rate"

	"github.com/bizra/bizra/internal/rounds"
	"github.com/bizra/bizra/p2p"
)

var (
	// ErrTooLong is returned for a payload above its kind's limit, or an empty one.
	ErrTooLong = errors.New("gossip: payload is empty or longer than its topic allows")
	// ErrTopic is returned for a topic that this node may not send to, or does not know.
	ErrTopic = errors.New("gossip: no such topic for this node")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("gossip: router is closed")
)

// Router is a node's part in the gossip of its federation. It owns one GossipSub router; what it
// does of its own (delivering; topics, samples and local-only mode; the outbox) are rounds, each on one goroutine at most.
// Safe for concurrent use.
type Router struct {
	cfg      Config
	host     host.Host
	access   *p2p.Access
	pubsub   *pubsub.PubSub
	server   *p2p.Server
	serveErr error // of starting server, during New
	emitter  event.Emitter
	metrics  *metrics
	streams  *streams
	outbox   *outbox
	local    *localOnly

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	wg      sync.WaitGroup // what delivers
	deliver *delivery
	tending rounds.Rounds
	samples int           // so far, of tending
	saying  rounds.Rounds // of the outbox
	// listeners counts what makes announcing again worth while: somebody new subscribed, or a queue was full.
	listeners     atomic.Uint64
	seenListeners uint64        // of listeners, by tending
	distinct      atomic.Uint64 // messages heard so far, each once
	scores        atomic.Pointer[map[peer.ID]taken]
	counts        copies

	handlers [kinds]Handler // set before Start

	topics struct {
		mu     sync.Mutex
		joined map[Topic]*joined
	}
	standings struct {
		mu     sync.Mutex
		byPeer map[peer.ID]*standing
		before uint64 // of distinct, at the last sample but one
		last   uint64 // at the last sample
	}
	known struct {
		mu sync.Mutex
		*known
	}
	relayed struct {
		mu     sync.Mutex
		limits map[relayKey]*rate.Limiter
	}
}

// joined is a topic that this node sends to and, if it relays, listens to.
type joined struct {
	topic *pubsub.Topic
	stop  pubsub.RelayCancelFunc // nil: only sent to
}

// New starts a router on a host that speaks with whom access admits. It takes part in a
// topic's gossip once Start was called and the topic's kind has a handler.
func New(h host.Host, access *p2p.Access, cfg Config) (*Router, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if _, err := newBreaker(); err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Router{cfg: cfg, host: h, access: access, streams: newStreams(), ctx: ctx, cancel: cancel,
		deliver: newDelivery(cfg.DeliverQueue)}
	r.outbox, r.local = newOutbox(&r.cfg), newLocalOnly(&r.cfg, time.Now())
	r.topics.joined = make(map[Topic]*joined)
	r.standings.byPeer = make(map[peer.ID]*standing)
	r.known.known = newKnown()
	r.relayed.limits = make(map[relayKey]*rate.Limiter)
	r.metrics = newMetrics(r)
	r.counts.topic = Topic{Kind: Certificates}.name(cfg.Federation)
	if err := r.open(); err != nil {
		cancel()
		if r.server != nil {
			_ = r.server.Close()
		}
		return nil, fmt.Errorf("gossip: %w", err)
	}
	return r, nil
}

func (r *Router) open() error {
	var err error
	if r.emitter, err = r.host.EventBus().Emitter(new(event.EvtPeerProtocolsUpdated)); err != nil {
		return err
	}
	if r.pubsub, err = pubsub.NewGossipSub(r.ctx, gate{r.host, r}, r.options()...); err != nil {
		return err
	}
	if r.serveErr != nil {
		return r.serveErr
	}
	return r.metrics.Register(r.cfg.Metrics)
}

func (r *Router) options() []pubsub.Option {
	opts := []pubsub.Option{
		pubsub.WithGossipSubProtocols([]protocol.ID{p2p.ProtocolGossip}, func(f pubsub.GossipSubFeature, p protocol.ID) bool {
			return p == p2p.ProtocolGossip && f != pubsub.GossipSubFeatureExtensions
		}),
		pubsub.WithGossipSubParams(r.cfg.meshParams()),
		// Messages carry signatures of their own; one more by the router would only cost.
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(messageID),
		pubsub.WithFloodPublish(true),
		pubsub.WithPeerFilter(r.inMesh),
		pubsub.WithSubscriptionFilter(subscriptionFilter{r}),
		pubsub.WithAppSpecificRpcInspector(r.inspect),
		pubsub.WithPeerOutboundQueueSize(r.cfg.OutboundQueue),
		pubsub.WithValidateQueueSize(r.cfg.ValidateQueue),
		pubsub.WithValidateWorkers(r.cfg.ValidateWorkers),
		pubsub.WithMaxMessageSize(rpcBytesMax),
		pubsub.WithMaxControlMessageSize(controlBytesMax),
		pubsub.WithRawTracer(tracer{r}),
		pubsub.WithLogger(r.cfg.Logger.With("part", "gossipsub")),
	}
	if !r.cfg.off.scoring {
		opts = append(opts, pubsub.WithPeerScore(r.scoreParams(), scoreThresholds()),
			pubsub.WithPeerScoreInspect(r.takeScores, r.cfg.ScoreEvery))
	}
	return opts
}

// Handle gives the handler of a kind of topics. It must be called before Start.
func (r *Router) Handle(k Kind, h Handler) { r.handlers[k] = h }

// Start joins the topics that this node subscribes to and begins to deliver.
func (r *Router) Start() {
	r.tend()
	r.deliver.start(func() { r.wg.Go(r.deliverAll) })
	r.tending.Start(r.cfg.SampleEvery, r.round)
	r.saying.Start(0, r.announce)
}

// Close stops gossiping and waits for what it started; GossipSub's own goroutines end soon after.
func (r *Router) Close() error {
	r.cancel()
	err := r.server.Close()
	r.deliver.stop()
	r.tending.Stop()
	r.saying.Stop()
	r.wg.Wait()
	r.metrics.Unregister(r.cfg.Metrics)
	return errors.Join(err, r.emitter.Close())
}

// Publish sends a payload to a topic once. It returns nil also where nobody listens, for
// gossip is a hint; what matters is announced, see [Router.Announce].
func (r *Router) Publish(t Topic, payload []byte) error { return r.publish(t, 0, payload) }

func (r *Router) publish(t Topic, attempt uint8, payload []byte) error {
	if err := r.checkOwn(t, payload); err != nil {
		return err
	}
	j, err := r.join(t)
	if err != nil {
		return err
	}
	key := keyOf(t.name(r.cfg.Federation), payload)
	r.known.mu.Lock()
	r.known.put(key, true, time.Now())
	r.known.mu.Unlock()
	if len(j.topic.ListPeers()) == 0 {
		r.metrics.unheard.With(t.Kind.String()).Inc()
	}
	if err := j.topic.Publish(r.ctx, frame(attempt, payload)); err != nil {
		if r.ctx.Err() != nil {
			return ErrClosed
		}
		return fmt.Errorf("gossip: publish to %v: %w", t, err)
	}
	r.metrics.published.With(t.Kind.String()).Inc()
	return nil
}

func (r *Router) checkOwn(t Topic, payload []byte) error {
	rule := t.Kind.rule()
	if t.Kind >= kinds || rule.perRegion != (t.Region != "") || len(t.Region) > regionBytesMax || !r.place(r.host.ID()).sends(t) {
		return fmt.Errorf("%w: %v", ErrTopic, t)
	}
	if len(payload) == 0 || len(payload) > rule.bytesMax {
		return fmt.Errorf("%w: %d bytes for %v, at most %d", ErrTooLong, len(payload), t, rule.bytesMax)
	}
	return nil
}

// join opens a topic, without listening to it.
func (r *Router) join(t Topic) (*joined, error) {
	r.topics.mu.Lock()
	defer r.topics.mu.Unlock()
	if j := r.topics.joined[t]; j != nil {
		return j, nil
	}
	if len(r.topics.joined) >= topicsMax {
		return nil, fmt.Errorf("%w: %v would be one more than %d", ErrTopic, t, topicsMax)
	}
	name := t.name(r.cfg.Federation)
	err := r.pubsub.RegisterTopicValidator(name, func(ctx context.Context, from peer.ID, m *pubsub.Message) pubsub.ValidationResult {
		return r.validate(ctx, t, from, m)
	}, pubsub.WithValidatorInline(true))
	if err != nil {
		return nil, fmt.Errorf("gossip: join %v: %w", t, err)
	}
	topic, err := r.pubsub.Join(name)
	if err != nil {
		return nil, fmt.Errorf("gossip: join %v: %w", t, errors.Join(err, r.pubsub.UnregisterTopicValidator(name)))
	}
	j := &joined{topic: topic}
	r.topics.joined[t] = j
	return j, nil
}

// listen makes the node listen to a topic, or stop.
func (r *Router) listen(t Topic, on bool) {
	j, err := r.join(t)
	if err != nil {
		r.cfg.Logger.Warn("topic not joined", "topic", t.String(), "error", err)
		return
	}
	switch {
	case on && j.stop == nil:
		if j.stop, err = j.topic.Relay(); err != nil && r.ctx.Err() == nil {
			r.cfg.Logger.Warn("topic not listened to", "topic", t.String(), "error", err)
		}
	case !on && j.stop != nil:
		j.stop()
		j.stop = nil
	}
}

// validate is GossipSub's validator of every topic: it is asked once for each message ID.
func (r *Router) validate(ctx context.Context, t Topic, from peer.ID, m *pubsub.Message) pubsub.ValidationResult {
	if from == r.host.ID() {
		return pubsub.ValidationAccept
	}
	r.distinct.Add(1)
	now := time.Now()
	m.Data = r.cfg.Share(m.ID, m.Data)
	payload, err := unframe(m.Data)
	switch {
	case errors.Is(err, errFrameVersion):
		return r.verdict(t, from, Judgement{Verdict: Ignore})
	case err != nil:
		return r.verdict(t, from, Judgement{Verdict: Reject, Why: err.Error()})
	case len(payload) > t.Kind.rule().bytesMax:
		return r.verdict(t, from, Judgement{Verdict: Reject, Why: ErrTooLong.Error()})
	}
	key := keyOf(m.GetTopic(), payload)
	r.known.mu.Lock()
	accepted, ok := r.known.get(key)
	r.known.mu.Unlock()
	if ok && !r.cfg.off.known {
		return r.repeated(t, from, accepted)
	}
	j := Judgement{Verdict: Ignore}
	if judge := r.handlers[t.Kind].Judge; judge != nil {
		j = judge(ctx, t, payload)
	}
	if j.Verdict == Accept {
		r.heardOf(from, j.Origin, now)
	}
	// What the queue has no place for is passed on, and not known: announced again it gets another chance.
	if j.Verdict == Reject || j.Verdict == Accept && r.enqueue(Message{Topic: t, Payload: payload, From: from, Received: now}) {
		r.known.mu.Lock()
		r.known.put(key, j.Verdict == Accept, now)
		r.known.mu.Unlock()
	}
	result := r.verdict(t, from, j)
	if j.Verdict == Accept && !r.relays(t.Kind, cmp.Or(j.Of, j.Origin), now) {
		r.metrics.dropped.With("relay").Inc()
		return pubsub.ValidationIgnore
	}
	return result
}

// repeated is for payloads that were judged before and come as another message.
func (r *Router) repeated(t Topic, from peer.ID, accepted bool) pubsub.ValidationResult {
	if !accepted {
		return r.verdict(t, from, Judgement{Verdict: Reject, Why: "it was rejected before"})
	}
	r.standings.mu.Lock()
	if s := r.standings.byPeer[from]; s != nil {
		s.stale++
	}
	r.standings.mu.Unlock()
	r.metrics.verdicts.With(t.Kind.String(), "known").Inc()
	return pubsub.ValidationIgnore
}

func (r *Router) verdict(t Topic, from peer.ID, j Judgement) pubsub.ValidationResult {
	r.metrics.verdicts.With(t.Kind.String(), j.Verdict.String()).Inc()
	switch j.Verdict {
	case Accept:
		r.standings.mu.Lock()
		if s := r.standings.byPeer[from]; s != nil {
			s.good++
		}
		r.standings.mu.Unlock()
		return pubsub.ValidationAccept
	case Ignore:
		return pubsub.ValidationIgnore
	default:
		r.offend(from, invalid, t.Kind.String()+": "+j.Why)
		return pubsub.ValidationReject
	}
}

func (r *Router) offend(p peer.ID, o offence, why string) {
	r.standings.mu.Lock()
	defer r.standings.mu.Unlock()
	if s := r.standings.byPeer[p]; s != nil {
		s.offend(o, 1).rejected = why[:min(len(why), reasonBytesMax)]
	}
}

// enqueue says whether there was a place for the message.
func (r *Router) enqueue(m Message) bool {
	if r.handlers[m.Topic.Kind].Deliver == nil {
		return true
	}
	if !r.deliver.put(m) {
		r.metrics.dropped.With("deliver_queue").Inc()
		return false
	}
	return true
}
