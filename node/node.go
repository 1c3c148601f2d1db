package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/bizra/bizra/api"
	"github.com/bizra/bizra/consensus/attest/drive"
	"github.com/bizra/bizra/consensus/follow"
	"github.com/bizra/bizra/consensus/link"
	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/rounds"
	"github.com/bizra/bizra/internal/tally"
	"github.com/bizra/bizra/p2p"
)

// Node is a running node. Start makes one, Close ends it.
type Node struct {
	cfg      Config
	home     *Home
	log      *slog.Logger
	started  time.Time
	registry tally.Registry
	metrics  *metrics

	host   host.Host
	access *p2p.Access
	guard  *p2p.Guard
	keeper *p2p.Keeper
	state  *state
	feed   *follow.Feed
	intake *link.Intake
	edge   edge
	api    *api.Server
	listen net.Listener

	witnesses *witnesses // outside ones; set before the interface is up

	asker  *link.Asker
	seals  atomic.Pointer[link.Seals]  // nil on a member
	voters atomic.Pointer[link.Voters] // nil on a member

	hears    hearsay
	attest   atomic.Pointer[drive.Driver] // nil on a member
	attested *attested
	alarms   alarms
	judges   *judges

	region   atomic.Pointer[region.Region] // nil on a member
	follower atomic.Pointer[follow.Follower]
	raft     atomic.Pointer[p2p.RaftPeers] // as of the last look
	copies   atomic.Pointer[follow.Copies] // nil on a member, and where there is one region

	starting   sync.Mutex // held while Raft starts; closing the replica waits for it
	mu         sync.Mutex
	stopMember func() error // under mu; nil on a voter
	member     *member      // under mu; nil on a voter

	ctx     context.Context // of everything that Close or a failure ends
	cancel  context.CancelFunc
	workers sync.WaitGroup
	looking rounds.Rounds  // who votes
	asking  rounds.Rounds  // for certificates
	closers []func() error // in the order in which they were started

	failOnce sync.Once
	failed   chan struct{}
	failure  error // set before failed is closed
}

// Start opens the home and puts the node up. It returns once the node listens; a
// region whose founding voters are not all there yet is founded later, which
// [Node.Ready] tells.
func Start(ctx context.Context, cfg Config) (n *Node, err error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	home, err := cfg.Ground.OpenHome(cfg.Home)
	if err != nil {
		return nil, err
	}
	n = &Node{cfg: cfg, home: home, log: cfg.Log.With("node", home.Identity.Name), started: time.Now(),
		state: &state{openStore: cfg.Ground.OpenStore, openFollowed: cfg.Ground.OpenFollowed}, feed: follow.NewFeed(0), attested: newAttested(), judges: newJudges(), failed: make(chan struct{})}
	n.state.onDocument = n.goBy
	n.state.onFatal = func(err error) { go n.fail(err) } // its caller may hold the store's locks
	n.ctx, n.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close(context.Background()))
			n = nil
		}
	}()
	for _, up := range []func(context.Context) error{n.startHost, n.learnDocument, n.startKeeper, n.startServices, n.startGossip, n.startHTTP} {
		if err := up(ctx); err != nil {
			return n, fmt.Errorf("start node %s: %w", home.Identity.Name, err)
		}
	}
	if err := n.startReplica(); err != nil {
		return n, fmt.Errorf("start node %s: %w", home.Identity.Name, err)
	}
	return n, nil
}

// onClose remembers what Close has to end, last started first.
func (n *Node) onClose(f func() error) { n.closers = append(n.closers, f) }

func (n *Node) startHost(context.Context) error {
	var err error
	if n.access, err = p2p.NewAccess(p2p.AccessConfig{Region: n.home.Identity.Region, Raft: n.raftPeers, Client: n.isClient,
		Foreign: n.foreignVoters, Directory: n.cfg.Ground.Directory, Credential: n.cfg.Ground.Credential, Logger: n.log}); err != nil {
		return err
	}
	n.host, err = n.cfg.Ground.NewHost(p2p.Config{Key: n.home.NodeKey, Listen: n.cfg.Listen, Announce: n.cfg.Announce, PortMap: n.cfg.PortMap,
		Version: n.cfg.Version, Logger: n.log})
	if err != nil {
		return err
	}
	n.onClose(n.host.Close)
	if n.guard, err = p2p.NewGuard(n.host, n.access, p2p.GuardConfig{}); err != nil {
		return err
	}
	n.onClose(n.guard.Close)
	return nil
}

