package node

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/consensus/follow"
	"github.com/bizra/bizra/consensus/link"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/store/pebblestore"
	"github.com/bizra/bizra/p2p"
)

const (
	folderCopies = "copies" // on a voter: what it re-executed of the other regions
	// copySuffix keeps a region whose name is made of dots from being a path.
	copySuffix = ".copy"
	// copiesCacheBytes is shared out among the copies' stores, each getting what a store needs at least.
	copiesCacheBytes    = 64 << 20
	copyCacheBytesLeast = 2 << 20
)

// standbyOver is the number of other regions over which the copies of a voter that does not lead
// stand by, and it keeps no connections to each region. With fewer, every voter follows
// every region, and whoever comes to lead is nowhere behind; with more, that
// would be most of what the nodes do.
const standbyOver = 16

// standsBy says whether this voter's copies stand by now.
func (n *Node) standsBy() bool { return !n.leads() && n.mayStandBy() }

func (n *Node) mayStandBy() bool {
	doc := n.access.Document()
	return doc != nil && len(doc.Regions)-1 > standbyOver
}

// startCopies begins to follow the other regions, where the document has any.
func (n *Node) startCopies() error {
	regions := n.access.ForeignRegions()
	if len(regions) == 0 {
		return nil
	}
	copies, err := follow.NewCopies(follow.CopiesConfig{Host: n.host, Regions: regions, Open: n.openCopy, Discard: n.discardCopy, Keep: n.keepCopy, Peers: n.keeper.Foreign,
		OnExecuted: n.executed, OnRefused: n.refused, OnOpened: n.opened, Standby: n.standsBy(), Fellows: n.fellows, Certified: n.attested.size,
		Follow:  follow.Config{Wall: n.cfg.Ground.Wall, OpenEntries: n.cfg.Ground.OpenEntries},
		Metrics: &n.registry, Logger: n.log})
	if err != nil {
		return err
	}
	n.copies.Store(copies)
	copies.Attend(!n.standsBy()) // it may have changed meanwhile
	return nil
}

// copyOf implements follow.ServerConfig.Copy.
func (n *Node) copyOf(region string) (follow.Source, bool) {
	if c := n.copies.Load(); c != nil {
		return c.Source(region)
	}
	return follow.Source{}, false
}

// fellows are the other voters of the region, who leads first.
func (n *Node) fellows() []peer.ID {
	r := n.region.Load()
	if r == nil {
		return nil
	}
	leader, self := r.LeaderID(), n.host.ID()
	var ids []peer.ID
	for _, id := range link.RaftVoters(r.Configuration()) {
		switch {
		case id == self:
		case id.String() == string(leader):
			ids = slices.Insert(ids, 0, id)
		default:
			ids = append(ids, id)
		}
	}
	return ids
}

func (n *Node) copyFolder(region string) string { return n.home.path(copyFolder(region)) }

func copyFolder(region string) string { return filepath.Join(folderCopies, region+copySuffix) }

// openCopy implements follow.CopiesConfig.Open.
func (n *Node) openCopy(region string) (follow.CopyReplica, error) {
	cache := max(copiesCacheBytes/len(n.access.ForeignRegions()), copyCacheBytesLeast)
	return n.cfg.Ground.OpenCopy(n.copyFolder(region), pebblestore.Options{CacheBytes: int64(cache), Logger: n.log}, fsm.Config{Region: region, Own: n.Document()})
}

// OpenCopy implements [Ground].
func (e earth) OpenCopy(dir string, o pebblestore.Options, cfg fsm.Config) (follow.CopyReplica, error) {
	st, err := e.OpenStore(dir, o)
	if err != nil {
		return nil, copyOpenError(err)
	}
	return follow.OpenCopy(st, cfg)
}

// copyOpenError tells a disk that will serve again, once it has room or is mounted, from
// one whose content is of no use.
func copyOpenError(err error) error {
	var errno syscall.Errno
	passing := errors.As(err, &errno) && !errors.Is(err, fs.ErrNotExist)
	if passing || errors.Is(err, pebblestore.ErrLocked) {
		return err
	}
	return fmt.Errorf("%w: %w", follow.ErrCopyUnusable, err)
}

// discardCopy implements follow.CopiesConfig.Discard.
func (n *Node) discardCopy(region string) error {
	return n.cfg.Ground.RemoveStore(n.copyFolder(region))
}

// keepCopy implements follow.CopiesConfig.Keep: what a quorum has certified decides, as far as
// this node has heard and the copy reaches, and else what its own region has voted for.
func (n *Node) keepCopy(region string, v *fsm.View) (bool, error) {
	size, err := v.Ledger().Size()
	if err != nil {
		return false, err
	}
	holds := func(c *checkpoint.Checkpoint) (bool, error) {
		if c.Size > size {
			return false, nil
		}
		root, err := v.Ledger().Root(c.Size)
		return root == c.Root, err
	}
	if c := n.attested.of(region); c != nil && c.Size <= size {
		return holds(c)
	}
	keep := false
	err = views{n}.Own(func(own *fsm.View) error {
		lock, err := own.Lock(region)
		if errors.Is(err, fsm.ErrNotFound) {
			return nil
		}
		if err == nil {
			keep, err = holds(&lock.Last)
		}
		return err
	})
	return keep, err
}

// closeCopies ends following the other regions.
func (n *Node) closeCopies() error {
	if c := n.copies.Load(); c != nil {
		return c.Close()
	}
	return nil
}

// foreignVoters implements p2p.AccessConfig.Foreign.
func (n *Node) foreignVoters() map[peer.ID]p2p.ForeignVoter {
	if c := n.copies.Load(); c != nil {
		return c.Voters()
	}
	return nil
}

// regionStatus says how far this node has re-executed each other region.
func (n *Node) regionStatus() []client.RegionStatus {
	c := n.copies.Load()
	if c == nil {
		return nil
	}
	var list []client.RegionStatus
	for _, st := range c.Status() {
		r := client.RegionStatus{Region: st.Region, Following: st.Following || st.Standby && st.Open, Size: st.Size, LagEntries: st.LagEntries, LagMillis: st.LagMillis,
			AgeMillis: st.Age.Milliseconds(), Refused: st.Refused, Rebuilt: st.Rebuilt}
		if st.Seal != nil {
			r.Seal = sealStatus(st.Seal)
		}
		if !st.EarlyUntil.IsZero() {
			r.EarlyUntil = st.EarlyUntil.UTC().Format(time.RFC3339Nano)
		}
		if st.Blame != nil {
			r.Blamed = fmt.Sprintf("%s: %s", st.Blame.Code, st.Blame.Detail)
		}
		switch {
		case !st.Open:
			r.Reason = st.Error
		case !st.Following:
			r.Reason = st.LastError
		}
		list = append(list, r)
	}
	return list
}

func sealStatus(s *fsm.Seal) *client.SealStatus {
	return &client.SealStatus{Number: s.Number, Size: s.Size, Root: hex.EncodeToString(s.Root[:]), State: hex.EncodeToString(s.State[:]), Time: timeText(s.TimeMillis)}
}
