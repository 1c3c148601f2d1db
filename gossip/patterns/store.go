package patterns

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/fsm/pattern"
	"github.com/bizra/bizra/gossip"
	"github.com/bizra/bizra/internal/tally"
	"github.com/bizra/bizra/pci"
)

// Limits of the store and of what is read from it.
const (
	MaxDefault         = 1024
	MaxMax             = 65536
	PerAgentMaxDefault = 16
	ListMax            = 1000 // patterns in one answer
)

// ErrNotPattern is returned for an envelope that elevates no pattern, or a malformed one.
var ErrNotPattern = errors.New("patterns: envelope elevates no pattern")

// Gossip is what the store needs of a [gossip.Router].
type Gossip interface {
	Handle(gossip.Kind, gossip.Handler)
	Announce(gossip.Topic, []byte, gossip.Announcement) error
}

// Config configures a [Store]; the zero value of a field takes the default named there.
type Config struct {
	Gossip Gossip
	// Judge says whether an envelope with a good signature may be kept and passed on; it
	// knows documents and registries. It must be quick. Required.
	Judge func(ctx context.Context, env *pci.Envelope, p *pattern.Pattern) gossip.Judgement

	Max         int // patterns kept; [MaxDefault]
	PerAgentMax int // of one agent; [PerAgentMaxDefault]

	Metrics prometheus.Registerer // nil: none
}

func (c Config) withDefaults() Config {
	c.Max = cmp.Or(c.Max, MaxDefault)
	c.PerAgentMax = cmp.Or(c.PerAgentMax, min(PerAgentMaxDefault, c.Max))
	return c
}

func (c Config) validate() error {
	switch {
	case c.Gossip == nil || c.Judge == nil:
		return errors.New("patterns: Gossip and Judge must be set")
	case c.Max < 1 || c.Max > MaxMax:
		return fmt.Errorf("patterns: Max is %d, want 1 to %d", c.Max, MaxMax)
	case c.PerAgentMax < 1 || c.PerAgentMax > c.Max:
		return fmt.Errorf("patterns: PerAgentMax is %d, want 1 to Max, %d", c.PerAgentMax, c.Max)
	}
	return nil
}

// Item is a pattern as it is shown.
type Item struct {
	Digest       string  `json:"digest"` // the envelope's, 64 hex digits
	Region       string  `json:"region"`
	Agent        string  `json:"agent"`
	Name         string  `json:"name"`
	Statement    string  `json:"statement"`
	Session      string  `json:"session,omitempty"`
	Belief       float64 `json:"belief"`
	Entropy      float64 `json:"entropy"`
	Potential    float64 `json:"potential"`
	Observations int64   `json:"observations"`
	Impact       float64 `json:"impact"`      // potential·ln(1 + observations)
	Elevated     string  `json:"elevated_at"` // the envelope's timestamp
}

// kept is a pattern in the store.
type kept struct {
	env    *pci.Envelope
	p      pattern.Pattern
	impact float64
}

// agent is who elevated a pattern: a name in a region, with its key.
type agent struct {
	region, id string
	key        [32]byte
}

func (k *kept) agent() agent {
	return agent{k.p.Region, k.env.Sender.AgentID, k.env.Sender.PublicKey}
}

// order is by impact, the greatest first, then by digest.
func order(a, b *kept) int {
	if c := cmp.Compare(b.impact, a.impact); c != 0 {
		return c
	}
	x, y := a.env.Digest(), b.env.Digest()
	return bytes.Compare(x[:], y[:])
}

// Store keeps patterns. Safe for concurrent use.
type Store struct {
	cfg     Config
	metrics *tally.Figures
	evicted tally.Counter

	mu       sync.RWMutex
	ordered  []*kept // by order
	byDigest map[[32]byte]*kept
	byAgent  map[agent][]*kept
}

// New makes an empty store and registers its handler with the router, which must not have been started.
func New(cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, byDigest: make(map[[32]byte]*kept), byAgent: make(map[agent][]*kept)}
	s.metrics = tally.New("bizra_gossip", nil, func(sheet *tally.Sheet) {
		sheet.Counter("patterns_not_kept_total", "Patterns that were not kept, or no longer, because others have more impact or are newer.", &s.evicted)
		sheet.Gauge("patterns", "Patterns kept.", func() float64 { return float64(s.Len()) })
	})
	if err := s.metrics.Register(cfg.Metrics); err != nil {
		return nil, fmt.Errorf("patterns: %w", err)
	}
	cfg.Gossip.Handle(gossip.Patterns, gossip.Handler{Judge: s.judge, Deliver: s.deliver})
	return s, nil
}

// Close takes the store's metrics back.
func (s *Store) Close() error {
	s.metrics.Unregister(s.cfg.Metrics)
	return nil
}

// read takes a pattern out of its envelope.
func read(env *pci.Envelope) (*kept, error) {
	if env.Payload.Action != pattern.Action {
		return nil, fmt.Errorf("%w: its action is %q", ErrNotPattern, env.Payload.Action)
	}
	p, err := pattern.ReadData(env.Payload.Data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotPattern, err)
	}
	return &kept{env: env, p: p, impact: p.Impact()}, nil
}

