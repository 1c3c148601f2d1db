package market_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/bizra/bizra/fsm/market"
)

var errDisk = errors.New("the disk is gone")

// failing is a store whose calls fail from the one numbered left on.
type failing struct {
	*market.InMemory
	left int
}

func (f *failing) use() error {
	if f.left--; f.left < 0 {
		return errDisk
	}
	return nil
}

func (f *failing) Head() (market.Head, bool, error) {
	if err := f.use(); err != nil {
		return market.Head{}, false, err
	}
	return f.InMemory.Head()
}

func (f *failing) PutHead(h market.Head) error { return errors.Join(f.use(), f.InMemory.PutHead(h)) }

func (f *failing) Holder(owner string) (market.Holder, bool, error) {
	if err := f.use(); err != nil {
		return market.Holder{}, false, err
	}
	return f.InMemory.Holder(owner)
}

func (f *failing) PutHolder(h market.Holder) error {
	return errors.Join(f.use(), f.InMemory.PutHolder(h))
}

func (f *failing) DeleteHolder(owner string) error {
	return errors.Join(f.use(), f.InMemory.DeleteHolder(owner))
}

func (f *failing) Holders(visit func(market.Holder) error) error {
	if err := f.use(); err != nil {
		return err
	}
	return f.InMemory.Holders(visit)
}

func (f *failing) Licence(number int64) (market.Licence, bool, error) {
	if err := f.use(); err != nil {
		return market.Licence{}, false, err
	}
	return f.InMemory.Licence(number)
}

func (f *failing) Licences(visit func(market.Licence) error) error {
	if err := f.use(); err != nil {
		return err
	}
	return f.InMemory.Licences(visit)
}

func (f *failing) PutLicence(l market.Licence) error {
	return errors.Join(f.use(), f.InMemory.PutLicence(l))
}

func (f *failing) DeleteLicence(number int64) error {
	return errors.Join(f.use(), f.InMemory.DeleteLicence(number))
}

// TestEveryCallOfTheStoreMayFail runs a small story and lets the store fail at its first call, at its second, and so on.
// Each time the failure comes out, and a market that may have written half a step does not go on.
func TestEveryCallOfTheStoreMayFail(t *testing.T) {
	story := func(store market.Store) (*market.Market, error) {
		m, err := market.Found(store, plenty(), start)
		if err != nil {
			return nil, err
		}
		steps := []struct {
			owner  string
			action market.Action
		}{
			{"", market.Grant{To: "ann", Amount: 50 * credit}},
			{"", market.Grant{To: "ben", Amount: 50 * credit}},
			{"ann", market.Issue{Quantity: 1, Price: 10 * credit}},
			{"ben", market.Buy{Licence: 0, Limit: 10 * credit, Price: 10 * credit}},
			{"ann", market.Issue{Quantity: 1, Price: 10 * credit}},
			{"ben", market.Release{Licence: 0}},
			{"ben", market.Pay{To: "ann", Amount: 40 * credit}},
		}
		for _, s := range steps {
			if _, err := m.Apply(start, by(s.owner), s.action); err != nil {
				return m, err
			}
		}
		if _, err := m.Units(start, "ann", market.CPU); err != nil {
			return m, err
		}
		if err := m.Adopt(start, plenty()); err != nil {
			return m, err
		}
		if _, err := m.Epoch(start + hour); err != nil {
			return m, err
		}
		err = m.Audit()
		return m, err
	}
	failures, broken := 0, 0
	for calls := 0; ; calls++ {
		store := &failing{InMemory: market.NewInMemory(), left: calls}
		m, err := story(store)
		if store.left >= 0 {
			if err != nil {
				t.Fatalf("nothing failed, and yet: %v", err)
			}
			break
		}
		if !errors.Is(err, errDisk) {
			t.Fatalf("call %d fails: %v", calls, err)
		}
		failures++
		if m == nil {
			continue
		}
		store.left = 1000
		if _, err := m.Apply(start+hour-1, by("ann"), market.Pay{To: "cid", Amount: credit}); errors.Is(err, errDisk) {
			broken++
		}
	}
	if failures < 30 || broken < 10 {
		t.Errorf("%d calls failed, after %d the market had to be opened again", failures, broken)
	}
}

func TestOpenRefuses(t *testing.T) {
	store := market.NewInMemory()
	if _, err := market.Open(store, plenty()); !errors.Is(err, market.ErrUnfounded) {
		t.Errorf("no market: %v", err)
	}
	if _, err := market.Found(store, plenty(), -1); !errors.Is(err, market.ErrTime) {
		t.Errorf("a time before all times: %v", err)
	}
	if _, err := market.Found(store, plenty(), start); err != nil {
		t.Fatal(err)
	}
	if _, err := market.Found(store, plenty(), start); !errors.Is(err, market.ErrFounded) {
		t.Errorf("founded twice: %v", err)
	}
	put := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	put(store.PutHolder(market.Holder{Owner: "ann", Value: credit - 1, Licences: []int64{0}}))
	if _, err := market.Open(store, plenty()); !errors.Is(err, market.ErrRecords) {
		t.Errorf("a holder below one credit: %v", err)
	}
	put(store.PutHolder(market.Holder{Owner: "ann", Value: credit, Licences: []int64{0}}))
	m, err := market.Open(store, plenty())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Audit(); !errors.Is(err, market.ErrRecords) {
		t.Errorf("a licence that is not there: %v", err)
	}
	if _, err := m.Apply(start, by("ann"), market.Pay{To: "ben", Amount: credit}); !errors.Is(err, market.ErrRecords) {
		t.Errorf("a licence that is not there, in a step: %v", err)
	}
	put(store.PutHead(market.Head{}))
	if _, err := market.Open(store, plenty()); !errors.Is(err, market.ErrRecords) {
		t.Errorf("a head without resources: %v", err)
	}
}

