package p2p

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	dialsMax        = 8 // at once
	greetingsMax    = 8 // exchanges and pings at once
	pingFailuresMax = 2 // in a row, until a connection counts as dead
	protectTag      = "bizra/region"
	reasonBytesMax  = 256
	gatherFor       = 50 * time.Millisecond // between two looks at what is to be done, whatever the news
)

// KeeperConfig configures a [Keeper]. A time of zero takes the default named at its field.
type KeeperConfig struct {
	BookPath   string   // the address book's file; "": in memory only
	Bootstrap  []string // addresses with /p2p/ID that are kept connected whoever they are, such as those of --join
	Invitation []byte   // shown to every peer; for a node that the document does not list

	// ForeignPerRegion is to how many voters of each other region a voter holds connections,
	// whoever dialled; 2, and of more than 33 regions 1, at most 16. -1: to none. Members hold none.
	ForeignPerRegion int
	// StandsBy says that this voter need not reach every other region now, since another of its own
	// does: it then holds a connection to each of four of them. It is asked often. Nil: never.
	StandsBy func() bool

	TickEvery     time.Duration // how often it looks at most what is to be done, unless something happens; 1 s
	ExchangeEvery time.Duration // between peer exchanges with one connected node drawn at random; 30 s, up to 4 min while they bring nothing, give or take a quarter
	PingEvery     time.Duration // 30 s
	PingTimeout   time.Duration // 5 s
	SaveEvery     time.Duration // least between two writings of the address book, where it changed; 1 s
	RedialBase    time.Duration // the wait after the first failed dial; 500 ms, doubled each time
	RedialMax     time.Duration // 30 s
	DialTimeout   time.Duration // 10 s
	Logger        *slog.Logger
}