func (s *Store) judge(ctx context.Context, _ gossip.Topic, payload []byte) gossip.Judgement {
	env, err := pci.DecodeCanonical(payload)
	if err == nil {
		err = env.Verify()
	}
	if err != nil {
		return gossip.Judgement{Verdict: gossip.Reject, Why: err.Error()}
	}
	if env.Payload.Action != pattern.Action {
		return gossip.Judgement{Verdict: gossip.Reject, Why: ErrNotPattern.Error()}
	}
	k, err := read(env)
	if err != nil {
		// The form of data may change with the state's version, which its region moves first.
		return gossip.Judgement{Verdict: gossip.Ignore}
	}
	return s.cfg.Judge(ctx, env, &k.p)
}

func (s *Store) deliver(m gossip.Message) {
	if env, err := pci.DecodeCanonical(m.Payload); err == nil {
		_, _ = s.Add(env) // it was judged
	}
}

// Share keeps a committed pattern and announces it to all nodes until a time.
func (s *Store) Share(env *pci.Envelope, until time.Time) error {
	if _, err := s.Add(env); err != nil {
		return err
	}
	if err := s.cfg.Gossip.Announce(gossip.Topic{Kind: gossip.Patterns}, env.Canonical(), gossip.Announcement{Until: until}); err != nil {
		return fmt.Errorf("patterns: share %x: %w", env.Digest(), err)
	}
	return nil
}

// Add keeps a pattern if its impact is great enough and says whether it did. It does not
// check the signature, nor who may elevate: what it is given was committed or judged.
func (s *Store) Add(env *pci.Envelope) (bool, error) {
	k, err := read(env)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byDigest[env.Digest()] != nil {
		return true, nil
	}
	if old := s.named(k); old != nil {
		if !later(k, old) {
			s.evicted.Inc()
			return false, nil
		}
		s.drop(old)
	}
	s.insert(k)
	if of := s.byAgent[k.agent()]; len(of) > s.cfg.PerAgentMax {
		s.drop(slices.MaxFunc(of, order))
	}
	if len(s.ordered) > s.cfg.Max {
		s.drop(s.ordered[len(s.ordered)-1])
	}
	return s.byDigest[env.Digest()] != nil, nil
}

// named finds the agent's pattern of the same name. Under mu.
func (s *Store) named(k *kept) *kept {
	for _, old := range s.byAgent[k.agent()] {
		if old.p.Name == k.p.Name {
			return old
		}
	}
	return nil
}

// later says whether a was elevated after b, by the agent's own clock, which its region checked.
func later(a, b *kept) bool {
	if c := cmp.Compare(a.env.TimestampMicros(), b.env.TimestampMicros()); c != 0 {
		return c > 0
	}
	x, y := a.env.Digest(), b.env.Digest()
	return bytes.Compare(x[:], y[:]) > 0
}

func (s *Store) insert(k *kept) {
	i, _ := slices.BinarySearchFunc(s.ordered, k, order)
	s.ordered = slices.Insert(s.ordered, i, k)
	s.byDigest[k.env.Digest()] = k
	s.byAgent[k.agent()] = append(s.byAgent[k.agent()], k)
}

func (s *Store) drop(k *kept) {
	i, _ := slices.BinarySearchFunc(s.ordered, k, order)
	s.ordered = slices.Delete(s.ordered, i, i+1)
	delete(s.byDigest, k.env.Digest())
	rest := slices.DeleteFunc(s.byAgent[k.agent()], func(x *kept) bool { return x == k })
	if s.byAgent[k.agent()] = rest; len(rest) == 0 {
		delete(s.byAgent, k.agent())
	}
	s.evicted.Inc()
}

// Len is how many patterns are kept.
func (s *Store) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.ordered)
}

// Filter says which patterns to list; an empty field takes all.
type Filter struct {
	Region, Agent, Name string
}

// List gives patterns in their order, the greatest impact first, from the offset-th that
// passes the filter on, at most limit and [ListMax].
func (s *Store) List(f Filter, offset, limit int) []Item {
	limit = max(0, min(limit, ListMax))
	items := make([]Item, 0, min(limit, 64))
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, k := range s.ordered {
		if f.Region != "" && f.Region != k.p.Region || f.Agent != "" && f.Agent != k.env.Sender.AgentID || f.Name != "" && f.Name != k.p.Name {
			continue
		}
		if offset > 0 {
			offset--
			continue
		}
		if len(items) == limit {
			break
		}
		items = append(items, k.item())
	}
	return items
}

// Get gives a pattern by its envelope's digest, and the envelope.
func (s *Store) Get(digest [32]byte) (Item, *pci.Envelope, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	k := s.byDigest[digest]
	if k == nil {
		return Item{}, nil, false
	}
	return k.item(), k.env, true
}

func (k *kept) item() Item {
	digest := k.env.Digest()
	return Item{Digest: hex.EncodeToString(digest[:]), Region: k.p.Region, Agent: k.env.Sender.AgentID, Name: k.p.Name, Statement: k.p.Statement, Session: k.p.Session,
		Belief: k.p.Belief, Entropy: k.p.Entropy, Potential: k.p.Potential, Observations: k.p.Observations, Impact: k.impact, Elevated: k.env.Timestamp}
}
