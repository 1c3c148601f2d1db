package sim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/node"
	"github.com/bizra/bizra/pci"
	"github.com/bizra/bizra/sim/memnet"
)

// World is a federation that runs, inside a synctest bubble. Its methods are for one goroutine.
type World struct {
	Fed *testfed.Federation
	// Auditor holds what the nodes say against the promises, throughout.
	Auditor *Auditor

	cfg     Config
	memo    *memo
	net     *memnet.Network
	regions map[string][]*Node // voters first
	names   []string           // of the regions, in the document's order
	numbers map[string]int     // their places in it
	home    map[peer.ID]string // region
	agents  map[string]*testfed.Signer
	proofs  int
	ahead   atomic.Int64 // nanoseconds that all wall clocks have leapt

	byID     map[peer.ID]*Node
	parts    map[string]func(from, to *Node) bool
	weathers map[string]weatherRule

	mu   sync.Mutex
	slow map[string]time.Duration // what is added one way to and from a region

	operating sync.Mutex
	operators map[string]*testfed.Signer
}

// New makes a world and starts its nodes; each region is founded when it returns.
func New(ctx context.Context, cfg Config) (w *World, err error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	w = &World{cfg: cfg, memo: newMemo(cfg.NoMemo), regions: make(map[string][]*Node), home: make(map[peer.ID]string),
		agents: make(map[string]*testfed.Signer), operators: make(map[string]*testfed.Signer), numbers: make(map[string]int), slow: make(map[string]time.Duration),
		byID: make(map[peer.ID]*Node), parts: make(map[string]func(from, to *Node) bool), weathers: make(map[string]weatherRule)}
	w.Fed = testfed.NewDrawn(cfg.draw(""), cfg.Regions, cfg.Voters, testfed.Open, testfed.Lenient, cfg.addresses, cfg.Change)
	if w.Fed.Document, err = federation.Parse(w.Fed.Document.Canonical()); err != nil {
		return nil, err
	}
	w.Auditor = newAuditor(w)
	if w.net, err = memnet.New(memnet.Config{Latency: w.latency, Tap: cfg.Tap}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
			w = nil
		}
	}()
	for number, r := range w.Fed.Document.Regions {
		w.names, w.numbers[r.Name] = append(w.names, r.Name), number
		for i, k := range w.Fed.Nodes[r.Name] {
			if err := w.add(r.Name, i, true, k); err != nil {
				return w, err
			}
		}
		for i := range cfg.members(number) {
			k := testfed.Key(cfg.draw(fmt.Sprintf("%s-member-%d", r.Name, i)))
			if err := w.add(r.Name, cfg.Voters+i, false, k); err != nil {
				return w, err
			}
		}
	}
	for _, n := range w.All() {
		if err := errors.Join(ctx.Err(), n.Start(ctx)); err != nil {
			return w, err
		}
		cfg.started()
	}
	err = w.Await(ctx, "every region to be founded and its nodes to be ready", w.founded())
	if err == nil {
		err = w.enrol(ctx)
	}
	return w, err
}

// addresses gives each voter of a document the address of its first host.
func (c *Config) addresses(d *federation.Document) {
	for r := range d.Regions {
		for v := range d.Regions[r].Voters {
			d.Regions[r].Voters[v].Addresses = []string{memnet.Address(r*(c.Voters+c.Members) + v)}
		}
	}
}

func (w *World) add(region string, index int, votes bool, key *pci.PrivateKey) error {
	n := &Node{Region: region, Index: index, Votes: votes, world: w, key: key, disk: newDisk(),
		dir: filepath.Join(w.cfg.Dir, fmt.Sprintf("%s-%d", region, index+1))}
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return err
	}
	private, err := hostKey(key)
	if err != nil {
		return err
	}
	if n.ID, err = peer.IDFromPrivateKey(private); err != nil {
		return err
	}
	w.home[n.ID], w.byID[n.ID] = region, n
	w.regions[region] = append(w.regions[region], n)
	if !votes {
		return nil
	}
	return os.WriteFile(filepath.Join(n.dir, foundingFile), nil, 0o600)
}

// watch is what a node tells of itself.
func (w *World) watch(n *Node) node.Watch {
	watch := w.Auditor.watch(n)
	watch.Said = func(t attest.Topic) { w.cfg.said(n, t) }
	return watch
}

// Close stops every node and waits for it.
func (w *World) Close() error {
	audited := w.Auditor.close()
	all := w.All()
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, n := range all {
		wg.Go(func() { errs[i] = n.Stop() }) // at once: those left would look for those gone, and a crowd for long
	}
	wg.Wait()
	return errors.Join(audited, errors.Join(errs...), w.memo.close())
}

// Regions are the names of the regions, in the document's order.
func (w *World) Regions() []string { return slices.Clone(w.names) }

// Nodes are a region's, voters first.
func (w *World) Nodes(region string) []*Node { return w.regions[region] }

// Voters are a region's.
func (w *World) Voters(region string) []*Node { return w.regions[region][:w.cfg.Voters] }

// All are the nodes of all regions.
func (w *World) All() (all []*Node) {
	for _, r := range w.names {
		all = append(all, w.regions[r]...)
	}
	return all
}

// Leader is the voter of a region that leads and is up, nil if none does.
func (w *World) Leader(region string) *Node {
	for _, n := range w.Voters(region) {
		if x := n.Running(); x != nil && x.RaftStatus().Role == "Leader" {
			return n
		}
	}
	return nil
}

// founded says whether every node has been ready at some time: a node that was is not asked again, for
// there may be thousands, and a voter's status tells of every region.
func (w *World) founded() func() (bool, error) {
	rest := w.All()
	return func() (bool, error) {
		for len(rest) > 0 {
			x := rest[len(rest)-1].Running()
			if !x.Ready() {
				return false, x.Failure()
			}
			rest = rest[:len(rest)-1]
		}
		return true, nil
	}
}

func (w *World) ready() (bool, error) {
	for _, n := range w.All() {
		x := n.Running()
		if x == nil {
			continue
		}
		if !x.Ready() {
			return false, x.Failure()
		}
	}
	return true, nil
}

// pollEvery is how often something awaited is looked at.
const pollEvery = 20 * time.Millisecond

// Await waits in virtual time until something holds, and fails when the context ends, or with
// the first promise that is broken.
func (w *World) Await(ctx context.Context, what string, holds func() (bool, error)) error {
	start := time.Now()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		ok, err := holds()
		if err := errors.Join(err, w.Auditor.Broken()); err != nil {
			return fmt.Errorf("while waiting for %s: %w", what, err)
		}
		if ok {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited %v for %s: %w", time.Since(start), what, context.Cause(ctx))
		}
	}
}

// Within is Await with a limit in virtual time.
func (w *World) Within(ctx context.Context, limit time.Duration, what string, holds func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return w.Await(ctx, what, holds)
}
