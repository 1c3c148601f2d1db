package fsm_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/market"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

const (
	credit = int64(market.Credit)
	hour   = int64(market.EpochMillis)
)

// trader is a registered agent that has an owner of its own, and the operator of its region.
type trader struct {
	r        *rig
	agent    *testfed.Signer
	operator *testfed.Signer
}

func (r *rig) trader(id string) *trader {
	r.t.Helper()
	w := &trader{r: r, agent: r.fed.Agent(id, r.now), operator: r.fed.Operator("a", r.now)}
	key := federation.Key(w.agent.Key.Public())
	r.want(pci.Success, w.operator.Sign("agent.register", inMarket("agent_id", id, "agent_type", "PAT", "public_key", key.String(), "owner", w.owner()), "",
		func(d *pci.Draft) { d.Nonce = testfed.Key("nonce-" + id).Seed() }))
	return w
}

func (w *trader) owner() string { return "owner-of-" + w.agent.AgentID }

func inMarket(pairs ...any) map[string]any {
	d := map[string]any{"region": "a"}
	for i := 0; i < len(pairs); i += 2 {
		d[fmt.Sprint(pairs[i])] = pairs[i+1]
	}
	return d
}

func (w *trader) sign(action string, pairs ...any) *pci.Envelope {
	w.agent.NowMillis = w.r.now
	return w.agent.Sign(action, inMarket(pairs...), "")
}

func (w *trader) issue(resource string, quantity, price int64) *pci.Envelope {
	return w.sign("market.issue", "resource", resource, "quantity", quantity, "price_micro", price)
}

func (w *trader) buy(licence, limit, price int64) *pci.Envelope {
	return w.sign("market.buy", "licence", licence, "limit_micro", limit, "price_micro", price)
}

func (w *trader) reassess(licence, price int64) *pci.Envelope {
	return w.sign("market.reassess", "licence", licence, "price_micro", price)
}

func (w *trader) grant(amount int64) *pci.Envelope {
	w.operator.NowMillis = w.r.now
	return w.operator.Sign("market.pay", inMarket("to", w.owner(), "amount_micro", amount), "", func(d *pci.Draft) {
		d.Nonce = testfed.Key(fmt.Sprintf("grant %d %s", w.r.index, w.owner())).Seed()
	})
}

// trades gives an agent's owner licences to so many gpu.
func (r *rig) trades(id, owner string, gpu int64) {
	r.t.Helper()
	w := &trader{r: r, agent: r.fed.Agent(id, r.now), operator: r.fed.Operator("a", r.now)}
	r.want(pci.Success, w.operator.Sign("market.pay", inMarket("to", owner, "amount_micro", 100*gpu*credit), "", func(d *pci.Draft) { d.Nonce = [32]byte{42} }))
	r.want(pci.Success, w.agent.Sign("market.issue", inMarket("resource", "gpu", "quantity", gpu, "price_micro", 5*credit), "", func(d *pci.Draft) { d.Nonce = [32]byte{43} }))
}

