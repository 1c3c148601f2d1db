package members

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/gossip"
	"github.com/bizra/bizra/internal/rounds"
	"github.com/bizra/bizra/internal/tally"
	"github.com/bizra/bizra/p2p"
)

// Gossip is what the service needs of a [gossip.Router].
type Gossip interface {
	Handle(gossip.Kind, gossip.Handler)
	Publish(gossip.Topic, []byte) error
	Standing(peer.ID) gossip.PeerStanding
	Hear(region string, at time.Time)
}

// Config configures a [Service]; the zero value of a field takes the default named there.
type Config struct {
	Federation string // the federation's name; required
	Host       host.Host
	Access     *p2p.Access
	Gossip     Gossip

	BeatEvery   time.Duration // 10 s, of each node in a region of up to 25; the router's configuration must say the same
	DigestEvery time.Duration // 30 s

	// Verify checks signatures; ed25519.Verify.
	Verify Verify

	// Version is the program's, for others to see.
	Version string
	// Entries says how many entries of the region's ledger this node holds; default: 0.
	Entries func() uint64
	// Leading says whether this node leads its region now; who does publishes digests. Default: it does not.
	Leading func() bool

	Logger  *slog.Logger          // slog.Default()
	Metrics prometheus.Registerer // nil: none
}

func (c Config) withDefaults() Config {
	if c.BeatEvery == 0 {
		c.BeatEvery = 10 * time.Second
	}
	if c.DigestEvery == 0 {
		c.DigestEvery = 30 * time.Second
	}
	if c.Verify == nil {
		c.Verify = func(public [32]byte, message, signature []byte) bool {
			return ed25519.Verify(public[:], message, signature)
		}
	}
	if c.Entries == nil {
		c.Entries = func() uint64 { return 0 }
	}
	if c.Leading == nil {
		c.Leading = func() bool { return false }
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.Federation == "":
		return errors.New("members: Federation is empty: it must be the name in the federation document")
	case c.Host == nil || c.Access == nil || c.Gossip == nil:
		return errors.New("members: Host, Access and Gossip must be set")
	case c.BeatEvery < beatLeast || c.BeatEvery > beatMost || c.DigestEvery <= 0:
		return fmt.Errorf("members: BeatEvery is %v: from %v to %v; DigestEvery is %v: it must be positive", c.BeatEvery, beatLeast, beatMost, c.DigestEvery)
	case len(c.Version) > versionBytesMax:
		return fmt.Errorf("members: Version has %d bytes, at most %d", len(c.Version), versionBytesMax)
	}
	return nil
}

// Service sends this node's heartbeats and, while it leads, its region's digests and rosters, and
// keeps those of others. Safe for concurrent use.
type Service struct {
	cfg     Config
	key     crypto.PrivKey
	beats   rounds.Rounds
	digests rounds.Rounds
	metrics *tally.Figures

	mu    sync.Mutex
	table *table
	seq   uint64 // of the last message of this node
}

// New registers the service's handlers with the router; it must be called before the router is started.
func New(cfg Config) (*Service, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	key := cfg.Host.Peerstore().PrivKey(cfg.Host.ID())
	if key == nil {
		return nil, errors.New("members: the host's key is not in its peerstore: it signs heartbeats")
	}
	s := &Service{cfg: cfg, key: key, table: newTable(cfg.DigestEvery)}
	s.metrics = tally.New("bizra_gossip", nil, s.figures)
	if err := s.metrics.Register(cfg.Metrics); err != nil {
		return nil, fmt.Errorf("members: %w", err)
	}
	cfg.Gossip.Handle(gossip.Members, gossip.Handler{Judge: s.judgeBeat, Deliver: s.deliverBeat})
	cfg.Gossip.Handle(gossip.Roster, gossip.Handler{Judge: s.judgeRoster, Deliver: s.deliverRoster})
	cfg.Gossip.Handle(gossip.Digests, gossip.Handler{Judge: s.judgeDigest, Deliver: s.deliverDigest})
	return s, nil
}

