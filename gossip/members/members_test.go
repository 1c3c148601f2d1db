package members

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/gossip"
	"github.com/bizra/bizra/internal/testnet"
	"github.com/bizra/bizra/p2p"
)

type node struct {
	*testnet.Node
	router  *gossip.Router
	service *Service
	metrics *prometheus.Registry
}

func (n *node) stop(t *testing.T) {
	t.Helper()
	if err := n.service.Close(); err != nil {
		t.Error(err)
	}
	if err := n.router.Close(); err != nil {
		t.Error(err)
	}
}

// bubble runs a federation of two regions, whose first voters lead, in virtual time.
func bubble(t *testing.T, members int, test func(t *testing.T, w *testnet.Net, nodes map[string][]*node)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := testnet.New(2, 3, members)
		defer w.Close()
		nodes := make(map[string][]*node)
		for region, list := range w.Nodes {
			for _, n := range list {
				nodes[region] = append(nodes[region], start(t, w, n))
			}
		}
		w.ConnectAll()
		testnet.Pass(time.Minute)
		test(t, w, nodes)
		for _, list := range nodes {
			for _, n := range list {
				_ = n.service.Close()
				_ = n.router.Close()
			}
		}
	})
}

func start(t *testing.T, w *testnet.Net, n *testnet.Node) *node {
	t.Helper()
	x := &node{Node: n, metrics: prometheus.NewRegistry()}
	var err error
	x.router, err = gossip.New(n.Host, n.Access, gossip.Config{Federation: w.Fed.Document.Name, Regions: 2, ValidateWorkers: 1, Logger: testnet.Quiet()})
	if err != nil {
		t.Fatal(err)
	}
	x.service, err = New(Config{Federation: w.Fed.Document.Name, Host: n.Host, Access: n.Access, Gossip: x.router, Version: "v1",
		Entries: func() uint64 { return 7 }, Leading: func() bool { return n.Index == 0 }, Logger: testnet.Quiet(), Metrics: x.metrics})
	if err != nil {
		t.Fatal(err)
	}
	x.router.Start()
	x.service.Start()
	return x
}

func (n *node) sees(t *testing.T, id peer.ID) Peer {
	t.Helper()
	for _, p := range n.service.Peers() {
		if p.ID == id.String() {
			return p
		}
	}
	return Peer{}
}

