package link

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/p2p"
)

// raftCluster is a Raft configuration with the rules that matter here: a change is
// committed by a majority of the configuration that it makes, or else blocks everything.
type raftCluster struct {
	mu       sync.Mutex
	ids      map[string]raft.ServerID // by name
	config   []raft.Server
	leader   raft.ServerID
	down     map[raft.ServerID]bool
	applied  map[raft.ServerID]uint64
	keys     map[raft.ServerID]int // hand-overs
	wish     []fsm.Voter           // as of now
	stale    []fsm.Voter           // as the leader has applied it, if not nil
	log      []string              // changes made
	stuck    string                // the change that could not be committed
	downAt   time.Time             // when somebody went down last
	transfer func(to raft.ServerID) error
	addErr   error
	handOver error
}

func newRaftCluster(names ...string) *raftCluster {
	c := &raftCluster{ids: map[string]raft.ServerID{}, down: map[raft.ServerID]bool{}, applied: map[raft.ServerID]uint64{}, keys: map[raft.ServerID]int{}}
	for _, name := range allNames() {
		p, err := p2p.PeerID(voterNamed(name).NodeKey)
		if err != nil {
			panic(err)
		}
		c.ids[name] = raft.ServerID(p.String())
	}
	for _, name := range names {
		c.config = append(c.config, raft.Server{Suffrage: raft.Voter, ID: c.id(name)})
		c.applied[c.id(name)] = 5000
	}
	c.leader = c.config[0].ID
	c.wished(names...)
	return c
}

// allNames are those that a cluster may have.
func allNames() []string { return []string{"A", "B", "C", "D", "E", "F", "G"} }

func voterNamed(name string) fsm.Voter {
	return fsm.Voter{Name: name, NodeKey: testfed.Key("voters-" + name).Public(), Addresses: []string{"/ip4/192.0.2.1/tcp/4001"}}
}

func (c *raftCluster) id(name string) raft.ServerID { return c.ids[name] }

func (c *raftCluster) name(id raft.ServerID) string {
	for name, other := range c.ids {
		if other == id {
			return name
		}
	}
	return string(id)
}

func (c *raftCluster) wished(names ...string) {
	c.wish = nil
	for _, name := range names {
		c.wish = append(c.wish, voterNamed(name))
	}
}

func (c *raftCluster) voters() string {
	var names []string
	for _, s := range c.config {
		name := c.name(s.ID)
		if s.Suffrage != raft.Voter {
			name += "?"
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// change makes a change if a majority of what it leads to is up.
func (c *raftCluster) change(ctx context.Context, what string, to []raft.Server) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	voters, up := 0, 0
	for _, s := range to {
		if s.Suffrage == raft.Voter {
			voters++
			if !c.down[s.ID] {
				up++
			}
		}
	}
	if 2*up <= voters {
		// Who goes down just after it was asked is nobody's fault.
		if c.stuck == "" && time.Since(c.downAt) > 3*time.Second {
			c.stuck = what
		}
		c.mu.Unlock()
		<-ctx.Done()
		c.mu.Lock()
		return ctx.Err()
	}
	c.config = to
	c.log = append(c.log, what)
	return nil
}

// seat is the cluster as one node has it.
type seat struct {
	*raftCluster
	self raft.ServerID
}

func (s seat) ID() raft.ServerID { return s.self }

func (s seat) IsLeader() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leader == s.self
}

func (s seat) Configuration() raft.Configuration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return raft.Configuration{Servers: slices.Clone(s.config)}
}

func (s seat) Status() region.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return region.Status{AppliedIndex: s.applied[s.self]}
}

func (s seat) AddNonvoter(ctx context.Context, id raft.ServerID) error {
	s.mu.Lock()
	to, err := append(slices.Clone(s.config), raft.Server{Suffrage: raft.Nonvoter, ID: id}), s.addErr
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.change(ctx, "add "+s.name(id), to)
}

func (s seat) AddVoter(ctx context.Context, id raft.ServerID) error {
	s.mu.Lock()
	to := slices.Clone(s.config)
	s.mu.Unlock()
	i := slices.IndexFunc(to, func(o raft.Server) bool { return o.ID == id })
	to[i].Suffrage = raft.Voter
	return s.change(ctx, "promote "+s.name(id), to)
}

func (s seat) RemoveServer(ctx context.Context, id raft.ServerID) error {
	s.mu.Lock()
	to := slices.DeleteFunc(slices.Clone(s.config), func(o raft.Server) bool { return o.ID == id })
	s.mu.Unlock()
	return s.change(ctx, "remove "+s.name(id), to)
}

func (s seat) LeadershipTransfer(_ context.Context, to raft.ServerID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.transfer != nil {
		if err := s.transfer(to); err != nil {
			return err
		}
	}
	if s.down[to] {
		return errors.New("it does not answer")
	}
	s.leader = to
	s.log = append(s.log, "lead "+s.name(to))
	return nil
}

// votersView is a state that knows voters only.
type votersView struct {
	replica
	voters []fsm.Voter
}

func (v *votersView) Voters() ([]fsm.Voter, error)          { return v.voters, nil }
func (*votersView) Document() (*federation.Document, error) { return nil, fsm.ErrNotFound }
func (*votersView) DocumentAt(int64) (*federation.Document, error) {
	return nil, fsm.ErrNotFound
}

func (s seat) read(_ context.Context, fn func(StateView) error) error {
	s.mu.Lock()
	wish := slices.Clone(s.wish)
	s.mu.Unlock()
	return fn(&votersView{voters: wish})
}

func (s seat) readStale(ctx context.Context, fn func(StateView) error) error {
	s.mu.Lock()
	stale := s.stale
	s.mu.Unlock()
	if stale == nil {
		return s.read(ctx, fn)
	}
	return fn(&votersView{voters: stale})
}

func (s seat) ask(ctx context.Context, p peer.ID, _ ...int64) (*Status, error) {
	id := raft.ServerID(p.String())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down[id] {
		s.mu.Unlock()
		<-ctx.Done()
		s.mu.Lock()
		return nil, ctx.Err()
	}
	st := &Status{Region: "a", AppliedIndex: s.applied[id]}
	if s.keys[id] > 0 || slices.ContainsFunc(s.config, func(o raft.Server) bool { return o.ID == id && o.Suffrage == raft.Voter }) {
		st.Role = "Follower"
	}
	return st, nil
}

func (s seat) give(_ context.Context, node federation.Key) error {
	p, err := p2p.PeerID(node)
	if err != nil {
		return err
	}
	id := raft.ServerID(p.String())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handOver != nil || s.down[id] {
		return errors.Join(s.handOver, fmt.Errorf("%s is not reached", s.name(id)))
	}
	s.keys[id]++
	return nil
}

// run starts the loop of each of these nodes.
func (c *raftCluster) run(t testing.TB, names ...string) map[string]*Voters {
	t.Helper()
	loops := map[string]*Voters{}
	for _, name := range names {
		s := seat{c, c.id(name)}
		v, err := NewVoters(VotersConfig{Region: s, Read: s.read, Stale: s.readStale, Ask: s.ask, HandOver: s.give})
		if err != nil {
			t.Fatal(err)
		}
		loops[name] = v
	}
	return loops
}

func end(loops map[string]*Voters) {
	for _, v := range loops {
		v.Close()
	}
}

func (c *raftCluster) after(ctx context.Context, d time.Duration) {
	sleep(ctx, d)
	synctest.Wait()
}

func (c *raftCluster) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}
