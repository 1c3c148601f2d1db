package patterns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm/pattern"
	"github.com/bizra/bizra/gossip"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/internal/testnet"
	"github.com/bizra/bizra/pci"
)

// silent is a router that says nothing.
type silent struct{ handler gossip.Handler }

func (s *silent) Handle(_ gossip.Kind, h gossip.Handler)                   { s.handler = h }
func (s *silent) Announce(gossip.Topic, []byte, gossip.Announcement) error { return nil }

func accept(_ context.Context, _ *pci.Envelope, p *pattern.Pattern) gossip.Judgement {
	return gossip.Judgement{Verdict: gossip.Accept, Origin: p.Region}
}

func store(t testing.TB, change func(*Config)) (*Store, *silent) {
	t.Helper()
	g := &silent{}
	cfg := Config{Gossip: g, Judge: accept}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, g
}

type signers struct {
	fed *testfed.Federation
	by  map[string]*testfed.Signer
}

func newSigners() *signers {
	return &signers{testfed.New(1, 1), make(map[string]*testfed.Signer)}
}

// elevate signs a pattern with a potential and a count of observations.
func (s *signers) elevate(agent, name string, potential float64, observations, atMillis int64) *pci.Envelope {
	if s.by[agent] == nil {
		s.by[agent] = s.fed.Agent(agent, atMillis)
	}
	s.by[agent].NowMillis = atMillis
	p := pattern.Pattern{Region: "a", Name: name, Statement: "it is so", Belief: potential, Potential: potential, Observations: observations}
	return s.by[agent].Sign(pattern.Action, p.Data(), "")
}

// twin keeps all and sorts, which is slow and plain.
type twin []*pci.Envelope

func (tw twin) names(most, perAgent int) []string {
	type one struct {
		env    *pci.Envelope
		p      pattern.Pattern
		impact float64
	}
	latest := make(map[string]one)
	for _, env := range tw {
		p, err := pattern.ReadData(env.Payload.Data)
		if err != nil {
			panic(err)
		}
		key := env.Sender.AgentID + "/" + p.Name
		if old, ok := latest[key]; !ok || env.TimestampMicros() > old.env.TimestampMicros() {
			latest[key] = one{env, p, p.Impact()}
		}
	}
	var all []one
	for _, o := range latest {
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b one) int {
		if a.impact != b.impact {
			if a.impact > b.impact {
				return -1
			}
			return 1
		}
		return strings.Compare(fmt.Sprintf("%x", a.env.Digest()), fmt.Sprintf("%x", b.env.Digest()))
	})
	var names []string
	of := make(map[string]int)
	for _, o := range all {
		if of[o.env.Sender.AgentID]++; of[o.env.Sender.AgentID] <= perAgent && len(names) < most {
			names = append(names, o.env.Sender.AgentID+"/"+o.p.Name)
		}
	}
	return names
}

// Which patterns are kept does not depend on the order in which they come: what gives way, gives way to
// something greater, of its own agent or of anybody.
func TestKeptByImpact(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		sign, all := newSigners(), twin(nil)
		const most, perAgent = 6, 3
		for i := range rapid.IntRange(1, 25).Draw(rt, "count") {
			agent := fmt.Sprintf("agent-%d", rapid.IntRange(0, 3).Draw(rt, "agent"))
			potential := float64(rapid.IntRange(0, 8).Draw(rt, "potential")) / 8
			all = append(all, sign.elevate(agent, fmt.Sprintf("p%d", i), potential, rapid.Int64Range(1, 50).Draw(rt, "observations"), int64(i+1)*1000))
		}
		want := all.names(most, perAgent)
		for range 2 {
			s, _ := store(t, func(c *Config) { c.Max, c.PerAgentMax = most, perAgent })
			for _, env := range rapid.Permutation(all).Draw(rt, "order") {
				if _, err := s.Add(env); err != nil {
					rt.Fatal(err)
				}
			}
			var got []string
			for _, item := range s.List(Filter{}, 0, ListMax) {
				got = append(got, item.Agent+"/"+item.Name)
			}
			if !slices.Equal(got, want) {
				rt.Fatalf("kept %v, want %v", got, want)
			}
		}
	})
}