func TestNodesAreAliveSuspectAndLeft(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *testnet.Net, nodes map[string][]*node) {
		watcher, other, far := nodes["a"][0], nodes["a"][4], nodes["b"][2]
		beside, abroad := nodes["a"][3], nodes["b"][3] // members
		p := watcher.sees(t, other.Host.ID())
		if p.State != "alive" || p.Region != "a" || p.Role != "member" || !p.Connected || p.Version != "v1" || p.Entries != 7 || p.LatencyMillis != 2 || p.Score < 0 || len(p.Why) > 0 {
			t.Errorf("a member is seen as %+v", p)
		}
		if p := far.sees(t, other.Host.ID()); p.State != "alive" || p.Region != "a" || p.Role != "member" || p.Connected {
			t.Errorf("from the other region it is seen as %+v", p)
		}
		if p := far.sees(t, nodes["a"][1].Host.ID()); p.State != "alive" || p.Role != "foreign" {
			t.Errorf("a voter of the other region is seen as %+v", p)
		}
		if p := beside.sees(t, other.Host.ID()); p.State != "alive" || p.Region != "a" || p.Role != "member" || p.SeenMillis == 0 {
			t.Errorf("by a member of its region, who hears of it by the roster, it is seen as %+v", p)
		}
		for _, r := range append(beside.service.Regions(), abroad.service.Regions()...) {
			if r.Alive != 5 || r.Suspect+r.Left != 0 {
				t.Errorf("a member knows of %+v", r)
			}
		}
		if own, others := len(beside.service.Regions()), abroad.router.LocalOnly(); own != 2 || others.Local || len(others.Regions) != 1 || others.Regions[0].Heard.IsZero() {
			t.Errorf("a member knows of %d regions, and has heard of the others as %+v", own, others)
		}
		if n := len(watcher.service.Peers()); n != 9 {
			t.Errorf("%d peers are known of 9", n)
		}

		// It falls silent: its links are cut while its connections hang.
		w.Net.Cut(other.Host.ID(), watcher.Host.ID(), true)
		for _, n := range nodes["a"] {
			w.Net.Cut(other.Host.ID(), n.Host.ID(), true)
		}
		want := map[time.Duration]string{20 * time.Second: "alive", 45 * time.Second: "suspect", 150 * time.Second: "left"}
		begin := time.Now()
		for _, at := range []time.Duration{20 * time.Second, 45 * time.Second, 150 * time.Second} {
			testnet.Pass(at - time.Since(begin))
			if p := watcher.sees(t, other.Host.ID()); p.State != want[at] {
				t.Errorf("after %v of silence it is %q, want %q", at, p.State, want[at])
			}
		}
		testnet.Pass(time.Minute)
		if p := far.sees(t, other.Host.ID()); p.State != "left" {
			t.Errorf("the other region was told %q", p.State)
		}
		for _, n := range nodes["a"] {
			w.Net.Cut(other.Host.ID(), n.Host.ID(), false)
		}
		testnet.Pass(20 * time.Second)
		if p := watcher.sees(t, other.Host.ID()); p.State != "alive" {
			t.Errorf("back again it is %q", p.State)
		}

		// One that says that it leaves is gone at once.
		nodes["a"][3].stop(t)
		testnet.Pass(time.Second)
		if p := watcher.sees(t, nodes["a"][3].Host.ID()); p.State != "left" {
			t.Errorf("after its last word it is %q", p.State)
		}
		if got := watcher.service.Regions()[0]; got != (Region{Name: "a", Alive: 4, Left: 1}) {
			t.Errorf("the own region is seen as %+v", got)
		}
		testnet.Pass(forgetAfter + time.Minute)
		watcher.service.mu.Lock()
		if m := watcher.service.table.members[nodes["a"][3].Host.ID()]; m != nil {
			t.Error("it is never forgotten")
		}
		watcher.service.mu.Unlock()
		if r := far.service.Regions(); len(r) != 2 || r[0].Name != "a" || r[0].Alive != 4 {
			t.Errorf("the other region knows of %+v", r)
		}
	})
}