func (r *rig) market() *fsm.MarketStanding {
	r.t.Helper()
	s, err := r.view().Market()
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func TestMarket(t *testing.T) {
	r := newRig(t, testfed.New(1, 3, testfed.Market))
	a, b := r.trader("alice"), r.trader("bob")
	gpu := func(n int64) map[string]any { return map[string]any{"type": "gpu", "quantity": n} }
	head := r.want(pci.Success, a.agent.Sign("session.open", open("s"), "")).Head

	lacks := r.want(pci.RejectADLInvalidTx, a.agent.Sign("session.transition", to("s", "active", "resource", gpu(4)), head))
	if u := lacks.Unlicensed; u == nil || *u != (fsm.Unlicensed{Owner: a.owner(), Resource: market.GPU, Asked: 4}) || !strings.Contains(lacks.Message(), "bizra market issue gpu 4") {
		t.Fatalf("without a licence: %+v: %s", lacks, lacks.Message())
	}
	r.want(pci.RejectADLNegativeHolding, a.issue("gpu", 4, 5*credit))
	r.want(pci.Success, a.grant(1000*credit))
	r.want(pci.Success, b.grant(1000*credit))
	r.want(pci.RejectADLNegativeHolding, b.grant(1_000_000*credit))
	got := r.want(pci.Success, a.issue("gpu", 4, 5*credit))
	if m := got.Market; m == nil || m.Licence == nil || *m.Licence != 0 || m.Paid != 8*credit {
		t.Fatalf("issue: %+v", got.Market)
	}
	r.want(pci.RejectADLInvalidTx, a.issue("gpu", 61, 5*credit))
	r.want(pci.RejectADLInvalidTx, a.issue("storage", 1, 5*credit)) // there is none
	r.want(pci.RejectADLDustAmount, a.issue("gpu", 1, credit-1))
	r.want(pci.RejectADLInvalidTx, a.agent.Sign("session.transition", to("s", "active", "resource", gpu(5)), head))
	head = r.want(pci.Success, a.agent.Sign("session.transition", to("s", "active", "resource", gpu(4)), head)).Head
	r.want(pci.RejectADLInvalidTx, b.buy(0, 5*credit-1, 5*credit))
	r.want(pci.Success, b.buy(0, 5*credit, 6*credit))
	r.want(pci.RejectADLInvalidTx, a.agent.Sign("session.transition", to("s", "computing", "resource", gpu(1)), head)) // it is sold
	r.want(pci.RejectADLInvalidTx, a.reassess(0, 5*credit))
	r.want(pci.Success, b.reassess(0, 10*credit))
	r.want(pci.Success, a.sign("market.pay", "to", b.owner(), "amount_micro", credit))
	r.want(pci.RejectRoleViolation, a.operator.Sign("market.issue", inMarket("resource", "gpu", "quantity", 1, "price_micro", 5*credit), ""))
	r.want(pci.RejectIhsanBelowMin, a.agent.Sign("market.issue", inMarket("resource", "gpu", "quantity", 1, "price_micro", 5*credit), "", func(d *pci.Draft) { d.IhsanScore = 0.9 }))

	// An hour later the next proof, whatever it is, finds the epoch settled before it.
	r.now += hour
	a.agent.NowMillis = r.now
	size := r.size()
	r.want(pci.Success, a.agent.Sign("session.open", open("t"), ""))
	v := r.view()
	epochs, err := v.Epochs(1<<40, 10)
	if err != nil || len(epochs) != 1 || r.size() != size+2 || epochs[0].Index != size || epochs[0].TimeMillis != r.now {
		t.Fatalf("%d entries after %d, epochs %+v: %v", r.size(), size, epochs, err)
	}
	if e := epochs[0].Epoch; e.Number != 1 || e.Tax != credit/2 || e.Each != credit/2 || e.Holders != 1 || e.Declared != 10*credit || e.Pot != 0 {
		t.Fatalf("epoch: %+v", e)
	}
	r.want(pci.Success, b.sign("market.release", "licence", 0))
	if s := r.market(); s.Head.Issued[market.GPU] != 0 || s.Gini.Holders() != 0 || s.Head.Supply != 1_000_000*credit {
		t.Fatalf("after the release: %+v", s)
	}
	r.sealed()
	r.checked()
}

// TestNoMarketWithoutRules: where the document gives a region none, nothing of it exists, and no proof about it becomes an entry.
func TestNoMarketWithoutRules(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	a := r.trader("alice")
	head := r.want(pci.Success, a.agent.Sign("session.open", open("s"), "")).Head
	size := r.size()
	for _, e := range []*pci.Envelope{a.issue("gpu", 1, credit), a.buy(0, credit, credit), a.reassess(0, credit), a.sign("market.release", "licence", 0), a.grant(credit),
		a.agent.Sign("session.transition", to("s", "active", "resource", map[string]any{"type": "gpu", "quantity": 1}), head)} {
		if rec := r.want(pci.RejectSchema, e); rec.HasEntry || !strings.Contains(rec.Message(), "has no market") {
			t.Errorf("%s: %+v", e.Payload.Action, rec)
		}
	}
	r.now += 3 * hour
	a.agent.NowMillis = r.now
	r.want(pci.Success, a.agent.Sign("session.open", open("t"), ""))
	if _, err := r.view().Market(); !errors.Is(err, fsm.ErrNotFound) {
		t.Errorf("there is a market: %v", err)
	}
	if n := r.count([]byte("Smarket/")) + r.count([]byte("K")); n != 0 || r.size() != size+1 {
		t.Errorf("%d records of a market, %d entries", n, r.size())
	}
}

func TestMarketDataIsChecked(t *testing.T) {
	r := newRig(t, testfed.New(1, 3, testfed.Market))
	a := r.trader("alice")
	head := r.want(pci.Success, a.agent.Sign("session.open", open("s"), "")).Head
	good := map[string]map[string]any{
		"market.issue":    inMarket("resource", "gpu", "quantity", 1, "price_micro", credit),
		"market.reassess": inMarket("licence", 0, "price_micro", credit),
		"market.buy":      inMarket("licence", 0, "limit_micro", credit, "price_micro", credit),
		"market.release":  inMarket("licence", 0),
		"market.pay":      inMarket("to", "x", "amount_micro", credit),
	}
	tried := 0
	refuse := func(what, action string, data map[string]any, head string) {
		t.Helper()
		tried++
		if rec := r.submit(a.agent.Sign(action, data, head))[0]; rec.Code != pci.RejectSchema || rec.HasEntry {
			t.Errorf("%s: %s %v: %v", action, what, data, rec.Code)
		}
	}
	for action, data := range good {
		if rec := r.submit(a.agent.Sign(action, data, ""))[0]; !rec.HasEntry {
			t.Errorf("%s of good form: %v %s", action, rec.Code, rec.Reason)
		}
		refuse("with a state_hash", action, data, head)
		refuse("with more", action, changed(data, "more", 1), "")
		for name := range data {
			refuse("without "+name, action, changed(data, name, nil), "")
			refuse("of another type "+name, action, changed(data, name, 1.5), "")
		}
		if _, has := data["licence"]; has {
			refuse("licence below 0", action, changed(data, "licence", -1), "")
		}
	}
	refuse("unknown resource", "market.issue", changed(good["market.issue"], "resource", "tpu"), "")
	refuse("owner", "market.pay", changed(good["market.pay"], "to", "a:b"), "")
	for _, res := range []any{"gpu", map[string]any{}, map[string]any{"type": "gpu"}, map[string]any{"type": "tpu", "quantity": 1},
		map[string]any{"type": "gpu", "quantity": 0}, map[string]any{"type": "gpu", "quantity": 1, "more": 1}} {
		refuse("resource", "session.transition", to("s", "active", "resource", res), head)
	}
	if tried < 50 {
		t.Errorf("only %d variants were tried", tried)
	}
}

func changed(data map[string]any, name string, value any) map[string]any {
	c := maps.Clone(data)
	if c[name] = value; value == nil {
		delete(c, name)
	}
	return c
}

// TestMarketComesLater: a document may bring a market, change its numbers as far as the treasury allows, and not take it away.
func TestMarketComesLater(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	a := r.trader("alice")
	r.now += 5 * hour
	r.adopt(r.fed.Next(testfed.Market))
	if s := r.market(); s.Head.StartMillis != r.now || s.Head.Treasury != 1_000_000*credit {
		t.Fatalf("founded as %+v", s)
	}
	r.want(pci.Success, a.grant(900_000*credit))
	supply := func(credits int64) *testfed.Federation {
		return r.fed.Next(func(d *federation.Document) {
			rules := *d.Regions[0].Market
			rules.Supply, rules.Capacity[market.GPU] = credits*credit, 32
			d.Regions[0].Market = &rules
		})
	}
	size := r.size()
	less := supply(899_999)
	if rec := r.offer(r.adoption(less), less.Document.Canonical()); rec.Code != pci.RejectSchema || rec.HasEntry || !strings.Contains(rec.Reason, "treasury") {
		t.Fatalf("credits of owners are taken away: %+v", rec)
	}
	none := r.fed.Next(func(d *federation.Document) { d.Regions[0].Market = nil })
	if rec := r.offer(r.adoption(none), none.Document.Canonical()); rec.Code != pci.RejectSchema || rec.HasEntry || r.size() != size {
		t.Fatalf("the market is taken away: %+v", rec)
	}
	r.adopt(supply(900_000))
	if s := r.market(); s.Head.Treasury != 0 || s.Head.Supply != 900_000*credit || s.Rules.Capacity[market.GPU] != 32 {
		t.Fatalf("after less supply: %+v", s)
	}
	r.want(pci.RejectADLInvalidTx, a.issue("gpu", 33, 70*credit))
	r.want(pci.Success, a.issue("gpu", 32, 70*credit))
	r.open() // a restart finds the new rules
	r.now += hour
	r.adopt(supply(1_000_000)) // with an epoch before it
	if s := r.market(); s.Head.Epoch != 1 || s.Head.Treasury != 100_000*credit+64*credit {
		t.Fatalf("after more supply: %+v", s)
	}
	r.sealed()
	r.checked()
}

// TestMarketThroughTheMachine takes random steps of six owners through the machine. Credits are conserved by each command, the
// Gini keeps its limit after each epoch, a restart and a ledger derived again have the same market, and what others recorded
// cannot be told otherwise.
func TestMarketThroughTheMachine(t *testing.T) {
	fed := testfed.New(1, 3, testfed.Market, testfed.Lenient)
	codes, did := map[pci.Code]int{}, map[string]int64{}
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(t, fed)
		var owners []*trader
		for i := range 6 {
			owners = append(owners, r.trader(fmt.Sprintf("t%d", i)))
			r.want(pci.Success, owners[i].grant(rapid.Int64Range(1, 2000).Draw(rt, "granted")*credit))
		}
		for range 40 {
			r.now += rapid.SampledFrom([]int64{0, 1, 1000, hour / 5, hour / 2, hour, 25 * hour}).Draw(rt, "wait")
			var envs []*pci.Envelope
			for range rapid.IntRange(1, 3).Draw(rt, "batch") {
				envs = append(envs, drawTrade(rt, r, rapid.SampledFrom(owners).Draw(rt, "who")))
			}
			for _, rec := range r.submit(envs...) {
				codes[rec.Code]++
			}
			switch rapid.IntRange(0, 9).Draw(rt, "then") {
			case 0:
				r.sealed()
			case 1:
				r.open() // what is in memory is made again from the records
			}
			r.conserves(rt)
		}
		r.epochsKeepTheLimit(rt, did)
		ctx := context.Background()
		root, err := r.m.StateRoot()
		if err := errors.Join(err, fsm.Check(ctx, r.st, fsm.Config{Region: "a"}, quiet)); err != nil {
			rt.Fatal(err)
		}
		again, err := fsm.Rederive(ctx, r.st, store.NewMemory(), fsm.Config{Region: "a"}, quiet)
		if err != nil || again.State != root {
			rt.Fatalf("state %x, derived again %x: %v", root, again.State, err)
		}
	})
	t.Log(codes, did)
	for _, c := range []pci.Code{pci.Success, pci.RejectADLGiniExceeded, pci.RejectADLNegativeHolding, pci.RejectADLDustAmount, pci.RejectADLInvalidTx} {
		if codes[c] == 0 {
			t.Errorf("no step met %v", c)
		}
	}
	for _, what := range []string{"epochs", "lapsed", "revoked", "lowered", "lifted", "paid"} {
		if did[what] == 0 {
			t.Errorf("no epoch %s anything", what)
		}
	}
	if codes[pci.RejectADLConservation] != 0 {
		t.Error("a step would have made credits or lost them")
	}
}

