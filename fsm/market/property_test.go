package market_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm/market"
)

// world is a market with what a test wants to see of it.
type world struct {
	*market.Market
	store *market.InMemory
	now   int64
}

func newWorld(t failer, rules market.Rules) *world {
	store := market.NewInMemory()
	m, err := market.Found(store, rules, start)
	if err != nil {
		t.Fatalf("found: %v", err)
	}
	return &world{Market: m, store: store, now: start}
}

type failer interface{ Fatalf(string, ...any) }

func (w *world) holders(t failer) []market.Holder {
	var all []market.Holder
	if err := w.store.Holders(func(h market.Holder) error { all = append(all, h); return nil }); err != nil {
		t.Fatalf("holders: %v", err)
	}
	return all
}

// dump is every record as text.
func (w *world) dump(t failer) string {
	out := fmt.Sprintf("%+v\n", w.Head())
	for _, h := range w.holders(t) {
		out += fmt.Sprintf("%+v\n", h)
		for _, n := range h.Licences {
			l, _, err := w.Licence(n)
			if err != nil {
				t.Fatalf("licence: %v", err)
			}
			out += fmt.Sprintf("  %+v\n", l)
		}
	}
	return out
}

// copied is the same market over records of its own.
func (w *world) copied(t failer) *world {
	store := market.NewInMemory()
	var failed error
	keep := func(err error) { failed = errors.Join(failed, err) }
	keep(store.PutHead(w.Head()))
	for _, h := range w.holders(t) {
		keep(store.PutHolder(h))
		for _, n := range h.Licences {
			l, _, err := w.Licence(n)
			keep(errors.Join(err, store.PutLicence(l)))
		}
	}
	m, err := market.Open(store, w.Rules())
	if keep(err); failed != nil {
		t.Fatalf("copy: %v", failed)
	}
	return &world{Market: m, store: store, now: w.now}
}

func (w *world) check(t failer) {
	if err := w.Audit(); err != nil {
		t.Fatalf("%v", err)
	}
}

// verdict is the rule of the gate, written down a second time: what a declaration by the gainer must be refused
// for, given the values before and after it, the seller's among them with 0 if it has nothing left.
func verdict(t failer, before, after map[string]int64, gainer string) market.Reason {
	gini := func(values map[string]int64, emptied bool) market.Gini {
		var list []int64
		for _, v := range values {
			if v > 0 || emptied {
				list = append(list, v)
			}
		}
		g, err := market.GiniOf(list)
		if err != nil {
			t.Fatalf("%v", err)
		}
		return g
	}
	was, is, counted := gini(before, false), gini(after, false), gini(after, true)
	v := after[gainer]
	mean := counted
	if before[gainer] == 0 {
		mean = is
	}
	switch {
	case 4*v*is.Holders() < is.Total():
		return market.ReasonFloor
	case counted.Compare(was) > 0 && counted.Exceeds(35) && v*mean.Holders() > mean.Total():
		return market.ReasonGini
	default:
		return ""
	}
}

// predict is the verdict on an action, unless the accounts that it touches are about to lose licences.
func (w *world) predict(t failer, owner string, action market.Action) (reason market.Reason, sure bool) {
	before := map[string]int64{}
	for _, h := range w.holders(t) {
		if len(h.Licences) > 0 {
			before[h.Owner] = h.Value
		}
	}
	after := map[string]int64{}
	for o, v := range before {
		after[o] = v
	}
	touched := []string{owner}
	switch a := action.(type) {
	case market.Issue:
		after[owner] += a.Price
	case market.Reassess:
		l, found, _ := w.Licence(a.Licence)
		if !found || l.Owner != owner {
			return "", false
		}
		after[owner] += a.Price - l.Price
	case market.Buy:
		l, found, _ := w.Licence(a.Licence)
		if !found || l.Owner == owner {
			return "", false
		}
		after[owner] += a.Price
		after[l.Owner] -= l.Price
		touched = append(touched, l.Owner)
	default:
		return "", false
	}
	if after[owner] > market.ValueMax {
		return "", false
	}
	for _, o := range touched {
		h, _, _ := w.Holder(o)
		if h.Balance < h.Value/10 {
			return "", false
		}
		for _, n := range h.Licences {
			if l, _, _ := w.Licence(n); l.LapsesMillis() <= w.now {
				return "", false
			}
		}
	}
	return verdict(t, before, after, owner), true
}