func TestALaterOneOfTheNameReplaces(t *testing.T) {
	sign := newSigners()
	first, second := sign.elevate("x", "p", 0.9, 100, 2000), sign.elevate("x", "p", 0.1, 1, 3000)
	for name, both := range map[string][]*pci.Envelope{"in order": {first, second}, "out of order": {second, first}, "again": {first, second, second, first}} {
		s, _ := store(t, nil)
		for _, env := range both {
			if _, err := s.Add(env); err != nil {
				t.Fatal(err)
			}
		}
		if items := s.List(Filter{}, 0, 10); len(items) != 1 || items[0].Observations != 1 {
			t.Errorf("%s: %+v", name, items)
		}
	}
}

func TestListAndGet(t *testing.T) {
	sign := newSigners()
	s, _ := store(t, nil)
	var third *pci.Envelope
	for i := range 10 {
		third = sign.elevate(fmt.Sprintf("agent-%d", i%2), fmt.Sprintf("p%d", i), float64(i)/10, 7, int64(i+1)*1000)
		if kept, err := s.Add(third); err != nil || !kept {
			t.Fatalf("%v, %v", kept, err)
		}
	}
	for _, c := range []struct {
		filter        Filter
		offset, limit int
		want          string
	}{
		{Filter{}, 0, 3, "p9 p8 p7"}, {Filter{}, 8, 5, "p1 p0"}, {Filter{}, 10, 5, ""}, {Filter{}, 0, 0, ""}, {Filter{}, 0, -1, ""},
		{Filter{Agent: "agent-1"}, 1, 2, "p7 p5"}, {Filter{Region: "b"}, 0, 9, ""}, {Filter{Region: "a", Name: "p4"}, 0, 9, "p4"},
	} {
		var got []string
		for _, item := range s.List(c.filter, c.offset, c.limit) {
			got = append(got, item.Name)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v from %d, at most %d: %v, want %q", c.filter, c.offset, c.limit, got, c.want)
		}
	}
	item, env, ok := s.Get(third.Digest())
	if !ok || env != third || item.Name != "p9" || item.Impact <= 0 || item.Elevated != third.Timestamp {
		t.Errorf("got %+v, %v", item, ok)
	}
	if _, _, ok := s.Get([32]byte{}); ok {
		t.Error("a digest of nothing gives a pattern")
	}
}

