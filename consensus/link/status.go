package link

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/p2p"
)

// Limits of the messages of [p2p.ProtocolStatus].
const (
	statusSealsLast        = 8 // seals that a status tells of unasked, the newest
	SealsAskedMax          = 8 // and of those that were asked for
	statusTextBytesMax     = 64
	statusRequestBytesMax  = 1 << 10
	statusResponseBytesMax = 8 << 10
	statusTimeout          = 5 * time.Second
	statusPerPeerPerSec    = 50
	statusPerPeerBurst     = 200
)

// SealSum is what a replica made of one seal, in short.
type SealSum struct {
	_      struct{} `cbor:",toarray"`
	Number int64
	Size   int64    // entries sealed
	Body   [32]byte // SHA-256 of [fsm.Seal.Body]
}

func sumOf(number int64, s *fsm.Seal) SealSum {
	return SealSum{Number: number, Size: s.Size, Body: sha256.Sum256(s.Body())}
}

// Status is what a node says of itself. Of another node's, nothing but what it says is known.
type Status struct {
	Version      string       `cbor:"1,keyasint,omitempty"` // of its program
	ClockMillis  int64        `cbor:"2,keyasint"`           // Unix
	Region       string       `cbor:"3,keyasint"`
	Role         string       `cbor:"4,keyasint,omitempty"` // Raft's: Follower, Candidate, Leader, Shutdown; "" while it does not run
	Phase        region.Phase `cbor:"5,keyasint,omitempty"`
	AppliedIndex uint64       `cbor:"6,keyasint,omitempty"` // of Raft
	Entries      int64        `cbor:"7,keyasint,omitempty"` // of the ledger
	Seals        []SealSum    `cbor:"8,keyasint,omitempty"` // those asked for and the newest, where it has them; by number, each once
}

type statusRequest struct {
	Seals []int64 `cbor:"1,keyasint,omitempty"` // numbers of seals of interest
}

// StatusConfig says what a node tells of itself.
type StatusConfig struct {
	Version string
	Region  string
	// Raft is this node's Raft; nil on a node that has none.
	Raft func() region.Status
	// Wall reads the wall clock; time.Now.
	Wall func() time.Time
	// Read reads the own state, stale; it may fail while there is none.
	Read Reader
}

func (c StatusConfig) withDefaults() StatusConfig {
	if c.Wall == nil {
		c.Wall = time.Now
	}
	return c
}

func (c StatusConfig) validate() error {
	if c.Region == "" || c.Read == nil {
		return errors.New("status: Region or Read is missing")
	}
	if len(c.Version) > statusTextBytesMax {
		return fmt.Errorf("status: Version has %d bytes, at most %d", len(c.Version), statusTextBytesMax)
	}
	return nil
}

// ServeStatus answers what this node is and how far, until the server is closed. It
// must be served before Raft is started: founding voters ask each other first.
func ServeStatus(h host.Host, a *p2p.Access, cfg StatusConfig) (*p2p.Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s, err := p2p.Serve(h, a, p2p.ProtocolStatus, p2p.Limits{RequestBytesMax: statusRequestBytesMax, ResponseBytesMax: statusResponseBytesMax,
		Timeout: statusTimeout, PerPeerPerSecond: statusPerPeerPerSec, PerPeerBurst: statusPerPeerBurst},
		func(ctx context.Context, _ peer.ID, request *statusRequest) (*Status, error) {
			return cfg.status(ctx, request.Seals)
		})
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	return s, nil
}

func (c StatusConfig) status(ctx context.Context, asked []int64) (*Status, error) {
	if len(asked) > SealsAskedMax {
		return nil, &p2p.Fault{Code: "too-many", Detail: fmt.Sprintf("%d seals asked for, at most %d", len(asked), SealsAskedMax)}
	}
	s := &Status{Version: c.Version, Region: c.Region}
	if c.Raft != nil {
		r := c.Raft()
		s.Role, s.Phase, s.AppliedIndex, s.Entries = r.Role, r.Phase, r.AppliedIndex, r.Entries
	}
	// A node that cannot read its state yet has no seals to tell of, but a clock.
	if err := c.Read(ctx, func(v StateView) (err error) {
		s.Seals, err = sums(v, asked)
		return err
	}); err != nil {
		s.Seals = nil
	}
	s.ClockMillis = c.Wall().UnixMilli()
	return s, nil
}