// learnDocument takes the home's document, or fetches it by joining.
func (n *Node) learnDocument(ctx context.Context) error {
	if n.home.Document == nil {
		if len(n.cfg.Join) == 0 {
			return fmt.Errorf("%s has no %s: name a node of the federation with --join /ip4/…/tcp/…/p2p/…", n.home.Dir, FileDocument)
		}
		joined, err := p2p.Join(ctx, n.host, p2p.JoinConfig{Addresses: n.cfg.Join, Region: n.home.Identity.Region, Pin: n.cfg.Pin,
			Invitation: n.home.Invitation, Logger: n.log})
		if err != nil {
			return err
		}
		if err := n.home.SaveDocument(joined.Document); err != nil {
			return err
		}
		if err := n.home.check(); err != nil {
			return err
		}
	}
	pinned, err := n.home.hasDocument(n.cfg.Pin)
	if err != nil {
		return err
	}
	if !pinned {
		return fmt.Errorf("the federation document of %s has digest %x, and %x was asked for: this is another federation, or another version of it",
			n.home.Dir, n.home.Document.Digest(), *n.cfg.Pin)
	}
	return n.access.SetDocument(n.home.Document)
}

func (n *Node) startKeeper(context.Context) (err error) {
	n.keeper, err = p2p.NewKeeper(n.host, n.access, p2p.KeeperConfig{BookPath: n.cfg.Ground.BookPath(n.home), Bootstrap: n.cfg.Join, Invitation: n.home.Invitation,
		StandsBy: n.standsBy})
	if err != nil {
		return err
	}
	n.onClose(n.keeper.Close)
	return nil
}

func (n *Node) startHTTP(context.Context) (err error) {
	n.metrics = newMetrics(n)
	n.state.watch = func() fsm.Observer { return n.metrics.newLayerTimer() }
	n.state.onApply = func(took time.Duration) { n.metrics.apply.Observe(applyBuckets(), took.Seconds()) }
	n.registry.MustRegister(n.metrics, &marketMetrics{n.marketNow})
	if n.cfg.HTTP == "" {
		return nil
	}
	// They are of the process, which has many nodes where none serves its metrics.
	n.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if n.witnesses, err = newWitnesses(n.cfg.Witnesses, n.state.View, n.log); err != nil {
		return err
	}
	for _, x := range n.witnesses.all {
		n.workers.Go(func() { n.witnesses.run(n.ctx, x) })
	}
	cfg := n.cfg.API
	if cfg.Registry, err = n.registry.Open(); err != nil {
		return err
	}
	cfg.Log, cfg.Origin = n.log, checkpoint.Origin(n.home.Document.Name, n.home.Identity.Region)
	if n.api, err = api.New(backend{n}, cfg); err != nil {
		return err
	}
	if n.listen, err = net.Listen("tcp", n.cfg.HTTP); err != nil {
		return fmt.Errorf("listen for HTTP on %q: %w; choose another address with --http", n.cfg.HTTP, err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := n.api.Serve(n.listen); err != nil {
			n.fail(err) // it serves until it is told to stop
		}
	}()
	n.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), n.cfg.StopTimeout/2)
		defer cancel()
		err := n.api.Shutdown(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			// A client that takes its time is no fault of this node.
			n.log.Warn("HTTP requests were cut off", "error", err)
			err = nil
		}
		<-served
		return err
	})
	return nil
}

// Document is the federation document that this node goes by: the newest that has come in
// force, or the one that it was given. It is nil before the node has joined.
func (n *Node) Document() *federation.Document { return n.access.Document() }

// Metrics are those of the node's parts, which /metrics serves.
func (n *Node) Metrics() (prometheus.Collector, error) { return n.registry.Open() }

// Name is the node's name in its federation.
func (n *Node) Name() string { return n.home.Identity.Name }

// Addresses are the multiaddrs, with /p2p/ID, under which others reach the node.
func (n *Node) Addresses() []string {
	var list []string
	for _, a := range n.host.Addrs() {
		list = append(list, a.String()+"/p2p/"+n.host.ID().String())
	}
	return list
}

// HTTPAddress is the URL of the HTTP interface, "" if there is none.
func (n *Node) HTTPAddress() string {
	if n.listen == nil {
		return ""
	}
	return "http://" + n.listen.Addr().String()
}

// Failed is closed once the node must not go on; [Node.Failure] then says why.
func (n *Node) Failed() <-chan struct{} { return n.failed }

// Failure is why the node must not go on, nil while it may.
func (n *Node) Failure() error {
	select {
	case <-n.failed:
		return n.failure
	default:
		return nil
	}
}

func (n *Node) fail(err error) {
	n.failOnce.Do(func() {
		n.failure = err
		n.log.Error("this node must stop", "error", err)
		close(n.failed)
	})
}

// Close takes the node down: requests first, then leadership, Raft, the state, the
// host. It waits for everything that was started.
func (n *Node) Close(context.Context) error {
	n.cancel()
	var errs []error
	for i := len(n.closers) - 1; i >= 0; i-- {
		errs = append(errs, n.closers[i]())
	}
	n.closers = nil
	n.looking.Stop()
	n.asking.Stop()
	n.workers.Wait()
	return errors.Join(errs...)
}
