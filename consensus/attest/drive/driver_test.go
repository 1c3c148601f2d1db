package drive

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/internal/testnet"
	"github.com/bizra/bizra/p2p"
)

// virtual runs a test in virtual time; goroutines that Close leaves behind make it fail.
func virtual(t *testing.T, regions int, gossip bool, test func(t *testing.T, f *federation)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFederation(t, regions, gossip)
		defer f.close()
		testnet.Pass(300 * time.Millisecond) // until leaders have looked
		test(t, f)
	})
}

// exchanged is how many exchanges the drivers asked for, by outcome.
func (f *federation) exchanged(outcome string) (n float64) {
	for _, v := range f.all() {
		if v.d != nil {
			n += metric(f.t, v.registry, "bizra_attest_exchanges_total", outcome)
		}
	}
	return n
}

// metric is the value of a counter or gauge, or the count of a histogram, with one label value.
func metric(t *testing.T, r *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == label {
					return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
				}
			}
		}
	}
	return 0
}

// TestGossipAlone: while gossip works, no stream is opened.
func TestGossipAlone(t *testing.T) {
	virtual(t, 4, true, func(t *testing.T, f *federation) {
		for n := int64(1); n <= 3; n++ {
			f.zones["a"].seal()
			took := f.within(time.Second, "a certificate", func() bool { return f.zones["a"].certified(n) })
			t.Logf("certificate %d after %v", n, took)
			testnet.Pass(5 * time.Second)
		}
		if asked := f.exchanged("asked") + f.exchanged("failed"); asked != 0 {
			t.Errorf("%v exchanges were asked for although gossip worked", asked)
		}
		for _, v := range f.zones["a"].voters {
			if n := metric(t, v.registry, "bizra_attest_certificate_seconds", "a"); n != 3 {
				t.Errorf("voter %d measured %v certificates", v.node.Index, n)
			}
			for _, of := range []string{"b", "c", "d"} {
				if n := metric(t, v.registry, "bizra_attest_votes_missing", of); n != 0 {
					t.Errorf("voter %d misses %v votes of %s", v.node.Index, n, of)
				}
			}
		}
		if n := metric(t, f.zones["b"].voters[0].registry, "bizra_attest_voted_entries", "a"); n != 4 {
			t.Errorf("b voted for %v entries of a, want 4", n)
		}
	})
}

// TestStreamsAlone: with every message of gossip lost, streams bring all that is needed.
func TestStreamsAlone(t *testing.T) {
	virtual(t, 4, false, func(t *testing.T, f *federation) {
		for _, name := range []string{"a", "c"} {
			f.zones[name].seal()
		}
		took := f.within(time.Minute, "certificates of a and c", func() bool { return f.zones["a"].certified(1) && f.zones["c"].certified(1) })
		t.Logf("after %v, %v exchanges", took, f.exchanged("asked"))
		if f.exchanged("asked") == 0 || f.exchanged("answered") == 0 {
			t.Error("there were no exchanges")
		}
	})
}

// TestLeaderIsReached: exchanges take turns among voters, one of which is down and one of which leads.
func TestLeaderIsReached(t *testing.T) {
	virtual(t, 4, false, func(t *testing.T, f *federation) {
		for _, name := range []string{"b", "c", "d"} {
			z := f.zones[name]
			z.lead(z.voters[2])
			z.voters[0].stop()
		}
		f.zones["a"].seal()
		took := f.within(2*time.Minute, "a certificate", func() bool { return f.zones["a"].certified(1) })
		t.Logf("after %v", took)
		if f.exchanged("failed") == 0 {
			t.Error("nobody was asked who is down")
		}
	})
}

// TestExchangesTakeTurns: where the voter that comes first is down and no leader calls of itself, another
// of the region is asked.
func TestExchangesTakeTurns(t *testing.T) {
	virtual(t, 4, false, func(t *testing.T, f *federation) {
		for _, name := range []string{"b", "c", "d"} {
			z := f.zones[name]
			z.lead(nil)
			slices.MinFunc(z.voters, func(x, y *voter) int { return cmp.Compare(x.node.Host.ID(), y.node.Host.ID()) }).stop()
		}
		f.zones["a"].seal()
		f.within(2*time.Minute, "answers", func() bool { return f.exchanged("asked") >= 3 })
		if f.exchanged("failed") == 0 {
			t.Error("nobody was asked who is down")
		}
	})
}