func drawTrade(rt *rapid.T, r *rig, w *trader) *pci.Envelope {
	s := r.market()
	price := rapid.SampledFrom([]int64{s.NewcomerLeast, s.NewcomerSure, credit, 3 * credit, 20 * credit, 90 * credit}).Draw(rt, "price")
	price = min(price, 2000*credit)
	licence := rapid.Int64Range(0, s.Head.Next).Draw(rt, "licence")
	if h, err := r.view().Holder(w.owner()); err == nil && len(h.Licences) > 0 && rapid.IntRange(0, 4).Draw(rt, "own") > 0 {
		licence = rapid.SampledFrom(h.Licences).Draw(rt, "of its own")
	}
	switch rapid.IntRange(0, 8).Draw(rt, "step") {
	case 0, 1, 2:
		return w.issue(rapid.SampledFrom([]string{"gpu", "cpu", "storage"}).Draw(rt, "resource"), rapid.Int64Range(1, 20).Draw(rt, "units"), price)
	case 3, 4:
		return w.reassess(licence, price)
	case 5:
		return w.buy(rapid.Int64Range(0, s.Head.Next).Draw(rt, "bought"), 2000*credit, price)
	case 6:
		return w.sign("market.release", "licence", licence)
	case 7:
		return w.sign("market.pay", "to", fmt.Sprintf("owner-of-t%d", rapid.IntRange(0, 7).Draw(rt, "to")), "amount_micro", price)
	default:
		return w.grant(price)
	}
}