// Start begins to send; the router must have been started.
func (s *Service) Start() {
	first := true
	// Nodes that start together must not beat together for ever.
	s.beats.Start(rand.N(min(s.cfg.BeatEvery, time.Second)), func() time.Duration { //nolint:gosec // spreads load, guards no secret
		every := s.beat(false)
		if first {
			first, every = false, rand.N(every)+1 //nolint:gosec // as above
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.table.forget(time.Now())
		return every
	})
	s.digests.Start(s.cfg.DigestEvery, func() time.Duration {
		if s.cfg.Leading() {
			s.digest()
		}
		return s.cfg.DigestEvery
	})
}

// leaveLinger is how long a last word is given to get on its way; GossipSub does not say when it has.
const leaveLinger = 200 * time.Millisecond

// Close says that this node leaves and stops sending. The router must still be open, or nobody hears it.
func (s *Service) Close() error {
	s.beats.Stop()
	s.digests.Stop()
	s.beat(true)
	linger := time.NewTimer(leaveLinger)
	defer linger.Stop()
	<-linger.C
	s.metrics.Unregister(s.cfg.Metrics)
	return nil
}

// next gives the next sequence number. Under mu.
func (s *Service) next() uint64 {
	s.seq = max(s.seq+1, uint64(max(0, time.Now().UnixMilli())))
	return s.seq
}

// beat says that this node is there, or leaves, and gives the time until the next.
func (s *Service) beat(leaving bool) time.Duration {
	key, err := p2p.NodeKey(s.cfg.Host.ID())
	if err != nil {
		s.cfg.Logger.Error("no heartbeat", "error", err)
		return s.cfg.BeatEvery
	}
	s.mu.Lock()
	every := beatEvery(s.cfg.BeatEvery, s.table.nodes(time.Now()))
	b := beat{EveryMillis: uint32(every / time.Millisecond), Federation: s.cfg.Federation, Region: s.cfg.Access.Region(), Node: key, Seq: s.next(), Leaving: leaving, Version: s.cfg.Version, Entries: s.cfg.Entries()} //nolint:gosec // at most beatMost
	s.table.take(s.cfg.Host.ID(), &b, time.Now())
	s.mu.Unlock()
	s.send(gossip.Topic{Kind: gossip.Members, Region: b.Region}, beatDomain, &b)
	return every
}

func (s *Service) digest() {
	key, err := p2p.NodeKey(s.cfg.Host.ID())
	if err != nil {
		s.cfg.Logger.Error("no digest", "error", err)
		return
	}
	now := time.Now()
	s.mu.Lock()
	d := s.table.summary(now, func(id peer.ID) bool { return s.cfg.Access.Role(id) == p2p.Voter })
	d.Federation, d.Region, d.Node, d.Seq = s.cfg.Federation, s.cfg.Access.Region(), key, s.next()
	r := roster{digest: d, World: s.table.world(now)}
	s.mu.Unlock()
	s.send(gossip.Topic{Kind: gossip.Digests}, digestDomain, &d)
	s.send(gossip.Topic{Kind: gossip.Roster, Region: d.Region}, rosterDomain, &r)
}

func (s *Service) send(t gossip.Topic, domain string, body any) {
	payload, err := seal(domain, body, s.key)
	if err == nil {
		err = s.cfg.Gossip.Publish(t, payload)
	}
	if err != nil && !errors.Is(err, gossip.ErrClosed) {
		s.cfg.Logger.Debug("members: not sent", "topic", t.String(), "error", err)
	}
}

// judged turns an error of decoding into a judgement: what is of a later version is ignored.
func judged(err error) gossip.Judgement {
	if errors.Is(err, errInvalid) {
		return gossip.Judgement{Verdict: gossip.Reject, Why: err.Error()}
	}
	return gossip.Judgement{Verdict: gossip.Ignore}
}

func (s *Service) judgeBeat(_ context.Context, t gossip.Topic, payload []byte) gossip.Judgement {
	b, id, err := s.cfg.Verify.openBeat(payload, s.cfg.Federation, t.Region)
	if err != nil {
		return judged(err)
	}
	s.mu.Lock()
	newer := s.table.newer(id, b.Seq)
	s.mu.Unlock()
	if !newer || !fresh(b.Seq, time.Now()) || s.cfg.Access.Role(id) < p2p.Member || s.cfg.Access.RegionOf(id) != b.Region {
		return gossip.Judgement{Verdict: gossip.Ignore, Origin: b.Region}
	}
	return gossip.Judgement{Verdict: gossip.Accept, Origin: b.Region}
}

func (s *Service) deliverBeat(m gossip.Message) {
	b, id, err := s.cfg.Verify.openBeat(m.Payload, s.cfg.Federation, m.Topic.Region)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table.take(id, b, m.Received)
}

func (s *Service) judgeDigest(_ context.Context, _ gossip.Topic, payload []byte) gossip.Judgement {
	d, id, err := s.cfg.Verify.openDigest(payload, s.cfg.Federation)
	if err != nil {
		return judged(err)
	}
	role := s.cfg.Access.Role(id)
	s.mu.Lock()
	newer := s.table.newerDigest(d.Region, d.Seq)
	s.mu.Unlock()
	if !newer || !fresh(d.Seq, time.Now()) || role != p2p.Voter && role != p2p.Foreign || s.cfg.Access.RegionOf(id) != d.Region {
		return gossip.Judgement{Verdict: gossip.Ignore, Origin: d.Region}
	}
	return gossip.Judgement{Verdict: gossip.Accept, Origin: d.Region}
}

func (s *Service) deliverDigest(m gossip.Message) {
	d, _, err := s.cfg.Verify.openDigest(m.Payload, s.cfg.Federation)
	if err != nil || d.Region == s.cfg.Access.Region() {
		return // the own region is known at first hand
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table.takeDigest(d, m.Received)
}

// judgeRoster takes what a voter of the own region says of it, and of the world.
func (s *Service) judgeRoster(_ context.Context, t gossip.Topic, payload []byte) gossip.Judgement {
	r, id, err := s.cfg.Verify.openRoster(payload, s.cfg.Federation, t.Region)
	if err != nil {
		return judged(err)
	}
	s.mu.Lock()
	newer := s.table.newerRoster(r.Seq)
	s.mu.Unlock()
	if !newer || !fresh(r.Seq, time.Now()) || s.cfg.Access.Role(id) != p2p.Voter {
		return gossip.Judgement{Verdict: gossip.Ignore, Origin: r.Region}
	}
	return gossip.Judgement{Verdict: gossip.Accept, Origin: r.Region}
}

func (s *Service) deliverRoster(m gossip.Message) {
	r, _, err := s.cfg.Verify.openRoster(m.Payload, s.cfg.Federation, m.Topic.Region)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.table.takeRoster(r, m.Received)
	s.mu.Unlock()
	if s.votes() {
		return // it hears the regions themselves
	}
	for _, w := range r.World {
		s.cfg.Gossip.Hear(w.Name, m.Received.Add(-time.Duration(w.AgeSeconds)*time.Second))
	}
}

// votes says whether this node is a voter, who hears heartbeats and digests at first hand.
func (s *Service) votes() bool { return s.cfg.Access.Role(s.cfg.Host.ID()) == p2p.Voter }