// someAction is one that the owner might take: of the licences mostly its own for what only a holder may do.
func someAction(r *rand.Rand, w *world, owner string) market.Action {
	least, sure := w.Admission()
	price := pick(r, least, sure, least, sure, 3*sure, credit, credit-1, 200*credit, market.ValueMax, market.ValueMax+1, credit+r.Int64N(40*credit), credit+r.Int64N(9*credit))
	some := r.Int64N(w.Head().Next + 1)
	own := some
	if h, _, _ := w.Holder(owner); len(h.Licences) > 0 && r.IntN(8) > 0 {
		own = h.Licences[r.IntN(len(h.Licences))]
	}
	resource := market.Resource(r.IntN(2))
	to, amount := someOwner(r), r.Int64N(50*credit)
	return pick[market.Action](r,
		market.Issue{Resource: resource, Quantity: r.Int64N(3) + 1, Price: price}, market.Issue{Resource: market.GPU, Quantity: 1, Price: price},
		market.Reassess{Licence: own, Price: price}, market.Reassess{Licence: own, Price: price}, market.Reassess{Licence: own, Price: price},
		market.Buy{Licence: some, Limit: price, Price: price}, market.Buy{Licence: some, Limit: market.ValueMax, Price: price}, market.Release{Licence: own},
		market.Pay{To: to, Amount: amount}, market.Grant{To: to, Amount: amount},
	)
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func someOwner(r *rand.Rand) string { return fmt.Sprintf("owner %d", r.IntN(12)) }

// tally is what the runs of a property did, so that they cannot pass by doing nothing.
type tally map[string]int

func (y tally) want(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		if y[n] == 0 {
			t.Errorf("it never came to %q: %v", n, y)
		}
	}
}

// TestAnySequence takes random steps through random markets. After each, the records agree, no credit is gained or lost,
// what was refused has changed nothing, and the gate said what its rule, written down twice, says; after each epoch the Gini is within
// the limit; and at every moment a newcomer can get in.
func TestAnySequence(t *testing.T) {
	did := tally{}
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		rules := plenty()
		rules.Supply = pick[int64](r, 2_000, 20_000, 200_000) * credit
		rules.Capacity[market.CPU] = r.Int64N(40)
		w := newWorld(t, rules)
		for i := range 12 {
			w.step(t, did, market.Actor{}, market.Grant{To: fmt.Sprintf("owner %d", i), Amount: rules.Supply / 24})
		}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			w.now += pick[int64](r, 0, 1, 1000, hour/7, hour/7, hour/7, hour/7, hour/7, hour/2, hour/2, hour, pick[int64](r, hour, 3*hour, 26*hour))
			if w.Due(w.now) {
				w.settle(t, did)
			}
			owner := someOwner(r)
			w.step(t, did, by(owner), someAction(r, w, owner))
			if r.IntN(10) == 0 {
				w.copied(t).admit(t, did)
			}
		}
		if again := w.copied(t); again.Gini() != w.Gini() || again.dump(t) != w.dump(t) {
			t.Fatalf("opened again, the market is another")
		}
	})
	t.Log(did)
	did.want(t, "market.Issue", "market.Reassess", "market.Buy", "market.Release", "market.Pay", "market.Grant", "epoch", "lapsed", "revoked",
		"lifted", "lowered", "paid out", "newcomer issued", "newcomer bought", "predicted", string(market.ReasonGini), string(market.ReasonFloor))
}

func (w *world) step(t failer, did tally, actor market.Actor, action market.Action) {
	before := w.dump(t)
	gini := w.Gini()
	predicted, sure := w.predict(t, actor.Owner, action)
	o, err := w.Apply(w.now, actor, action)
	w.check(t)
	var refusal *market.Refusal
	switch {
	case err == nil:
		did[fmt.Sprintf("%T", action)]++
		did["lapsed"] += len(o.Lapsed)
		did["revoked"] += len(o.Revoked)
		if sure && predicted != "" {
			t.Fatalf("%+v by %q was let in, by the rule it is %s", action, actor.Owner, predicted)
		}
	case !errors.As(err, &refusal):
		t.Fatalf("%+v: %v", action, err)
	case w.dump(t) != before || w.Gini() != gini:
		t.Fatalf("%+v was refused (%v) and has changed something", action, err)
	case refusal.Reason == market.ReasonGini || refusal.Reason == market.ReasonFloor:
		did[string(refusal.Reason)]++
		if sure {
			did["predicted"]++
			if predicted != refusal.Reason {
				t.Fatalf("%+v by %q was refused for %s, by the rule it is %q", action, actor.Owner, refusal.Reason, predicted)
			}
		}
	}
}