// conserves counts all credits, wherever they are.
func (r *rig) conserves(t interface{ Fatalf(string, ...any) }) {
	v := r.view()
	s, err1 := v.Market()
	holders, err2 := v.Holders("", fsm.PageMax)
	sum := int64(0)
	var values []int64
	for _, h := range holders {
		sum += h.Balance
		if len(h.Licences) > 0 {
			values = append(values, h.Value)
		}
	}
	gini, err3 := market.GiniOf(values)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatalf("read the market: %v", err)
	}
	if sum += s.Head.Treasury + s.Head.Pot; sum != s.Rules.Supply || s.Head.Supply != s.Rules.Supply || gini != s.Gini {
		t.Fatalf("%d micro-credits where there are %d; Gini %v where it is %v", sum, s.Rules.Supply, s.Gini.Float64(), gini.Float64())
	}
}

func (r *rig) epochsKeepTheLimit(t interface{ Fatalf(string, ...any) }, did map[string]int64) {
	epochs, err := r.view().Epochs(1<<40, fsm.PageMax)
	if err != nil {
		t.Fatalf("read epochs: %v", err)
	}
	for _, e := range epochs {
		if e.GiniAfter > 10_000*market.GiniLimitPercent {
			t.Fatalf("after an epoch the Gini is above its limit: %+v", e)
		}
		did["epochs"]++
		did["lapsed"] += e.Lapsed
		did["revoked"] += e.Revoked
		did["lowered"] += e.Lowered
		did["lifted"] += e.Lifted
		did["paid"] += e.PaidOut
	}
}