// TestDamagedRecordsAreNotCountedWith: a record out of range is a fault of the records, for who looks them through and for
// each step that comes upon it.
func TestDamagedRecordsAreNotCountedWith(t *testing.T) {
	holder := market.Holder{Owner: "ann", Balance: 100 * credit, Value: 5 * credit, TaxedMillis: start, Licences: []int64{0}}
	licence := market.Licence{Owner: "ann", Quantity: 1, Price: 5 * credit, IssuedMillis: start, DeclaredMillis: start}
	for name, damage := range map[string]func(*market.Holder, *market.Licence){
		"no resource":         func(_ *market.Holder, l *market.Licence) { l.Resource = market.ResourceCount },
		"no units":            func(_ *market.Holder, l *market.Licence) { l.Quantity = 0 },
		"too many units":      func(_ *market.Holder, l *market.Licence) { l.Quantity = math.MaxInt64 },
		"a price below all":   func(_ *market.Holder, l *market.Licence) { l.Price = math.MinInt64 },
		"a price above all":   func(_ *market.Holder, l *market.Licence) { l.Price = math.MaxInt64 },
		"declared in no time": func(_ *market.Holder, l *market.Licence) { l.DeclaredMillis = math.MaxInt64 },
		"taxed in no time":    func(h *market.Holder, _ *market.Licence) { h.TaxedMillis = math.MinInt64 },
		"debts":               func(h *market.Holder, _ *market.Licence) { h.Balance = math.MinInt64 },
	} {
		store, h, l := market.NewInMemory(), holder, licence
		damage(&h, &l)
		head := market.Head{Supply: 100 * credit, StartMillis: start, TimeMillis: start, Next: 1, Licences: 1, Issued: []int64{1, 0, 0, 0, 0, 0, 0}}
		if err := errors.Join(store.PutHead(head), store.PutHolder(h), store.PutLicence(l)); err != nil {
			t.Fatal(err)
		}
		open := func() *market.Market {
			m, err := market.Open(store, plenty())
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		_, stepped := open().Apply(start+1, by("ann"), market.Release{})
		_, settled := open().Epoch(start + hour)
		_, used := open().Units(start+1, "ann", market.CPU)
		for what, err := range map[string]error{"step": stepped, "epoch": settled, "units": used} {
			if !errors.Is(err, market.ErrRecords) {
				t.Errorf("%s: %s: %v", name, what, err)
			}
		}
		if err := open().Audit(); !errors.Is(err, market.ErrRecords) {
			t.Errorf("%s: audit: %v", name, err)
		}
	}
}

// TestWorkedExample is the example of docs/market.md, from records as they may come of drift.
func TestWorkedExample(t *testing.T) {
	store := market.NewInMemory()
	head := market.Head{Supply: 400 * credit, StartMillis: start, TimeMillis: start, Next: 4, Licences: 4, Issued: []int64{4, 0, 0, 0, 0, 0, 0}}
	err := store.PutHead(head)
	for i, price := range []int64{2 * credit, 10 * credit, 10 * credit, 60 * credit} {
		n, owner := int64(i), string(rune('a'+i))
		err = errors.Join(err,
			store.PutHolder(market.Holder{Owner: owner, Balance: 100 * credit, Value: price, TaxedMillis: start, Licences: []int64{n}}),
			store.PutLicence(market.Licence{Number: n, Owner: owner, Quantity: 1, Price: price, IssuedMillis: start, DeclaredMillis: start}))
	}
	if err != nil {
		t.Fatal(err)
	}
	m, err := market.Open(store, plenty())
	if err != nil {
		t.Fatal(err)
	}
	s := epoch(t, m, start+hour)
	if s.Floor != 5333334 || s.Lifted != 1 || s.Cap != 32166668 || s.Lowered != 1 || s.Tax != 4100000 || s.Each != 1025000 {
		t.Errorf("%+v", s)
	}
	if value(t, m, "a") != s.Floor || value(t, m, "d") != s.Cap {
		t.Errorf("a declares %d, d %d", value(t, m, "a"), value(t, m, "d"))
	}
}

// goldenRecords is the SHA-256 over all records after 3,000 steps. Any processor must give it.
const goldenRecords = "a0e35791200415481864d9c171ecd719eb1dee3013feca9d405ef48e9e048f14"

func TestGolden(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 0))
	w := newWorld(t, plenty())
	did := tally{}
	for range 3000 {
		w.now += r.Int64N(hour / 50)
		if w.Due(w.now) {
			w.settle(t, did)
		}
		owner := someOwner(r)
		w.step(t, did, by(owner), someAction(r, w, owner))
	}
	did.want(t, "epoch", "market.Issue", "market.Buy", "market.Reassess", "revoked", "lifted", "lowered")
	if sum := sha256.Sum256([]byte(fmt.Sprintf("%s%d", w.dump(t), w.Gini().Millionths()))); hex.EncodeToString(sum[:]) != goldenRecords {
		t.Errorf("the records have hash %x, want %s", sum, goldenRecords)
	}
}