func (w *world) settle(t failer, did tally) {
	s, err := w.Epoch(w.now)
	if err != nil {
		t.Fatalf("epoch: %v", err)
	}
	w.check(t)
	least := int64(market.ValueMax)
	for _, h := range w.holders(t) {
		if len(h.Licences) > 0 {
			least = min(least, h.Value)
		}
	}
	if g := w.Gini(); g.Exceeds(market.GiniLimitPercent) || g.Holders() > 0 && 4*least*g.Holders() < g.Total() {
		t.Fatalf("after an epoch the Gini is %v, and the least of %d holders declares %d of %d: %+v", g.Float64(), g.Holders(), least, g.Total(), s)
	}
	did["epoch"]++
	did["lapsed"] += int(s.Lapsed)
	did["revoked"] += int(s.Revoked)
	did["lifted"] += int(s.Lifted)
	did["lowered"] += int(s.Lowered)
	did["paid out"] += int(min(s.PaidOut, 1))
}

// admit lets newcomers with credits enough into copies of the market: by issue, if there are units, and by buying any licence.
func (w *world) admit(t failer, did tally) {
	least, sure := w.Admission()
	if least > sure {
		t.Fatalf("a newcomer may declare %d at least and %d at most", least, sure)
	}
	if w.Head().Treasury < 1000*credit {
		return
	}
	enter := func(w *world, action market.Action) error {
		if _, err := w.Apply(w.now, market.Actor{}, market.Grant{To: "newcomer", Amount: 1000 * credit}); err != nil {
			return err
		}
		_, err := w.Apply(w.now, by("newcomer"), action)
		w.check(t)
		return err
	}
	for _, price := range []int64{least, sure, least + (sure-least)/2} {
		if err := enter(w.copied(t), market.Issue{Resource: market.Storage, Quantity: 1, Price: price}); err != nil {
			t.Fatalf("a newcomer that declares %d, from %d to %d: %v", price, least, sure, err)
		}
		did["newcomer issued"]++
	}
	g := w.Gini()
	for _, h := range w.holders(t) {
		if h.Balance < h.Value/10 {
			continue // may be about to lose what it has
		}
		for _, n := range h.Licences {
			l, _, _ := w.Licence(n)
			if l.LapsesMillis() <= w.now || l.Price > 1000*credit {
				continue
			}
			// No more than the mean of the others, whom it then does not exceed.
			others := g.Holders()
			if len(h.Licences) == 1 {
				others--
			}
			price := int64(credit)
			if others > 0 {
				price = max(price, (g.Total()-l.Price)/others)
			}
			if err := enter(w.copied(t), market.Buy{Licence: n, Limit: l.Price, Price: price}); err != nil {
				t.Fatalf("a newcomer that buys licence %d for %d and declares %d: %v", n, l.Price, price, err)
			}
			did["newcomer bought"]++
		}
	}
}

// FuzzSteps takes its steps from bytes, six for each. Nothing panics, the records agree, the limit holds.
func FuzzSteps(f *testing.F) {
	f.Add([]byte{5, 0, 1, 200, 0, 0, 0, 0, 0, 10, 0, 0})
	f.Add(slices.Repeat([]byte{5, 1, 1, 90, 0, 0, 0, 1, 0, 10, 0, 3, 2, 0, 0, 255, 255, 9}, 8))
	f.Fuzz(func(t *testing.T, steps []byte) {
		w := newWorld(t, plenty())
		for ; len(steps) >= 6 && w.Head().Next < 200; steps = steps[6:] {
			owner, other := fmt.Sprint(steps[1]%16), fmt.Sprint(steps[2]%16)
			amount := int64(steps[3])<<8 | int64(steps[4])
			if steps[4]&1 == 1 {
				amount *= credit / 16
			}
			licence := int64(steps[2])
			w.now += int64(steps[5]) * int64(steps[5]) * 2000
			if w.Due(w.now) {
				w.settle(t, tally{})
			}
			action := [...]market.Action{
				market.Issue{Resource: market.Resource(steps[2] % 8), Quantity: int64(steps[2]), Price: amount}, market.Reassess{Licence: licence, Price: amount},
				market.Buy{Licence: licence, Limit: market.ValueMax, Price: amount}, market.Release{Licence: licence},
				market.Pay{To: other, Amount: amount}, market.Grant{To: other, Amount: amount * 16},
			}[steps[0]%6]
			var refusal *market.Refusal
			if _, err := w.Apply(w.now, by(owner), action); err != nil && !errors.As(err, &refusal) {
				t.Fatalf("%+v: %v", action, err)
			}
			w.check(t)
		}
	})
}