// TestForgedEpochsAreRefused: who re-executes a ledger takes an epoch only where one is due, and only as it comes out.
func TestForgedEpochsAreRefused(t *testing.T) {
	r := newRig(t, testfed.New(1, 3, testfed.Market))
	a, b := r.trader("alice"), r.trader("bob")
	for _, w := range []*trader{a, b} {
		r.want(pci.Success, w.grant(1000*credit))
	}
	r.want(pci.Success, a.issue("gpu", 1, 5*credit))
	r.now += hour
	r.want(pci.Success, b.issue("gpu", 1, 5*credit))
	entries, err := r.view().Ledger().Entries(0, r.size(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	at := len(entries) - 2
	if e, err := fsm.ParseEntry(entries[at]); err != nil || e.Kind != fsm.EntryEpoch {
		t.Fatalf("the entry before the last is no epoch: %s", entries[at])
	}
	follow := func(entries ...[]byte) error {
		m, err := fsm.Open(store.NewMemory(), fsm.Config{Region: "a", Document: func([32]byte) ([]byte, bool) { return r.fed.Document.Canonical(), true }})
		if err != nil {
			t.Fatal(err)
		}
		err = m.ApplyEntries(entries)
		if err != nil && m.Size() != 0 {
			t.Errorf("a refused call left %d entries", m.Size())
		}
		return err
	}
	if err := follow(entries...); err != nil {
		t.Fatalf("the honest ledger is refused: %v", err)
	}
	with := func(i int, was, is string) []byte {
		forged := strings.Replace(string(entries[i]), was, is, 1)
		if forged == string(entries[i]) {
			t.Fatalf("nothing to forge: %s", entries[i])
		}
		return []byte(forged)
	}
	index := func(i, as int) []byte { return with(i, fmt.Sprintf(`"index":%d`, i), fmt.Sprintf(`"index":%d`, as)) }
	twice := with(at, fmt.Sprintf(`"index":%d`, at), fmt.Sprintf(`"index":%d`, at+1))
	for name, forged := range map[string][][]byte{
		"left out":      append(slices.Clone(entries[:at]), index(at+1, at)),
		"twice":         append(slices.Clone(entries[:at+1]), twice),
		"early":         append(slices.Clone(entries[:at]), with(at, fmt.Sprintf(`"time":%d`, r.now), fmt.Sprintf(`"time":%d`, r.now-1))),
		"other numbers": append(slices.Clone(entries[:at]), with(at, `"each_micro":250000`, `"each_micro":250001`)),
		"at genesis":    {with(at, fmt.Sprintf(`"index":%d`, at), `"index":0`)},
	} {
		if err := follow(forged...); !errors.Is(err, fsm.ErrDiverged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	none := testfed.New(1, 3)
	m, err := fsm.Open(store.NewMemory(), fsm.Config{Region: "a", Own: none.Document})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Apply([]fsm.Command{{Index: 1, Term: 1, Data: fsm.EncodeGenesis(start, none.Document.Canonical())}}); err != nil {
		t.Fatal(err)
	}
	if err := m.ApplyEntries([][]byte{with(at, fmt.Sprintf(`"index":%d`, at), `"index":1`)}); !errors.Is(err, fsm.ErrDiverged) {
		t.Errorf("without a market: %v", err)
	}
}