// sums tells of the seals asked for and of the newest.
func sums(v StateView, asked []int64) ([]SealSum, error) {
	count := v.Seals()
	numbers := slices.Clone(asked)
	for n := max(0, count-statusSealsLast); n < count; n++ {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	var sums []SealSum
	for _, n := range slices.Compact(numbers) {
		seal, err := v.SealAt(n)
		if errors.Is(err, fsm.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		sums = append(sums, sumOf(n, seal))
	}
	return sums, nil
}

// AskerConfig configures an [Asker].
type AskerConfig struct {
	Host    host.Host
	Region  string
	Timeout time.Duration // of one question; 2 s
}

// Asker asks other nodes of the region for their status. Safe for concurrent use.
type Asker struct {
	cfg AskerConfig
}

// NewAsker makes an Asker.
func NewAsker(cfg AskerConfig) (*Asker, error) {
	set(&cfg.Timeout, 2*time.Second)
	if cfg.Host == nil || cfg.Region == "" {
		return nil, errors.New("asker: Host or Region is missing")
	}
	if err := positive("asker", duration{"Timeout", cfg.Timeout}); err != nil {
		return nil, err
	}
	return &Asker{cfg}, nil
}

// Status asks a node for its status and for these seals, at most [SealsAskedMax].
func (a *Asker) Status(ctx context.Context, p peer.ID, seals ...int64) (*Status, error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeout)
	defer cancel()
	var s Status
	if err := p2p.CallLimit(ctx, a.cfg.Host, p, p2p.ProtocolStatus, statusResponseBytesMax, &statusRequest{Seals: seals}, &s); err != nil {
		return nil, fmt.Errorf("ask %v for its status: %w", p, err)
	}
	if err := a.check(p, &s); err != nil {
		return nil, err
	}
	return &s, nil
}

// check bounds what another node says of itself.
func (a *Asker) check(p peer.ID, s *Status) error {
	if s.Region != a.cfg.Region {
		return fmt.Errorf("ask %v for its status: it is of region %.63q, not %q", p, s.Region, a.cfg.Region)
	}
	if len(s.Seals) > statusSealsLast+SealsAskedMax || len(s.Version) > statusTextBytesMax || len(s.Role) > statusTextBytesMax || s.Phase > region.PhasePast {
		return fmt.Errorf("ask %v for its status: %w", p, p2p.ErrFrameMalformed)
	}
	return nil
}

// Clock asks another voter for its time, as [region.Config] wants it.
func (a *Asker) Clock(ctx context.Context, id raft.ServerID) (unixMillis int64, err error) {
	s, err := a.ask(ctx, id)
	if err != nil {
		return 0, err
	}
	return s.ClockMillis, nil
}

// FoundingOf asks another voter how far its founding is, as [region.Config] wants it.
func (a *Asker) FoundingOf(ctx context.Context, id raft.ServerID) (region.Phase, error) {
	s, err := a.ask(ctx, id)
	if err != nil {
		return region.PhaseUnknown, err
	}
	return s.Phase, nil
}

func (a *Asker) ask(ctx context.Context, id raft.ServerID) (*Status, error) {
	p, err := peer.Decode(string(id))
	if err != nil {
		return nil, fmt.Errorf("read peer ID %.80q: %w", id, err)
	}
	return a.Status(ctx, p)
}

// Clocks measures how far the clocks of nodes are ahead of this one's, all at once.
// It takes the answer to have been given in the middle of the call, so it is off by at
// most half of the call's time. Nodes that do not answer are missing.
func (a *Asker) Clocks(ctx context.Context, nodes []peer.ID) map[peer.ID]time.Duration {
	var mu sync.Mutex
	var wg sync.WaitGroup
	offsets := make(map[peer.ID]time.Duration, len(nodes))
	for _, p := range nodes {
		wg.Go(func() {
			start := time.Now()
			s, err := a.Status(ctx, p)
			if err != nil {
				return
			}
			middle := start.Add(time.Since(start) / 2).Round(0)
			mu.Lock()
			offsets[p] = time.UnixMilli(s.ClockMillis).Sub(middle)
			mu.Unlock()
		})
	}
	wg.Wait()
	return offsets
}