func TestWhyAScoreIsLowIsShown(t *testing.T) {
	bubble(t, 0, func(t *testing.T, w *testnet.Net, nodes map[string][]*node) {
		watcher, bad := nodes["a"][0], nodes["a"][2]
		for i := range 5 { // its handlers would never say that
			if err := bad.router.Publish(gossip.Topic{Kind: gossip.Members, Region: "a"}, []byte{wireVersion, byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
		testnet.Pass(15 * time.Second)
		p := watcher.sees(t, bad.Host.ID())
		if p.Score >= 0 || !strings.Contains(strings.Join(p.Why, "; "), "invalid messages") {
			t.Errorf("a peer that sends invalid heartbeats is seen as %+v", p)
		}
	})
}

func TestBeatsThatAreNotTaken(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *testnet.Net, nodes map[string][]*node) {
		watcher, author, stranger := nodes["a"][0], nodes["a"][3], nodes["b"][3]
		now := uint64(time.Now().UnixMilli())
		mine := func(n *node, seq uint64, change func(*beat)) []byte {
			key, err := p2p.NodeKey(n.Host.ID())
			if err != nil {
				t.Fatal(err)
			}
			b := beat{Federation: "test", Region: "a", Node: key, Seq: seq, EveryMillis: 10000}
			if change != nil {
				change(&b)
			}
			payload, err := seal(beatDomain, &b, n.service.key)
			if err != nil {
				t.Fatal(err)
			}
			return payload
		}
		topic := gossip.Topic{Kind: gossip.Members, Region: "a"}
		other, err := p2p.NodeKey(stranger.Host.ID())
		if err != nil {
			t.Fatal(err)
		}
		good := mine(author, now, nil)
		forged := append([]byte(nil), good...)
		forged[len(forged)-1] ^= 1
		for name, c := range map[string]struct {
			payload []byte
			want    gossip.Verdict
		}{
			"as it should be":                       {good, gossip.Accept},
			"the limit of what is old":              {mine(author, now-uint64(freshFor.Milliseconds())+20000, nil), gossip.Ignore}, // older than the last one
			"from a node that is not of the region": {mine(stranger, now, nil), gossip.Ignore},
			"too far ahead":                         {mine(author, now+uint64(freshFor.Milliseconds())+1, nil), gossip.Ignore},
			"just not too far ahead":                {mine(author, now+uint64(freshFor.Milliseconds()), nil), gossip.Accept},
			"of a later version":                    {append([]byte{wireVersion + 1}, good[1:]...), gossip.Ignore},
			"nothing":                               {nil, gossip.Reject},
			"signature forged":                      {forged, gossip.Reject},
			"in another's name":                     {mine(author, now, func(b *beat) { b.Node = other }), gossip.Reject},
			"for another region":                    {mine(author, now, func(b *beat) { b.Region = "b" }), gossip.Reject},
			"for another federation":                {mine(author, now, func(b *beat) { b.Federation = "other" }), gossip.Reject},
			"the next soon":                         {mine(author, now, func(b *beat) { b.EveryMillis = uint32(beatLeast.Milliseconds()) }), gossip.Accept},
			"the next sooner":                       {mine(author, now, func(b *beat) { b.EveryMillis = uint32(beatLeast.Milliseconds()) - 1 }), gossip.Reject},
			"the next late":                         {mine(author, now, func(b *beat) { b.EveryMillis = uint32(beatMost.Milliseconds()) }), gossip.Accept},
			"the next later":                        {mine(author, now, func(b *beat) { b.EveryMillis = uint32(beatMost.Milliseconds()) + 1 }), gossip.Reject},
			"longest version":                       {mine(author, now, func(b *beat) { b.Version = strings.Repeat("v", versionBytesMax) }), gossip.Accept},
			"version too long":                      {mine(author, now, func(b *beat) { b.Version = strings.Repeat("v", versionBytesMax+1) }), gossip.Reject},
		} {
			if got := watcher.service.judgeBeat(t.Context(), topic, c.payload); got.Verdict != c.want {
				t.Errorf("%s: %v (%s), want %v", name, got.Verdict, got.Why, c.want)
			}
		}
		// An old beat does not revive one who has been forgotten.
		author.stop(t)
		testnet.Pass(forgetAfter + 3*time.Minute)
		if got := watcher.service.judgeBeat(t.Context(), topic, good); got.Verdict != gossip.Ignore {
			t.Errorf("an old beat is %v", got.Verdict)
		}
	})
}

func TestDigestsThatAreNotTaken(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *testnet.Net, nodes map[string][]*node) {
		watcher, voter, member := nodes["b"][0], nodes["a"][1], nodes["a"][3]
		mine := func(n *node, change func(*digest)) []byte {
			key, err := p2p.NodeKey(n.Host.ID())
			if err != nil {
				t.Fatal(err)
			}
			d := digest{Federation: "test", Region: "a", Node: key, Seq: uint64(time.Now().UnixMilli()) + 1, Members: []digestMember{}}
			change(&d)
			payload, err := seal(digestDomain, &d, n.service.key)
			if err != nil {
				t.Fatal(err)
			}
			return payload
		}
		names := func(n int, state State) func(*digest) {
			return func(d *digest) {
				for i := range n {
					d.Members = append(d.Members, digestMember{Node: federation.Key{byte(i), byte(i >> 8), 1}, State: state})
				}
			}
		}
		for name, c := range map[string]struct {
			payload []byte
			want    gossip.Verdict
		}{
			"as it should be":          {mine(voter, func(*digest) {}), gossip.Accept},
			"as many as there may be":  {mine(voter, names(DigestMembersMax, Left)), gossip.Accept},
			"one more":                 {mine(voter, names(DigestMembersMax+1, Left)), gossip.Reject},
			"a state that is none":     {mine(voter, names(1, Unknown)), gossip.Reject},
			"from one who is no voter": {mine(member, func(*digest) {}), gossip.Ignore},
			"of another's region":      {mine(voter, func(d *digest) { d.Region = "b" }), gossip.Ignore},
			"of no region":             {mine(voter, func(d *digest) { d.Region = "" }), gossip.Reject},
			"older than the last":      {mine(voter, func(d *digest) { d.Seq -= 100000 }), gossip.Ignore},
		} {
			if got := watcher.service.judgeDigest(t.Context(), gossip.Topic{Kind: gossip.Digests}, c.payload); got.Verdict != c.want {
				t.Errorf("%s: %v (%s), want %v", name, got.Verdict, got.Why, c.want)
			}
			if len(c.payload) > 32<<10 {
				t.Errorf("%s: %d bytes", name, len(c.payload))
			}
		}
		// In its own region a member is known, and still does not speak for it.
		for author, want := range map[*node]gossip.Verdict{voter: gossip.Accept, member: gossip.Ignore} {
			if got := nodes["a"][0].service.judgeDigest(t.Context(), gossip.Topic{Kind: gossip.Digests}, mine(author, func(*digest) {})); got.Verdict != want {
				t.Errorf("in its own region, node %d: %v, want %v", author.Index, got.Verdict, want)
			}
		}
	})
}