// TestLeaderChangesAndRestarts: every voter is restarted and every leadership changes while the
// statements are under way.
func TestLeaderChangesAndRestarts(t *testing.T) {
	virtual(t, 4, false, func(t *testing.T, f *federation) {
		for n := range int64(3) {
			f.zones["a"].seal()
			for round := range 3 {
				for _, name := range []string{"a", "b", "c", "d"} {
					z := f.zones[name]
					z.lead(z.voters[(round+int(n))%3])
					v := z.voters[round]
					v.stop()
					v.start()
				}
				testnet.Pass(700 * time.Millisecond)
			}
			f.within(2*time.Minute, "a certificate", func() bool { return f.zones["a"].certified(n + 1) })
		}
	})
}

// TestRegionCutOff goes on and is attested after it is back.
func TestRegionCutOff(t *testing.T) {
	virtual(t, 4, false, func(t *testing.T, f *federation) {
		f.net.CutOff("a", true, true)
		f.zones["a"].seal()
		testnet.Pass(time.Minute)
		if f.zones["a"].certified(1) {
			t.Fatal("a region that is cut off has a certificate")
		}
		f.net.CutOff("a", false, false)
		for _, a := range f.zones["a"].voters {
			for _, b := range f.all() {
				if b.zone != a.zone {
					f.net.Connect(a.node, b.node)
				}
			}
		}
		took := f.within(time.Minute, "a certificate after the cut", func() bool { return f.zones["a"].certified(1) })
		t.Logf("certified %v after the cut was healed", took)
	})
}

// TestSlowOwnerLosesNothingThatCounts: while the owner is held up, what is told stays bounded, and
// afterwards the machine knows all that was applied.
func TestSlowOwnerLosesNothingThatCounts(t *testing.T) {
	virtual(t, 4, true, func(t *testing.T, f *federation) {
		v := f.zones["b"].voters[0]
		v.stop()
		hold := make(chan struct{})
		cfg := v.config()
		cfg.Leading = func() bool { <-hold; return v.zone.leads(v) } // and with it the owner
		d, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		v.d = d
		testnet.Pass(time.Second)
		for range AppliedMax + 10 {
			d.Applied(&fsm.Result{Attested: &fsm.Attested{Statement: fsm.StatedVote, Origin: "a"}})
		}
		for range HeardMax + 10 {
			d.Heard([]byte{0})
		}
		for range 100 {
			d.Executed("a")
			d.Diverged("c", "time", "x")
			d.Agreed(-1)
		}
		d.inbox.mu.Lock()
		w := d.inbox.waiting
		d.inbox.mu.Unlock()
		if len(w.applied) > AppliedMax || !w.lost || len(w.heard) != HeardMax || w.dropped != 10 || len(w.executed) != 1 || len(w.diverged) != 1 {
			t.Errorf("%d applied, lost %v, %d heard, %d dropped, %d executed, %d diverged", len(w.applied), w.lost, len(w.heard), w.dropped, len(w.executed), len(w.diverged))
		}
		close(hold)
		testnet.Pass(time.Second)
		if n := metric(t, v.registry, "bizra_attest_dropped_total", "heard"); n != 10 {
			t.Errorf("%v dropped messages are counted", n)
		}
		if st := d.Status(); !st.Leading {
			t.Error("the machine that was made anew does not lead")
		}
		d.Restored()
		f.zones["a"].seal()
		f.within(time.Minute, "a certificate", func() bool { return f.zones["a"].certified(1) })
	})
}

