package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/bizra/bizra/consensus/follow"
	"github.com/bizra/bizra/consensus/link"
	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/pci"
)

// startServices puts up what the nodes of a region say to each other. All of it stands
// before Raft starts: founding voters ask each other first.
func (n *Node) startServices(context.Context) (err error) {
	name := n.home.Identity.Region
	if n.asker, err = link.NewAsker(link.AskerConfig{Host: n.host, Region: name}); err != nil {
		return err
	}
	status, err := link.ServeStatus(n.host, n.access, link.StatusConfig{Version: n.cfg.Version, Region: name, Raft: n.raftStatus, Read: n.readStale, Wall: n.cfg.Ground.Wall})
	if err != nil {
		return err
	}
	n.onClose(status.Close)
	if err := n.serveRead(); err != nil {
		return err
	}
	entries, err := follow.Serve(follow.ServerConfig{Host: n.host, Access: n.access, Region: name, View: n.state.View, Feed: n.feed, Age: n.age, Copy: n.copyOf,
		Metrics: &n.registry, Logger: n.log})
	if err != nil {
		return err
	}
	n.onClose(entries.Close)
	n.intake, err = link.NewIntake(link.IntakeConfig{Host: n.host, Access: n.access, Region: proposer{n}, Voters: n.voterPeers, Logger: n.log})
	if err != nil {
		return err
	}
	n.onClose(n.intake.Close)
	if err := n.serveCertificates(); err != nil {
		return err
	}
	if err := n.serveKeys(); err != nil {
		return err
	}
	n.onClose(n.closeReplica)
	return nil
}

// closeReplica ends Raft or the follower, and with it the state. It comes before the
// services, so that a leader hands over while its voters can still reach it.
func (n *Node) closeReplica() error {
	n.awaitStart()
	n.awaitDuties()
	errs := []error{n.closeAttest(), n.closeCopies()}
	if v := n.voters.Load(); v != nil {
		errs = append(errs, v.Close())
	}
	if s := n.seals.Load(); s != nil {
		errs = append(errs, s.Close())
	}
	errs = append(errs, n.endMember())
	if r := n.region.Load(); r != nil {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

// awaitStart returns when Raft has started, or has given up since the node's context
// ended; after that it does not start. To close it while it starts would close stores that
// it is opening, and leave the others open.
func (n *Node) awaitStart() {
	n.starting.Lock()
	n.starting.Unlock() //nolint:staticcheck,gocritic // having had the lock is the point
}

// awaitDuties returns when the duties that voterStarted is starting are started; after
// the end of the node's context it starts no more.
func (n *Node) awaitDuties() {
	n.mu.Lock()
	n.mu.Unlock() //nolint:staticcheck,gocritic // having had the lock is the point
}

// Submit puts proofs, as they came, through the gates of the region.
func (n *Node) Submit(ctx context.Context, raw [][]byte) ([]link.Outcome, error) {
	if err := n.Failure(); err != nil {
		return nil, errors.Join(region.ErrFailed, err)
	}
	return n.intake.Submit(ctx, raw)
}

// Adopt puts the proof by which an operator adopts a federation document through the gates
// of the region, together with the document in canonical form.
func (n *Node) Adopt(ctx context.Context, raw, document []byte) (link.Outcome, error) {
	if err := n.Failure(); err != nil {
		return link.Outcome{}, errors.Join(region.ErrFailed, err)
	}
	return n.intake.Adopt(ctx, raw, document)
}

// proposer is this node's Raft for the intake; a member has none, until it is made a voter.
type proposer struct{ n *Node }

func (p proposer) Propose(ctx context.Context, envelopes []*pci.Envelope) ([]fsm.Receipt, error) {
	r := p.n.region.Load()
	if r == nil {
		return nil, region.ErrNotLeader
	}
	receipts := make([]fsm.Receipt, len(envelopes))
	open, places := p.n.edge.admit(p.n.home.Identity.Region, envelopes, receipts)
	if len(open) < len(envelopes) {
		if err := p.n.repeat(receipts, places); err != nil {
			return nil, fmt.Errorf("%w: %w", region.ErrNotCommitted, err)
		}
	}
	if len(open) == 0 {
		return receipts, nil
	}
	decided, err := r.Propose(ctx, open)
	if err != nil || len(decided) != len(open) {
		return decided, err
	}
	for k, i := range places {
		receipts[i] = decided[k]
	}
	return receipts, nil
}

// repeat gives what is on record its first receipt again, where the edge held it back: everywhere but at the places. That an
// agent is limited takes no receipt from it.
func (n *Node) repeat(receipts []fsm.Receipt, places []int) error {
	v, err := n.state.View()
	if err != nil {
		return err
	}
	for i := range receipts {
		if _, passed := slices.BinarySearch(places, i); passed {
			continue
		}
		first, err := v.Receipt(receipts[i].Digest)
		if errors.Is(err, fsm.ErrNotFound) {
			continue
		}
		if err != nil {
			return errors.Join(err, v.Close())
		}
		first.Repeated = true
		receipts[i] = first
	}
	return v.Close()
}

func (p proposer) Adopt(ctx context.Context, envelope *pci.Envelope, document []byte) (fsm.Receipt, error) {
	r := p.n.region.Load()
	if r == nil {
		return fsm.Receipt{}, region.ErrNotLeader
	}
	return r.Adopt(ctx, envelope, document)
}

func (p proposer) IsLeader() bool {
	r := p.n.region.Load()
	return r != nil && r.IsLeader()
}

func (p proposer) LeaderID() raft.ServerID {
	if r := p.n.region.Load(); r != nil {
		return r.LeaderID()
	}
	return ""
}

func (p proposer) Configuration() raft.Configuration {
	if r := p.n.region.Load(); r != nil {
		return r.Configuration()
	}
	return raft.Configuration{}
}

func (n *Node) raftStatus() region.Status {
	if r := n.region.Load(); r != nil {
		return r.Status()
	}
	return region.Status{Entries: n.feed.Size()}
}

// age is since when this node may not know what its region committed.
func (n *Node) age() time.Duration {
	if r := n.region.Load(); r != nil {
		if r.IsLeader() {
			return 0
		}
		return time.Since(r.Status().LastContact)
	}
	if f := n.follower.Load(); f != nil {
		return f.Age()
	}
	return 0
}

// readStale lends what this node has applied.
func (n *Node) readStale(_ context.Context, fn func(link.StateView) error) error {
	v, err := n.state.View()
	if err != nil {
		return err
	}
	return errors.Join(fn(v), v.Close())
}

// noteResult passes on what others wait for.
func (n *Node) noteResult(res *fsm.Result) {
	if res.BreakersMoved {
		n.refreshEdge()
	}
	if s := n.seals.Load(); s != nil && res.Seal != nil {
		s.Sealed()
	}
	if d := n.attest.Load(); d != nil {
		d.Applied(res)
	}
	n.noteElevated(res)
	v := n.voters.Load()
	if v != nil && res.VotersChanged {
		v.Changed()
	}
	if v != nil && res.Transfer != nil {
		v.Transfer(*res.Transfer)
	}
}
