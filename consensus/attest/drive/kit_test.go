package drive

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/internal/testnet"
)

// federation is voters with real state machines on a network in memory. Its Rafts commit at
// once, and copies follow at once.
type federation struct {
	t     *testing.T
	net   *testnet.Net
	zones map[string]*zone
	// gossip hands what is published to everybody; without it, everything is lost.
	gossip bool
}

// zone is a region.
type zone struct {
	f    *federation
	name string

	mu       sync.Mutex // guards what follows, and applying
	log      [][]byte
	voters   []*voter
	leader   *voter
	seals    int64
	operator *testfed.Signer
	count    int
}

// voter is a node.
type voter struct {
	zone     *zone
	node     *testnet.Node
	m        *fsm.Machine
	d        *Driver
	registry *prometheus.Registry

	mu      sync.Mutex // guards what follows
	copies  map[string]*fsm.Machine
	learned map[string]int64 // size by origin
	alarms  []attest.Alarm
	failed  error
}

func newFederation(t *testing.T, regions int, gossip bool) *federation {
	t.Helper()
	f := &federation{t: t, net: testnet.New(regions, 3, 0), zones: map[string]*zone{}, gossip: gossip}
	for _, r := range f.net.Fed.Document.Regions {
		z := &zone{f: f, name: r.Name, operator: f.net.Fed.Operator(r.Name, 0)}
		z.log = [][]byte{fsm.EncodeGenesis(time.Now().UnixMilli(), f.net.Fed.Document.Canonical())}
		f.zones[r.Name] = z
		for _, n := range f.net.Nodes[r.Name] {
			m, err := fsm.Open(store.NewMemory(), fsm.Config{Region: r.Name, Document: f.document})
			if err != nil {
				t.Fatal(err)
			}
			z.voters = append(z.voters, &voter{zone: z, node: n, m: m, registry: prometheus.NewRegistry(), copies: map[string]*fsm.Machine{}, learned: map[string]int64{}})
		}
		z.leader = z.voters[0]
	}
	for _, a := range f.all() {
		for _, b := range f.all() {
			if a.zone != b.zone {
				f.net.Connect(a.node, b.node)
			}
		}
	}
	for _, z := range f.zones {
		z.apply()
	}
	for _, v := range f.all() {
		v.start()
	}
	return f
}

func (f *federation) document(digest [32]byte) ([]byte, bool) {
	return f.net.Fed.Document.Canonical(), digest == f.net.Fed.Document.Digest()
}

func (f *federation) all() (all []*voter) {
	for _, r := range f.net.Fed.Document.Regions {
		all = append(all, f.zones[r.Name].voters...)
	}
	return all
}

func (f *federation) close() {
	for _, v := range f.all() {
		v.stop()
		if err := v.m.Close(); err != nil {
			f.t.Error(err)
		}
		for _, c := range v.copies {
			if err := c.Close(); err != nil {
				f.t.Error(err)
			}
		}
	}
	f.net.Close()
}

func (v *voter) config() Config {
	fed := v.zone.f.net.Fed
	return Config{
		Attest: attest.Config{Region: v.zone.name, Document: fed.Document, Views: v,
			Signer: attest.NewKeys(v.zone.name, fed.LogKeys[v.zone.name], fed.Cosign[v.zone.name])},
		Host: v.node.Host, Access: v.node.Access,
		Voters:  func(region string) []peer.ID { return testnet.IDs(v.zone.f.net.Nodes[region]) },
		Leading: func() bool { return v.zone.leads(v) },
		Propose: func(_ context.Context, command []byte) error { return v.zone.propose(v, command) },
		Publish: v.publish,
		OnLearned: func(l attest.Learned) {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.learned[l.Origin] = l.Size
		},
		OnAlarm: func(a attest.Alarm) {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.alarms = append(v.alarms, a)
		},
		OnFailure: func(err error) {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.failed = errors.Join(v.failed, err)
		},
		Metrics: v.registry,
	}
}

func (v *voter) start() {
	v.zone.f.t.Helper()
	d, err := New(v.config())
	if err != nil {
		v.zone.f.t.Fatal(err)
	}
	v.zone.mu.Lock()
	defer v.zone.mu.Unlock()
	v.d = d
	if v.zone.seals > 0 {
		d.Agreed(v.zone.seals - 1)
	}
}

// stop ends the driver; the voter's Raft goes on.
func (v *voter) stop() {
	v.zone.mu.Lock()
	d := v.d
	v.d = nil
	v.zone.mu.Unlock()
	if d == nil {
		return
	}
	if err := d.Close(); err != nil {
		v.zone.f.t.Error(err)
	}
}

// Own implements attest.Views.
func (v *voter) Own(fn func(*fsm.View) error) error { return lend(v.m, fn) }

// Copy implements attest.Views.
func (v *voter) Copy(origin string, fn func(*fsm.View) error) error {
	v.mu.Lock()
	c := v.copies[origin]
	v.mu.Unlock()
	if c == nil {
		return nil
	}
	return lend(c, fn)
}

