package node

import (
	"context"
	"fmt"
	"os"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/bizra/bizra/consensus/link"
	"github.com/bizra/bizra/consensus/region"
)

// voterStarted puts up what a voter does beside Raft: comparing seals, while it leads
// making Raft's configuration follow the voters that entries name, and re-executing the
// ledgers of the other regions.
func (n *Node) voterStarted(r *region.Region) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctx.Err() != nil {
		return // Close is waiting for mu, and would not see what is started now
	}
	if err := n.startDuties(r); err != nil {
		n.fail(fmt.Errorf("start a voter's duties: %w", err))
	}
}

func (n *Node) startDuties(r *region.Region) error {
	seals, err := link.NewSeals(link.SealsConfig{Self: n.host.ID(), Voters: func() []peer.ID { return link.RaftVoters(r.Configuration()) },
		Read: n.readStale, Ask: n.asker.Seals, OnDiverged: func(d *link.Divergence) { n.fail(d) }, OnAgreed: n.agreed, Logger: n.log})
	if err != nil {
		return err
	}
	n.seals.Store(seals)
	sender, err := link.NewKeySender(link.KeySenderConfig{Host: n.host, Region: n.home.Identity.Region, Read: link.LinearizableReader(r),
		Keys: link.RegionKeys{Log: n.home.LogKey, Cosign: n.home.CosignKey}, Configuration: r.Configuration})
	if err != nil {
		return err
	}
	voters, err := link.NewVoters(link.VotersConfig{Region: r, Read: link.LinearizableReader(r), Stale: n.readStale, Ask: n.asker.Status,
		HandOver: sender.HandOver, Learn: learner(n.host), Logger: n.log})
	if err != nil {
		return err
	}
	n.voters.Store(voters)
	if err := n.startCopies(); err != nil {
		return err
	}
	return n.startAttest(r)
}

// learner keeps the addresses that an entry gives for a new voter where libp2p looks.
func learner(h host.Host) func(peer.ID, []string) {
	return func(p peer.ID, addresses []string) {
		for _, a := range addresses {
			if m, err := ma.NewMultiaddr(a); err == nil { // checked when the entry was made
				h.Peerstore().AddAddr(p, m, peerstore.TempAddrTTL)
			}
		}
	}
}

// serveKeys lets a member take the region's keys, and with them the word that it is to vote.
func (n *Node) serveKeys() error {
	srv, err := link.ServeKeys(n.host, n.access, link.KeysConfig{Region: n.home.Identity.Region, Read: n.readStale, Entries: n.feed.Size,
		Home: n.raftHome, Store: func(k link.RegionKeys) error { return n.home.SaveRegionKeys(k.Log, k.Cosign) },
		StartAsAdded: n.becomeVoter, Logger: n.log})
	if err != nil {
		return err
	}
	n.onClose(srv.Close)
	return nil
}

// raftHome says what this node's home holds of Raft.
func (n *Node) raftHome() (link.RaftHome, error) {
	if n.home.Identity.Role == RoleVoter {
		return link.RaftVoted, nil
	}
	r := n.region.Load()
	if r == nil {
		_, err := os.Stat(n.home.path(folderRaft))
		switch {
		case os.IsNotExist(err):
			return link.RaftNone, nil
		case err != nil:
			return link.RaftUnknown, err
		}
		return link.RaftUnknown, nil
	}
	for _, s := range r.Configuration().Servers {
		if s.ID == r.ID() && s.Suffrage == raft.Voter {
			return link.RaftVoted, nil
		}
	}
	return link.RaftAdded, nil
}

// becomeVoter is called when the leader has handed over the region's keys: the
// follower's copy goes, and Raft brings the state again, from the beginning.
func (n *Node) becomeVoter(ctx context.Context, senders []raft.ServerID) error {
	if n.region.Load() != nil {
		return nil // it was told before
	}
	if err := n.endMember(); err != nil {
		n.fail(err) // it does not follow any more, and must not begin anew beside a store that is still open
		return err
	}
	n.follower.Store(nil)
	if err := n.cfg.Ground.RemoveStore(n.home.path(folderFollow)); err != nil {
		return err
	}
	n.advanced(0)
	r, err := n.newRegion()
	if err != nil {
		return err
	}
	started := make(chan error, 1)
	n.workers.Go(func() {
		n.runVoter(r, func(ctx context.Context) error {
			err := r.StartAsAdded(ctx, senders)
			started <- err
			return err
		})
	})
	select {
	case err := <-started:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
