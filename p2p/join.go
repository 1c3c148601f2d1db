package p2p

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/fsm/federation"
)

// Errors of joining; test with errors.Is.
var (
	// ErrPin is returned where a peer's document is not the one that was pinned.
	ErrPin = errors.New("federation document is not the pinned one")
	// ErrDocument is returned where a peer's document is not valid, or lacks the own region.
	ErrDocument = errors.New("federation document is of no use")
)

// JoinConfig says where and how to join. A time of zero takes the default named at its field.
type JoinConfig struct {
	Addresses  []string  // of any nodes of the federation, with /p2p/ID
	Region     string    // the own region, which the document must have
	Pin        *[32]byte // the document's digest, if it is known beforehand
	Invitation []byte    // for a node that the document does not list

	TryTimeout time.Duration // for one peer; 5 s
	Stagger    time.Duration // before the next peer is tried beside one that has not answered yet; 500 ms
	RetryBase  time.Duration // the wait after the first round; 500 ms, doubled each round
	RetryMax   time.Duration // 15 s
	Logger     *slog.Logger
}

func (c JoinConfig) withDefaults() JoinConfig {
	set := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	set(&c.TryTimeout, 5*time.Second)
	set(&c.Stagger, 500*time.Millisecond)
	set(&c.RetryBase, 500*time.Millisecond)
	set(&c.RetryMax, 15*time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c JoinConfig) validate() error {
	switch {
	case len(c.Addresses) == 0:
		return errors.New("join: no address given: --join takes " + joinForm)
	case c.Region == "":
		return errors.New("join: Region is empty: it must name the own region")
	case c.TryTimeout < 0 || c.Stagger < 0 || c.RetryBase < 0 || c.RetryMax < 0:
		return fmt.Errorf("join: times must not be negative: %+v", c)
	}
	return nil
}

// Joined is what a node learnt by joining.
type Joined struct {
	Document *federation.Document
	Peers    []PeerRecord // of the own region where the peer that answered is of it; hints
	From     peer.ID      // who answered
	Role     string       // what this node is to it, a [Role]'s name
}

// Join asks the addresses for the federation document and the region's peers, all at
// once but each a little after the one before, and again with growing waits, until one
// gives a document that passes: valid, with the own region, and the pinned one if there
// is a pin. It gives up with ctx, and at once where every peer answered and none of
// the answers can become better by asking again.
func Join(ctx context.Context, h host.Host, cfg JoinConfig) (*Joined, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	targets, err := joinTargets(h.ID(), cfg.Addresses)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	return join(ctx, cfg, targets, func(ctx context.Context, target peer.AddrInfo) (*Joined, error) {
		return askToJoin(ctx, h, cfg, target)
	})
}

// joinTargets groups the addresses by node, in the order given, without this node.
func joinTargets(self peer.ID, addresses []string) ([]peer.AddrInfo, error) {
	var targets []peer.AddrInfo
	for _, text := range addresses {
		target, err := ParseAddress(text)
		if err != nil {
			return nil, err
		}
		if target.ID == self {
			continue
		}
		if i := slices.IndexFunc(targets, func(t peer.AddrInfo) bool { return t.ID == target.ID }); i >= 0 {
			targets[i].Addrs = append(targets[i].Addrs, target.Addrs...)
		} else {
			targets = append(targets, target)
		}
	}
	if len(targets) == 0 {
		return nil, errors.New("every address given is this node's own")
	}
	return targets, nil
}

// join is [Join] over any way to ask.
func join(ctx context.Context, cfg JoinConfig, targets []peer.AddrInfo, ask func(context.Context, peer.AddrInfo) (*Joined, error)) (*Joined, error) {
	wait := backoff{base: cfg.RetryBase, max: cfg.RetryMax}
	for round := 1; ; round++ {
		joined, err := joinRound(ctx, cfg, targets, ask)
		if err == nil {
			return joined, nil
		}
		if ctx.Err() == nil && hopeless(err) {
			return nil, fmt.Errorf("join: %w", err)
		}
		pause := wait.wait(round)
		if ctx.Err() == nil {
			cfg.Logger.Warn("joining: nobody gave a usable answer yet", "round", round, "retry_in", pause.Round(time.Millisecond), "error", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("join: %w after %d rounds; the last one: %w", ctx.Err(), round, err)
		case <-timer.C:
		}
	}
}

// roundError holds why each peer of a round failed.
type roundError []error

// Error lists them all.
func (e roundError) Error() string { return errors.Join(e...).Error() }

// Unwrap gives them to errors.Is.
func (e roundError) Unwrap() []error { return e }

// hopeless says that asking again cannot help: every peer was reached and answered
// with something that will be the same the next time.
func hopeless(err error) bool {
	var round roundError
	if !errors.As(err, &round) {
		return false
	}
	for _, e := range round {
		var fault *Fault
		final := errors.Is(e, ErrPin) || errors.Is(e, ErrDocument) || errors.As(e, &fault) && fault.Code == FaultInvitation
		if !final {
			return false
		}
	}
	return len(round) > 0
}

func joinRound(ctx context.Context, cfg JoinConfig, targets []peer.AddrInfo, ask func(context.Context, peer.AddrInfo) (*Joined, error)) (*Joined, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		joined *Joined
		err    error
	}
	answers := make(chan answer, len(targets)) // room for all, so that nobody is left waiting
	next, running := 0, 0
	start := func() {
		target := targets[next]
		next++
		running++
		go func() {
			ctx, cancel := context.WithTimeout(ctx, cfg.TryTimeout)
			defer cancel()
			joined, err := ask(ctx, target)
			answers <- answer{joined, err}
		}()
	}
	var found *Joined
	var failed roundError
	stagger := time.NewTicker(max(cfg.Stagger, 1))
	defer stagger.Stop()
	for start(); running > 0; {
		select {
		case a := <-answers:
			running--
			if a.err == nil && found == nil {
				found = a.joined
				cancel()
			} else if a.err != nil {
				failed = append(failed, a.err)
			}
			if found == nil && ctx.Err() == nil && next < len(targets) {
				start()
				stagger.Reset(max(cfg.Stagger, 1))
			}
		case <-stagger.C:
			if found == nil && ctx.Err() == nil && next < len(targets) {
				start()
				stagger.Reset(max(cfg.Stagger, 1))
			}
		}
	}
	if found != nil {
		return found, nil
	}
	return nil, failed
}

func askToJoin(ctx context.Context, h host.Host, cfg JoinConfig, target peer.AddrInfo) (*Joined, error) {
	clearDialBackoff(h, target.ID)
	if err := h.Connect(ctx, target); err != nil {
		return nil, fmt.Errorf("%v at %v: %w", target.ID, target.Addrs, err)
	}
	request := joinRequest{Region: cfg.Region, Invitation: cfg.Invitation, Addresses: ownAddresses(h)}
	var response joinResponse
	if err := CallLimit(ctx, h, target.ID, ProtocolJoin, JoinResponseBytesMax, &request, &response); err != nil {
		return nil, err
	}
	d, err := federation.Parse(response.Document)
	if err != nil {
		return nil, fmt.Errorf("%w: from %v: %w", ErrDocument, target.ID, err)
	}
	if digest := d.Digest(); cfg.Pin != nil && digest != *cfg.Pin {
		return nil, fmt.Errorf("%w: %v gave %s, wanted %s", ErrPin, target.ID, hex.EncodeToString(digest[:]), hex.EncodeToString(cfg.Pin[:]))
	}
	if _, ok := d.Region(cfg.Region); !ok {
		return nil, fmt.Errorf("%w: that of %v, federation %q, has no region %q", ErrDocument, target.ID, d.Name, cfg.Region)
	}
	if len(response.Peers) > JoinPeersMax {
		return nil, fmt.Errorf("%w: %v told of %d peers, at most %d are taken", ErrFrameMalformed, target.ID, len(response.Peers), JoinPeersMax)
	}
	return &Joined{Document: d, Peers: response.Peers, From: target.ID, Role: cut(response.Role, faultCodeBytesMax)}, nil
}