func TestRostersThatAreNotTaken(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *testnet.Net, nodes map[string][]*node) {
		watcher, voter, member, stranger := nodes["a"][3], nodes["a"][1], nodes["a"][3], nodes["b"][0]
		mine := func(n *node, change func(*roster)) []byte {
			key, err := p2p.NodeKey(n.Host.ID())
			if err != nil {
				t.Fatal(err)
			}
			r := roster{digest: digest{Federation: "test", Region: "a", Node: key, Seq: uint64(time.Now().UnixMilli()) + 1, Members: []digestMember{}}}
			change(&r)
			payload, err := seal(rosterDomain, &r, n.service.key)
			if err != nil {
				t.Fatal(err)
			}
			return payload
		}
		regions := func(n int) func(*roster) {
			return func(r *roster) {
				for i := range n {
					r.World = append(r.World, worldRegion{Name: strings.Repeat("r", nameBytesMax-3) + fmt.Sprint(100+i)})
				}
				for i := range DigestMembersMax {
					r.Members = append(r.Members, digestMember{Node: federation.Key{byte(i), byte(i >> 8), 1}})
				}
			}
		}
		for name, c := range map[string]struct {
			payload []byte
			want    gossip.Verdict
		}{
			"as it should be":                {mine(voter, func(*roster) {}), gossip.Accept},
			"as much as there may be":        {mine(voter, regions(RegionsMax)), gossip.Accept},
			"one region more":                {mine(voter, regions(RegionsMax+1)), gossip.Reject},
			"a region without a name":        {mine(voter, func(r *roster) { r.World = []worldRegion{{}} }), gossip.Reject},
			"of another region":              {mine(voter, func(r *roster) { r.Region = "b" }), gossip.Reject},
			"from one who is no voter":       {mine(member, func(*roster) {}), gossip.Ignore},
			"from another region's voter":    {mine(stranger, func(*roster) {}), gossip.Ignore},
			"older than the last":            {mine(voter, func(r *roster) { r.Seq -= 100000 }), gossip.Ignore},
			"a digest in the place of it":    {mine(voter, func(r *roster) { r.Region = "" }), gossip.Reject},
			"a state that a node can not be": {mine(voter, func(r *roster) { r.Members = []digestMember{{State: Unknown}} }), gossip.Reject},
		} {
			if got := watcher.service.judgeRoster(t.Context(), gossip.Topic{Kind: gossip.Roster, Region: "a"}, c.payload); got.Verdict != c.want {
				t.Errorf("%s: %v (%s), want %v", name, got.Verdict, got.Why, c.want)
			}
			if len(c.payload) > 48<<10 {
				t.Errorf("%s: %d bytes", name, len(c.payload))
			}
		}
	})
}