// TestFailureStops: storage that fails ends attestation, once, and Close still returns.
func TestFailureStops(t *testing.T) {
	virtual(t, 4, true, func(t *testing.T, f *federation) {
		v := f.zones["a"].voters[0]
		v.stop()
		cfg := v.config()
		cfg.Attest.Views = &broken{Views: v}
		cfg.Metrics = prometheus.NewRegistry()
		d, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for n := range int64(3) {
			cfg.Attest.Views.(*broken).on = true
			d.Agreed(n)
			testnet.Pass(time.Second)
		}
		v.mu.Lock()
		failed := v.failed
		v.mu.Unlock()
		if !errors.Is(failed, errBroken) || strings.Count(failed.Error(), errBroken.Error()) != 1 {
			t.Errorf("told of %v", failed)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
}

var errBroken = errors.New("the disk is broken")

type broken struct {
	attest.Views
	on bool
}

func (b *broken) Own(fn func(*fsm.View) error) error {
	if b.on {
		return errBroken
	}
	return b.Views.Own(fn)
}

// TestStrangersAreNotAnswered, nor the own region, nor an exchange of another version.
func TestStrangersAreNotAnswered(t *testing.T) {
	virtual(t, 4, true, func(t *testing.T, f *federation) {
		a, b := f.zones["a"].voters, f.zones["b"].voters
		call := func(from, to *voter, x *attest.Exchange) error {
			var response attest.Exchange
			return p2p.Call(context.Background(), from.node.Host, to.node.Host.ID(), p2p.ProtocolAttest, x, &response)
		}
		good := &attest.Exchange{Version: 1, Document: 1}
		if err := call(b[0], a[0], good); err != nil {
			t.Fatal(err)
		}
		f.net.Connect(a[1].node, a[0].node)
		if err := call(a[1], a[0], good); err == nil {
			t.Error("a voter of the own region was answered")
		}
		if n := a[0].d.server.Stats().Refused; n != 1 {
			t.Errorf("%d streams were refused, want 1", n)
		}
		var fault *p2p.Fault
		for name, x := range map[string]*attest.Exchange{"another version": {Version: 2}, "too many": {Version: 1, Messages: make([][]byte, attest.ExchangeMessagesMax+1)}} {
			if err := call(b[0], a[0], x); !errors.As(err, &fault) {
				t.Errorf("%s: %v", name, err)
			}
		}
		var calls sync.WaitGroup
		for range perPeerBurst + 4 {
			calls.Go(func() { _ = call(b[0], a[0], good) })
		}
		calls.Wait()
		if n := a[0].d.server.Stats().Busy; n == 0 {
			t.Error("a peer may open as many exchanges as it likes")
		}
	})
}

// TestPlacesAreBounded: what finds no place is dropped and counted.
func TestPlacesAreBounded(t *testing.T) {
	virtual(t, 4, true, func(t *testing.T, f *federation) {
		v := f.zones["a"].voters[0]
		v.stop()
		cfg := v.config()
		registry := prometheus.NewRegistry()
		cfg.Metrics = registry
		release := make(chan struct{})
		cfg.Propose = func(ctx context.Context, _ []byte) error {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return context.Cause(ctx)
		}
		cfg.Publish = func(attest.Topic, []byte) error { <-release; return nil }
		cfg.Voters = func(string) []peer.ID { return nil }
		cfg.Leading = func() bool { return false }
		d, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for range ProposalsMax + 5 {
			d.propose(attest.Propose{})
		}
		testnet.Pass(time.Second)
		for range PublishMax + 6 {
			if err := d.do(attest.Publish{}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		for queue, want := range map[string]float64{"propose": 5, "publish": 5} {
			if n := metric(t, registry, "bizra_attest_dropped_total", queue); n != want {
				t.Errorf("%v of queue %s were dropped, want %v", n, queue, want)
			}
		}
		close(release)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	virtual(t, 1, true, func(t *testing.T, f *federation) {
		v := f.zones["a"].voters[0]
		for name, change := range map[string]func(*Config){
			"no host": func(c *Config) { c.Host = nil }, "no access": func(c *Config) { c.Access = nil }, "no leading": func(c *Config) { c.Leading = nil },
			"no propose": func(c *Config) { c.Propose = nil }, "no publish": func(c *Config) { c.Publish = nil }, "no failure": func(c *Config) { c.OnFailure = nil },
			"time runs back": func(c *Config) { c.TickEvery = -1 }, "no document": func(c *Config) { c.Attest.Document = nil },
			"metrics twice": func(*Config) {},
		} {
			c := v.config()
			change(&c)
			if d, err := New(c); err == nil {
				t.Errorf("%s: taken", name)
				_ = d.Close()
			}
		}
	})
}
