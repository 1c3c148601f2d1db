package node

import (
	"context"
	"errors"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/gossip"
)

// What follows looks into a node that runs in the same process.

// Read lends the state that the node has applied; it may be behind the region's.
func (n *Node) Read(fn func(*fsm.View) error) error {
	v, err := n.state.View()
	if err != nil {
		return err
	}
	return errors.Join(fn(v), v.Close())
}

// ReadCurrent lends the state once it holds everything that was acknowledged before the call, by
// whichever node of the region.
func (n *Node) ReadCurrent(ctx context.Context, fn func(*fsm.View) error) error {
	least, err := n.catchUp(ctx)
	if err != nil {
		return err
	}
	return n.Read(func(v *fsm.View) error {
		size, err := v.Ledger().Size()
		switch {
		case err != nil:
			return err
		case size < least:
			return errNoState // it was replaced meanwhile
		}
		return fn(v)
	})
}

// ReadCopy lends the node's copy of another region's ledger. Where there is none, fn is not called.
func (n *Node) ReadCopy(origin string, fn func(*fsm.View) error) error {
	return views{n}.Copy(origin, fn)
}

// Ready says whether the node can serve.
func (n *Node) Ready() bool { return n.notReady() == "" }

// RaftStatus is how the node's part in its region's Raft stands.
func (n *Node) RaftStatus() region.Status { return n.raftStatus() }

// AttestStatus is how attestation stands on this node; false where it does not attest.
func (n *Node) AttestStatus() (attest.Status, bool) {
	d := n.attest.Load()
	if d == nil {
		return attest.Status{}, false
	}
	return d.Status(), true
}

// LocalStatus says whether the node hears the rest of the federation.
func (n *Node) LocalStatus() gossip.LocalStatus { return n.hears.router.LocalOnly() }