// TestALargeRegionBeatsLessOften holds what the nodes of a region say together.
func TestALargeRegionBeatsLessOften(t *testing.T) {
	for nodes, want := range map[int]time.Duration{0: 10 * time.Second, 1: 10 * time.Second, beatShare: 10 * time.Second, beatShare + 1: 20 * time.Second,
		100: 40 * time.Second, 300: 2 * time.Minute, MembersMax: beatMost} {
		if got := beatEvery(10*time.Second, nodes); got != want {
			t.Errorf("each of %d nodes beats every %v, want %v", nodes, got, want)
		}
	}
	bubble(t, 25, func(t *testing.T, _ *testnet.Net, nodes map[string][]*node) {
		testnet.Pass(time.Minute) // the roster has come
		n := nodes["a"][20]
		n.service.mu.Lock()
		defer n.service.mu.Unlock()
		if got := n.service.table.members[n.Host.ID()].beat.every(); got != 20*time.Second {
			t.Errorf("a member of 28 beats every %v, want 20 s", got)
		}
		if heard := len(n.service.table.members); heard != 1 {
			t.Errorf("a member heard %d heartbeats itself, want its own only", heard)
		}
	})
}

func TestTablesAreBounded(t *testing.T) {
	now := time.Now()
	table := newTable(30 * time.Second)
	for i := range MembersMax + 1 {
		id := peer.ID(hex.EncodeToString([]byte{byte(i), byte(i >> 8)}))
		if ok := table.take(id, &beat{Seq: 1, EveryMillis: 10000}, now); ok != (i < MembersMax) {
			t.Fatalf("member %d taken: %v", i, ok)
		}
	}
	if !table.take(peer.ID(hex.EncodeToString([]byte{0, 0})), &beat{Seq: 2, EveryMillis: 10000}, now) {
		t.Error("a full table takes no news of those in it")
	}
	for i := range RegionsMax + 1 {
		if ok := table.takeDigest(&digest{Region: string(rune(i + 1)), Seq: 1}, now); ok != (i < RegionsMax) {
			t.Fatalf("region %d taken: %v", i, ok)
		}
	}
	if d := table.summary(now, func(peer.ID) bool { return false }); len(d.Members) != DigestMembersMax || d.Alive != MembersMax {
		t.Errorf("the digest names %d nodes and counts %d", len(d.Members), d.Alive)
	}
}

func FuzzMessages(f *testing.F) {
	w := testnet.New(1, 3, 0)
	key := w.Nodes["a"][0].Host.Peerstore().PrivKey(w.Nodes["a"][0].Host.ID())
	node, err := p2p.NodeKey(w.Nodes["a"][0].Host.ID())
	if err != nil {
		f.Fatal(err)
	}
	for domain, body := range map[string]any{beatDomain: &beat{Federation: "test", Region: "a", Node: node, Seq: 9, EveryMillis: 10000},
		rosterDomain: &roster{digest: digest{Federation: "test", Region: "a", Node: node, Members: []digestMember{}}, World: []worldRegion{{Name: "b", Alive: 3}}},
		digestDomain: &digest{Federation: "test", Region: "a", Node: node, Members: []digestMember{{Node: node, State: Suspect}}}} {
		payload, err := seal(domain, body, key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
	}
	f.Add([]byte{wireVersion, 0x82, 0x40, 0x40})
	f.Fuzz(func(t *testing.T, payload []byte) {
		v := Config{}.withDefaults().Verify
		if b, id, err := v.openBeat(payload, "test", "a"); err == nil && (b.Region != "a" || id == "") {
			t.Errorf("taken: %+v from %v", b, id)
		}
		if d, id, err := v.openDigest(payload, "test"); err == nil && (len(d.Members) > DigestMembersMax || id == "") {
			t.Errorf("taken: %+v from %v", d, id)
		}
		if r, id, err := v.openRoster(payload, "test", "a"); err == nil && (len(r.Members) > DigestMembersMax || len(r.World) > RegionsMax || id == "") {
			t.Errorf("taken: %+v from %v", r, id)
		}
	})
}