func (c KeeperConfig) withDefaults() KeeperConfig {
	set := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	if c.StandsBy == nil {
		c.StandsBy = func() bool { return false }
	}
	set(&c.TickEvery, time.Second)
	set(&c.ExchangeEvery, 30*time.Second)
	set(&c.PingEvery, 30*time.Second)
	set(&c.PingTimeout, 5*time.Second)
	set(&c.SaveEvery, time.Second)
	set(&c.RedialBase, 500*time.Millisecond)
	set(&c.RedialMax, 30*time.Second)
	set(&c.DialTimeout, 10*time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c KeeperConfig) validate() error {
	for _, d := range []time.Duration{c.TickEvery, c.ExchangeEvery, c.PingEvery, c.PingTimeout, c.SaveEvery, c.RedialBase, c.RedialMax, c.DialTimeout} {
		if d <= 0 {
			return fmt.Errorf("keeper: times must be positive: %+v", c)
		}
	}
	if c.ForeignPerRegion < -1 || c.ForeignPerRegion > foreignMax {
		return fmt.Errorf("keeper: ForeignPerRegion is %d: it must be -1 to %d", c.ForeignPerRegion, foreignMax)
	}
	if len(c.Invitation) > InvitationBytesMax {
		return fmt.Errorf("keeper: the invitation has %d bytes, at most %d", len(c.Invitation), InvitationBytesMax)
	}
	return nil
}

// Keeper keeps a node connected to its region, and a voter to the other regions: it dials
// voters, a few members and a few voters of each other region again and again, tells them where this node is, learns where others are, remembers it
// in a file, closes connections that are dead, and answers the join protocol.
type Keeper struct {
	host   host.Host
	access *Access
	cfg    KeeperConfig
	book   *Book
	server *Server
	notify *network.NotifyBundle
	net    reach
	redial backoff

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // the loop, and every dial, exchange and ping
	dials  chan struct{}  // a place for each dial at once
	talks  chan struct{}  // a place for each exchange or ping at once
	wake   chan struct{}  // something changed; holds at most one
	stale  atomic.Bool    // something was learned that the outlook does not have
	news   atomic.Bool    // an exchange has brought something since the last look

	mu        sync.Mutex
	closed    bool
	bootstrap map[peer.ID][]ma.Multiaddr
	seen      *outlook              // nil before the first
	peers     map[peer.ID]*keptPeer // the targets, and who else is worth remembering while connected
}

// keptPeer is what a keeper knows of one peer; under the keeper's mu.
type keptPeer struct {
	busy         bool      // a dial, exchange or ping runs
	kept         bool      // wanted, and so not to be closed to make room
	dialled      bool      // by this node, as far as it is connected
	failures     int       // dials in a row
	next         time.Time // not to be dialled before
	lostFor      string    // why it is not connected
	muteFor      string    // why the last greeting failed, or what else ails the connection
	greeted      bool      // since it is connected,
	since        time.Time // when it was
	greetFails   int
	nextGreet    time.Time
	pinged       time.Time
	pingFailures int
}

// NewKeeper starts keeping. The node must not serve [ProtocolJoin] by other means.
func NewKeeper(h host.Host, a *Access, cfg KeeperConfig) (*Keeper, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	k := newKeeper(a, cfg, hostReach{h})
	k.host = h
	if err := k.setBootstrap(cfg.Bootstrap); err != nil {
		k.cancel()
		return nil, fmt.Errorf("keeper: %w", err)
	}
	answers := &joinServer{host: h, access: a, book: k.book, learned: k.learned}
	server, err := Serve(h, a, ProtocolJoin, answers.limits(), answers.handle)
	if err != nil {
		k.cancel()
		return nil, fmt.Errorf("keeper: %w", err)
	}
	k.server = server
	k.notify = &network.NotifyBundle{
		ConnectedF:    func(network.Network, network.Conn) { k.stir() },
		DisconnectedF: func(_ network.Network, c network.Conn) { k.lost(c.RemotePeer()) },
	}
	h.Network().Notify(k.notify)
	k.wg.Go(k.run)
	return k, nil
}

func newKeeper(a *Access, cfg KeeperConfig, net reach) *Keeper {
	ctx, cancel := context.WithCancel(context.Background())
	k := &Keeper{access: a, cfg: cfg, net: net, redial: backoff{cfg.RedialBase, cfg.RedialMax}, ctx: ctx, cancel: cancel,
		dials: make(chan struct{}, dialsMax), talks: make(chan struct{}, greetingsMax), wake: make(chan struct{}, 1),
		bootstrap: make(map[peer.ID][]ma.Multiaddr), peers: make(map[peer.ID]*keptPeer), book: OpenBook(cfg.BookPath, cfg.Logger)}
	return k
}

func (k *Keeper) setBootstrap(addresses []string) error {
	if len(addresses) == 0 {
		return nil
	}
	targets, err := joinTargets(k.net.self(), addresses)
	if err != nil {
		return err
	}
	for _, t := range targets {
		k.bootstrap[t.ID] = t.Addrs
	}
	return nil
}

// Book is the keeper's address book.
func (k *Keeper) Book() *Book { return k.book }

// JoinStats counts the join protocol's streams.
func (k *Keeper) JoinStats() Stats { return k.server.Stats() }

// Learn takes what a [Join] told of peers. Those that neither the document nor Raft nor a
// ledger nor a valid invitation of theirs makes nodes of the region named are passed over.
func (k *Keeper) Learn(records []PeerRecord) {
	for i, r := range records {
		if i == JoinPeersMax {
			break
		}
		id, err := peer.IDFromBytes(r.ID)
		if err != nil || id == k.net.self() {
			continue
		}
		if len(r.Invitation) > 0 && r.Region == k.access.Region() {
			if k.spares(id) {
				continue // before its signature costs anything
			}
			if inv, err := k.access.Admit(id, r.Invitation); err == nil {
				k.book.Invited(id, inv.Canonical())
			}
		}
		if k.access.Role(id) < Foreign || k.access.RegionOf(id) != r.Region {
			continue
		}
		if k.book.heard(id, r.Addresses) {
			continue
		}
		if addrs := dialable(r.Addresses); len(addrs) > 0 && k.book.Learn(id, addrs) {
			k.learned(id)
		}
	}
}

// Close stops answering and dialling, waits for what is under way and writes the
// address book. Connections stay; they are the host's.
func (k *Keeper) Close() error {
	var err error
	if k.server != nil {
		err = k.server.Close()
	}
	if k.notify != nil {
		k.host.Network().StopNotify(k.notify)
	}
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.cancel()
	k.wg.Wait()
	return errors.Join(err, k.book.Save())
}

func (k *Keeper) stir() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// learned makes a peer's new addresses tried at once.
func (k *Keeper) learned(p peer.ID) {
	k.stale.Store(true)
	k.news.Store(true)
	k.mu.Lock()
	if kp, ok := k.peers[p]; ok {
		kp.failures, kp.next = 0, time.Time{}
	}
	k.mu.Unlock()
	k.stir()
}

// lost makes a lost peer dialled again: at once if it had been greeted, for most losses
// are restarts and moves; else as after a failed dial, because a peer that hangs up on
// newcomers would be dialled without end.
func (k *Keeper) lost(p peer.ID) {
	if k.net.connected(p) {
		return
	}
	k.mu.Lock()
	if kp, ok := k.peers[p]; ok {
		kp.next = time.Time{}
		if !kp.greeted {
			kp.failures++
			kp.next = time.Now().Add(k.redial.wait(kp.failures))
		}
		kp.dialled, kp.greeted, kp.greetFails, kp.nextGreet, kp.pingFailures = false, false, 0, time.Time{}, 0
		kp.lostFor = "connection lost"
		if kp.muteFor != "" {
			kp.lostFor += ": " + kp.muteFor
		}
		kp.muteFor = ""
	}
	k.mu.Unlock()
	k.stir()
}

func (k *Keeper) run() {
	for id, inv := range k.book.Invitations() {
		if _, err := k.access.Admit(id, inv); err != nil {
			k.cfg.Logger.Debug("remembered invitation no longer holds", "peer", id, "error", err)
		}
	}
	exchange := time.NewTimer(spread(k.cfg.ExchangeEvery)) // nodes that start together must not ask together for ever
	defer exchange.Stop()
	var saved, asked time.Time
	idle := 0 // exchanges in a row that brought nothing
	for due := false; ; {
		looked := time.Now()
		wait := k.tend()
		// At once where that may be: a region whose nodes are all killed soon after they met
		// finds itself again by what is in their books.
		if time.Since(saved) >= k.cfg.SaveEvery && k.save() {
			saved = time.Now()
		}
		due = due || time.Since(asked) >= k.cfg.ExchangeEvery/lackingFaster && k.lacks(time.Now())
		if due && k.exchangeWithOne() {
			due, asked = false, time.Now()
		}
		tick := time.NewTimer(wait)
		select {
		case <-k.ctx.Done():
		case <-tick.C:
		case <-k.wake:
			tick.Stop()
			// Of a crowd that joins, many come at once. A timer of its own: one that is moved has the runtime look at all others.
			tick = time.NewTimer(gatherFor - time.Since(looked))
			select {
			case <-k.ctx.Done():
			case <-tick.C:
			}
		case <-exchange.C:
			due = true
			if idle = min(idle+1, exchangeIdleMax); k.news.Swap(false) {
				idle = 0
			}
			exchange.Reset(spread(k.cfg.ExchangeEvery << idle))
		}
		if tick.Stop(); k.ctx.Err() != nil {
			return
		}
	}
}

// exchangeIdleMax is how often the time between two exchanges is doubled that bring nothing.
const exchangeIdleMax = 3

// lackingFaster is how much more often a node asks around while it lacks connections: whom it
// asked may not have known the others' addresses yet.
const lackingFaster = 6

// save writes the address book if there is anything new in it, and tells whether there was.
func (k *Keeper) save() (wrote bool) {
	wrote, err := k.book.save()
	if err != nil {
		k.cfg.Logger.Warn("address book", "error", err)
	}
	return wrote
}

// tend starts the dials, greetings and pings that are due, and says how long nothing else will be.
func (k *Keeper) tend() time.Duration {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	wanted := k.wanted(now)
	for id, keep := range wanted {
		if keep && k.peers[id] == nil {
			k.peers[id] = &keptPeer{}
		}
	}
	due := now.Add(outlookFor)
	for id, kp := range k.peers {
		keep, known := wanted[id]
		if keep != kp.kept {
			kp.kept = keep
			k.net.protect(id, keep)
		}
		switch {
		case !known && !kp.busy:
			delete(k.peers, id)
			// A member that others are nearer to than this node is theirs to hold.
			if kp.dialled && k.access.Role(id) == Member && k.net.connected(id) {
				k.wg.Go(func() { k.net.drop(id) })
			}
		case !keep: // of a candidate it is remembered how its dials went
		case kp.busy:
		case !k.net.connected(id):
			if due = earlier(due, kp.next); !now.Before(kp.next) {
				k.start(id, kp, k.dials, k.dial)
			}
		case !kp.greeted && !now.Before(kp.nextGreet):
			due = now
			k.start(id, kp, k.talks, k.greet)
		case now.Sub(kp.pinged) >= k.cfg.PingEvery:
			kp.pinged = now
			k.start(id, kp, k.talks, k.ping)
		default:
			due = earlier(due, kp.pinged.Add(k.cfg.PingEvery))
		}
	}
	return max(due.Sub(now), k.cfg.TickEvery)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// start runs work on a peer if there is a place for it; else it is due at the next tick. Under mu.
func (k *Keeper) start(id peer.ID, kp *keptPeer, places chan struct{}, work func(peer.ID) func(*keptPeer)) (started bool) {
	if k.closed {
		return false
	}
	select {
	case places <- struct{}{}:
	default:
		return false
	}
	kp.busy = true
	k.wg.Go(func() {
		outcome := work(id)
		<-places
		k.mu.Lock()
		kp.busy = false
		was := kp.greeted
		outcome(kp)
		settled := was && kp.greeted
		k.mu.Unlock()
		if !settled { // else nothing is due because of it
			k.stir()
		}
	})
	return true
}

// addresses are all that are known of a peer, best first.
func (k *Keeper) addresses(p peer.ID) []ma.Multiaddr {
	addrs := k.book.Addresses(p)
	for _, more := range [][]ma.Multiaddr{k.bootstrap[p], k.access.dialable(p)} {
		for _, a := range more {
			addrs = appendDialable(addrs, a)
		}
	}
	return addrs
}

func (k *Keeper) dial(p peer.ID) func(*keptPeer) {
	ctx, cancel := context.WithTimeout(k.ctx, k.cfg.DialTimeout)
	defer cancel()
	err := k.net.connect(ctx, peer.AddrInfo{ID: p, Addrs: k.addresses(p)})
	return func(kp *keptPeer) {
		if err == nil {
			kp.dialled = true
			// Until it has been greeted it may hang up, and the news of that may come late.
			kp.next, kp.lostFor = time.Now().Add(k.redial.wait(kp.failures+1)), ""
			return
		}
		kp.failures++
		kp.next = time.Now().Add(k.redial.wait(kp.failures))
		kp.lostFor = cut(err.Error(), reasonBytesMax)
	}
}

func (k *Keeper) greet(p peer.ID) func(*keptPeer) {
	err := k.exchange(p)
	return func(kp *keptPeer) {
		if err == nil {
			now := time.Now()
			kp.greeted, kp.since, kp.greetFails, kp.failures, kp.next, kp.muteFor = true, now, 0, 0, time.Time{}, ""
			kp.pinged = now.Add(-rand.N(k.cfg.PingEvery/2 + 1)) //nolint:gosec // it lives; and spreads load
			return
		}
		kp.greetFails++
		kp.nextGreet = time.Now().Add(k.redial.wait(kp.greetFails))
		kp.muteFor = cut(err.Error(), reasonBytesMax)
	}
}

// exchange tells a peer where this node is and learns what it knows.
func (k *Keeper) exchange(p peer.ID) error {
	ctx, cancel := context.WithTimeout(k.ctx, k.cfg.DialTimeout)
	defer cancel()
	request := &joinRequest{Region: k.access.Region(), Invitation: k.cfg.Invitation, Addresses: k.net.addresses(), NoDocument: true}
	response, err := k.net.exchange(ctx, p, request)
	if err != nil {
		return err
	}
	k.Learn(response.Peers)
	if response.Role == Stranger.String() {
		k.cfg.Logger.Warn("a peer takes this node for a stranger: it is of another federation, holds another document, or does not take the invitation", "peer", p)
	}
	if k.access.Role(p) >= Foreign {
		if k.book.Told(p, k.net.reachedAt(p)) {
			k.stir()
		}
	}
	return nil
}

// exchangeWithOne starts an exchange with a random peer that nothing is under way with,
// or says that there is none now.
func (k *Keeper) exchangeWithOne() (started bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var idle []peer.ID
	for id, kp := range k.peers {
		if !kp.busy && kp.greeted && k.net.connected(id) {
			idle = append(idle, id)
		}
	}
	if len(idle) == 0 {
		return false
	}
	slices.Sort(idle)
	id := idle[rand.IntN(len(idle))] //nolint:gosec // spreads load, guards no secret
	return k.start(id, k.peers[id], k.talks, func(p peer.ID) func(*keptPeer) {
		if err := k.exchange(p); err != nil {
			k.cfg.Logger.Debug("peer exchange failed", "peer", p, "error", err)
		}
		return func(*keptPeer) {}
	})
}

func (k *Keeper) ping(p peer.ID) func(*keptPeer) {
	ctx, cancel := context.WithTimeout(k.ctx, k.cfg.PingTimeout)
	defer cancel()
	err := k.net.ping(ctx, p)
	return func(kp *keptPeer) {
		if !errors.Is(err, context.DeadlineExceeded) {
			kp.pingFailures = 0 // an answer, even "protocol not supported", is a sign of life
			return
		}
		if kp.pingFailures++; kp.pingFailures >= pingFailuresMax {
			kp.pingFailures = 0
			kp.muteFor = fmt.Sprintf("no answer to %d pings of %v", pingFailuresMax, k.cfg.PingTimeout)
			k.wg.Go(func() { k.net.drop(p) })
		}
	}
}
