package link

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
)

// StateView is one consistent view of the replicated state. [fsm.View] is one.
type StateView interface {
	Seals() int64
	SealAt(number int64) (*fsm.Seal, error)
	Voters() ([]fsm.Voter, error)
	Entry(index int64) (*fsm.Entry, error)
	Document() (*federation.Document, error)
	DocumentAt(index int64) (*federation.Document, error)
}

// Reader lends a view of the state to fn, which must not keep it. What fn learned
// counts only if the Reader returns nil.
type Reader func(ctx context.Context, fn func(StateView) error) error

// viewer is what a [region.StateMachine] must be besides, to be read here. What
// [region.StoredMachine] makes is.
type viewer interface {
	View() (*fsm.View, error)
}

// LinearizableReader reads on the leader what [region.Region.Read] promises.
func LinearizableReader(r *region.Region) Reader {
	return func(ctx context.Context, fn func(StateView) error) error {
		return r.Read(ctx, func(sm region.StateMachine) error { return lend(sm, fn) })
	}
}

// StaleReader reads what this node has applied, also without a leader. It must not be
// used before [region.Region.Start] has returned.
func StaleReader(r *region.Region) Reader {
	return func(_ context.Context, fn func(StateView) error) error {
		return r.ReadStale(func(sm region.StateMachine) error { return lend(sm, fn) })
	}
}

func lend(sm region.StateMachine, fn func(StateView) error) error {
	m, ok := sm.(viewer)
	if !ok {
		return fmt.Errorf("read the state: a %T gives no views", sm)
	}
	v, err := m.View()
	if err != nil {
		return fmt.Errorf("read the state: %w", err)
	}
	return errors.Join(fn(v), v.Close())
}

// RaftVoters lists the voters of a Raft configuration, in its order.
func RaftVoters(c raft.Configuration) []peer.ID {
	var ids []peer.ID
	for _, s := range c.Servers {
		if id, err := peer.Decode(string(s.ID)); err == nil && s.Suffrage == raft.Voter {
			ids = append(ids, id)
		}
	}
	return ids
}