func lend(m *fsm.Machine, fn func(*fsm.View) error) error {
	v, err := m.View()
	if err != nil {
		return err
	}
	return errors.Join(fn(v), v.Close())
}

func (v *voter) publish(topic attest.Topic, data []byte) error {
	if !v.zone.f.gossip {
		return errors.New("gossip is down")
	}
	for _, o := range v.zone.f.all() {
		if o == v || topic.Region != "" && topic.Region != o.zone.name {
			continue
		}
		o.zone.mu.Lock()
		d := o.d
		o.zone.mu.Unlock()
		if d != nil {
			d.Heard(data)
		}
	}
	return nil
}

func (z *zone) leads(v *voter) bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.leader == v
}

func (z *zone) lead(v *voter) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.leader = v
}

func (z *zone) propose(by *voter, command []byte) error {
	z.mu.Lock()
	if by != nil && z.leader != by {
		z.mu.Unlock()
		return errors.New("not the leader")
	}
	z.log = append(z.log, command)
	z.mu.Unlock()
	z.apply()
	return nil
}

// apply applies what is committed on every voter, and tells their drivers.
func (z *zone) apply() {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, v := range z.voters {
		at, _ := v.m.AppliedIndex()
		for i := int(at); i < len(z.log); i++ {
			res, err := v.m.Apply([]fsm.Command{{Index: uint64(i + 1), Term: 1, Data: z.log[i]}})
			if err != nil {
				z.f.t.Error(err)
				return
			}
			if res[0].Seal != nil {
				z.seals = res[0].Seal.Number + 1
			}
			if v.d != nil {
				v.d.Applied(&res[0])
			}
		}
	}
}

// seal grows the ledger by an entry, seals it and has everybody follow.
func (z *zone) seal() {
	z.mu.Lock()
	now := time.Now().UnixMilli()
	z.operator.NowMillis = now
	z.count++
	proof := z.operator.Register(z.name, z.f.net.Fed.Agent(fmt.Sprint("agent-", z.count), now))
	z.mu.Unlock()
	_ = z.propose(nil, fsm.EncodeProofs(now, [][]byte{proof.Canonical()}))
	_ = z.propose(nil, fsm.EncodeSeal())
	z.mu.Lock()
	for _, v := range z.voters {
		if v.d != nil && z.seals > 0 {
			v.d.Agreed(z.seals - 1)
		}
	}
	z.mu.Unlock()
	z.followed()
}

// followed brings every copy of the region's ledger up to date.
func (z *zone) followed() {
	for _, v := range z.f.all() {
		if v.zone == z {
			continue
		}
		if err := v.follow(z); err != nil {
			z.f.t.Error(err)
		}
		v.zone.mu.Lock()
		if v.d != nil {
			v.d.Executed(z.name)
		}
		v.zone.mu.Unlock()
	}
}

func (v *voter) follow(z *zone) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	c := v.copies[z.name]
	if c == nil {
		var err error
		if c, err = fsm.Open(store.NewMemory(), fsm.Config{Region: z.name, Document: z.f.document}); err != nil {
			return err
		}
		v.copies[z.name] = c
	}
	return lend(z.voters[0].m, func(from *fsm.View) error {
		return lend(c, func(have *fsm.View) error {
			for n := have.Seals(); n < from.Seals(); n++ {
				s, err := from.SealAt(n)
				if err != nil {
					return err
				}
				entries, err := from.Ledger().Entries(c.Size(), s.Size, 1<<30)
				if err == nil {
					err = errors.Join(c.ApplyEntries(entries), c.ApplySeal(s))
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// within waits in virtual time until something holds.
func (f *federation) within(limit time.Duration, what string, holds func() bool) time.Duration {
	f.t.Helper()
	begin := time.Now()
	for !holds() {
		if time.Since(begin) > limit {
			for _, v := range f.all() {
				v.mu.Lock()
				f.t.Logf("%s-%d: failed %v, alarms %v", v.zone.name, v.node.Index, v.failed, v.alarms)
				v.mu.Unlock()
				if v.d != nil {
					f.t.Logf("  %+v", v.d.Status())
				}
			}
			f.t.Fatalf("not within %v: %s", limit, what)
		}
		<-time.After(10 * time.Millisecond)
	}
	return time.Since(begin)
}

// certified reports whether all voters of a region know so many of its seals to be certified, and
// the other regions' leaders, or with gossip all their voters, so many of its entries.
func (z *zone) certified(seals int64) bool {
	size := int64(0)
	for _, v := range z.voters {
		if v.d == nil {
			continue
		}
		st := v.d.Status()
		if st.Certified < seals {
			return false
		}
		size = st.Size
	}
	for _, v := range z.f.all() {
		v.mu.Lock()
		known := v.learned[z.name]
		v.mu.Unlock()
		if v.d != nil && v.zone != z && known < size && (z.f.gossip || v.zone.leads(v)) {
			return false
		}
	}
	return true
}