func TestStoreIsBounded(t *testing.T) {
	sign := newSigners()
	registry := prometheus.NewRegistry()
	s, _ := store(t, func(c *Config) { c.Max, c.PerAgentMax, c.Metrics = 5, 2, registry })
	for i := range 4 {
		kept, err := s.Add(sign.elevate("greedy", fmt.Sprintf("p%d", i), 0.9, int64(10+i), int64(i+1)*1000))
		if err != nil || !kept {
			t.Errorf("pattern %d: %v, %v", i, kept, err)
		}
	}
	if s.Len() != 2 {
		t.Errorf("one agent holds %d places", s.Len())
	}
	for i := range 4 {
		if _, err := s.Add(sign.elevate(fmt.Sprintf("other-%d", i), "p", 0.5, 10, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if kept, err := s.Add(sign.elevate("late", "p", 0.1, 1, 1000)); err != nil || kept || s.Len() != 5 {
		t.Errorf("the least was kept: %v, %v; %d patterns", kept, err, s.Len())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []Config{{}, {Gossip: &silent{}, Judge: accept, Max: MaxMax + 1}, {Gossip: &silent{}, Judge: accept, Max: 3, PerAgentMax: 4}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

func TestWhatIsJudged(t *testing.T) {
	sign := newSigners()
	good := sign.elevate("x", "p", 0.5, 10, 1000)
	other := sign.by["x"].Sign("session.open", map[string]any{"region": "a", "session": "s"}, "")
	odd := sign.by["x"].Sign(pattern.Action, map[string]any{"region": "a", "name": "p"}, "")
	forged := []byte(strings.Replace(string(good.Canonical()), "it is so", "it is no", 1))
	_, g := store(t, func(c *Config) {
		c.Judge = func(ctx context.Context, env *pci.Envelope, p *pattern.Pattern) gossip.Judgement {
			if p.Name == "unwanted" {
				return gossip.Judgement{Verdict: gossip.Ignore}
			}
			return accept(ctx, env, p)
		}
	})
	for name, c := range map[string]struct {
		payload []byte
		want    gossip.Verdict
	}{
		"as it should be":     {good.Canonical(), gossip.Accept},
		"not canonical":       {append([]byte(" "), good.Canonical()...), gossip.Reject},
		"signature forged":    {forged, gossip.Reject},
		"another action":      {other.Canonical(), gossip.Reject},
		"data of other form":  {odd.Canonical(), gossip.Ignore},
		"refused by the node": {sign.elevate("x", "unwanted", 0.5, 10, 1000).Canonical(), gossip.Ignore},
		"nothing":             {nil, gossip.Reject},
	} {
		if got := g.handler.Judge(t.Context(), gossip.Topic{Kind: gossip.Patterns}, c.payload); got.Verdict != c.want {
			t.Errorf("%s: %v (%s), want %v", name, got.Verdict, got.Why, c.want)
		}
	}
	s, _ := store(t, nil)
	if _, err := s.Add(other); !errors.Is(err, ErrNotPattern) {
		t.Errorf("%v, want ErrNotPattern", err)
	}
}

func TestAPatternReachesEveryNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := testnet.New(3, 3, 2)
		defer w.Close()
		stores := make(map[*testnet.Node]*Store)
		var routers []*gossip.Router
		for _, nodes := range w.Nodes {
			for _, n := range nodes {
				r, err := gossip.New(n.Host, n.Access, gossip.Config{Federation: w.Fed.Document.Name, ValidateWorkers: 1, Logger: testnet.Quiet()})
				if err != nil {
					t.Fatal(err)
				}
				s, err := New(Config{Gossip: r, Judge: accept})
				if err != nil {
					t.Fatal(err)
				}
				r.Start()
				routers = append(routers, r)
				stores[n] = s
			}
		}
		w.ConnectAll()
		testnet.Pass(5 * time.Second)
		env := newSigners().elevate("x", "p", 0.5, 10, time.Now().UnixMilli())
		if err := stores[w.Nodes["a"][0]].Share(env, time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		testnet.Pass(5 * time.Second)
		for n, s := range stores {
			if _, got, ok := s.Get(env.Digest()); !ok || string(got.Canonical()) != string(env.Canonical()) {
				t.Errorf("node %d of region %s has not got it", n.Index, n.Region)
			}
		}
		for _, r := range routers {
			_ = r.Close()
		}
	})
}

func FuzzJudge(f *testing.F) {
	sign := newSigners()
	f.Add(sign.elevate("x", "p", 0.5, 10, 1000).Canonical())
	f.Add(sign.by["x"].Sign("session.open", map[string]any{"region": "a", "session": "s"}, "").Canonical())
	f.Add([]byte(`{"payload":{"action":"pattern.elevate"}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		s, g := store(t, nil)
		j := g.handler.Judge(t.Context(), gossip.Topic{Kind: gossip.Patterns}, payload)
		g.handler.Deliver(gossip.Message{Payload: payload})
		if j.Verdict == gossip.Accept && s.Len() != 1 {
			t.Error("what was accepted is not kept")
		}
	})
}
