package economy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/tidwall/btree"

	"github.com/bizra/bizra/fsm/market"
)

const (
	hourMillis = market.EpochMillis
	startMicro = 400 * market.Credit // what an honest owner is given at first
	unitPrice  = market.Credit       // what the market asks for a unit that nobody holds
	resource   = market.GPU

	reserveShare = 4 // one part in so many of the supply is not granted
)

// world is a run under way.
type world struct {
	cfg    Config
	rng    *rand.Rand
	market *market.Market
	offers offers
	owners []*owner // all, attackers last
	gang   []*owner // the attackers among them
	now    int64    // log time
	hour   int
	report *Report
	tally  tally // of the hour under way
}

// tally counts what an hour brings.
type tally struct {
	refused map[market.Reason]int
	steps   int
	sales   int
	dodged  int
}

// offer is a licence as buyers see it.
type offer struct {
	perUnit  float64
	number   int64
	price    int64
	quantity int64
	owner    string
}

// offers keeps what can be bought, the cheapest unit first.
type offers struct {
	tree *btree.BTreeG[offer]
	by   map[int64]offer // by number
}

func newOffers() offers {
	return offers{tree: btree.NewBTreeGOptions(func(a, b offer) bool {
		return cmp.Or(cmp.Compare(a.perUnit, b.perUnit), cmp.Compare(a.number, b.number)) < 0
	}, btree.Options{NoLocks: true}), by: map[int64]offer{}}
}

func (o *offers) drop(number int64) {
	if was, found := o.by[number]; found {
		o.tree.Delete(was)
		delete(o.by, number)
	}
}

func (o *offers) put(l *market.Licence) {
	o.drop(l.Number)
	is := offer{float64(l.Price) / float64(l.Quantity), l.Number, l.Price, l.Quantity, l.Owner}
	o.tree.Set(is)
	o.by[l.Number] = is
}

func newWorld(cfg Config) (*world, error) {
	w := &world{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0)), offers: newOffers(), report: &Report{Schema: Schema, Seed: cfg.Seed, Attack: cfg.Attack, Owners: cfg.Owners}} //nolint:gosec // a simulation is to be repeated
	w.draw()
	demand := 0.0
	for _, o := range w.owners {
		demand += o.demand
	}
	purse := int64(0)
	for _, o := range w.gang {
		if o.purse {
			purse = int64(cfg.Purse * float64(cfg.Owners) * startMicro)
		}
	}
	rules := market.Rules{Supply: (int64(cfg.Owners)*startMicro + purse) * reserveShare / (reserveShare - 1)}
	capacity := max(int64(demand/cfg.Scarcity), 1)
	rules.Capacity[resource], rules.UnitPrice[resource] = capacity, unitPrice
	w.report.Capacity = capacity
	var err error
	if w.market, err = market.Found(market.NewInMemory(), rules, 0); err != nil {
		return nil, fmt.Errorf("economy: %w", err)
	}
	for _, o := range w.owners {
		amount := int64(startMicro)
		if o.attacks && o.purse {
			amount = max(purse/int64(len(w.gang)), market.Credit)
		}
		o.given = amount
		if _, err := w.market.Apply(0, market.Actor{}, market.Grant{To: o.name, Amount: amount}); err != nil {
			return nil, fmt.Errorf("economy: grant %s: %w", o.name, err)
		}
	}
	return w, nil
}

// step takes a step in the market. A refusal is counted, and no error.
func (w *world) step(o *owner, a market.Action) (did bool, err error) {
	out, err := w.market.Apply(w.now, market.Actor{Owner: o.name, Ihsan: 1}, a)
	w.tally.steps++
	var refusal *market.Refusal
	if errors.As(err, &refusal) {
		w.tally.refused[refusal.Reason]++
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("economy: hour %d: %w", w.hour, err)
	}
	for _, gone := range [][]int64{out.Lapsed, out.Revoked} {
		for _, number := range gone {
			w.offers.drop(number)
		}
	}
	switch a := a.(type) {
	case market.Issue, market.Buy, market.Reassess:
		l, _, err := w.market.Licence(out.Licence)
		if err != nil {
			return false, fmt.Errorf("economy: %w", err)
		}
		w.offers.put(&l)
		if _, bought := a.(market.Buy); bought {
			w.tally.sales++
		}
	case market.Release:
		w.offers.drop(a.Licence)
	}
	return true, nil
}

func (w *world) holder(o *owner) (market.Holder, error) {
	h, _, err := w.market.Holder(o.name)
	return h, err
}

// held is what an owner holds: its licences and their units.
func (w *world) held(o *owner) (h market.Holder, licences []market.Licence, units int64, err error) {
	if h, err = w.holder(o); err != nil {
		return h, nil, 0, err
	}
	for _, number := range h.Licences {
		l, found, err := w.market.Licence(number)
		if err != nil || !found {
			return h, nil, 0, errors.Join(fmt.Errorf("economy: licence %d is not there", number), err)
		}
		licences = append(licences, l)
		units += l.Quantity
	}
	return h, licences, units, nil
}

// load is by how much demand is multiplied in an hour: a day's curve, and the surge in the middle of the run.
func (c *Config) load(hour int) float64 {
	load := 1 + 0.4*math.Sin(2*math.Pi*float64(hour)/24)
	if at := c.hours() / 2; hour >= at && hour < at+6 {
		load *= c.Surge
	}
	return load
}

// Run simulates. It ends early, with what there is and the context's error, if the context does.
func Run(ctx context.Context, cfg Config, progress func(hour, hours int)) (*Report, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	w, err := newWorld(cfg)
	if err != nil {
		return nil, err
	}
	for w.hour = 0; w.hour < cfg.hours(); w.hour++ {
		progress(w.hour, cfg.hours())
		if err := ctx.Err(); err != nil {
			return w.report, fmt.Errorf("economy: after %d of %d hours: %w", w.hour, cfg.hours(), err)
		}
		if err := w.play(); err != nil {
			return nil, err
		}
	}
	progress(cfg.hours(), cfg.hours())
	return w.report, w.conclude()
}

// play is one hour: everybody acts once, in an order that is drawn anew, the attackers also around the epoch at its end.
func (w *world) play() error {
	w.tally = tally{refused: map[market.Reason]int{}}
	order := w.rng.Perm(len(w.owners))
	load := w.cfg.load(w.hour)
	for i, at := range order {
		w.now = int64(w.hour)*hourMillis + int64(float64(i+1)/float64(len(order)+2)*hourMillis)
		o := w.owners[at]
		o.wants = o.want(w.rng, load)
		if err := o.act(w, o); err != nil {
			return err
		}
	}
	if err := w.around(); err != nil {
		return err
	}
	before := w.market.Gini()
	w.now = int64(w.hour+1) * hourMillis
	settled, err := w.market.Epoch(w.now)
	if err != nil {
		return fmt.Errorf("economy: hour %d: %w", w.hour, err)
	}
	if err := w.again(); err != nil {
		return err
	}
	if err := w.exchange(); err != nil {
		return err
	}
	if err := w.measure(load, before, &settled); err != nil {
		return err
	}
	return w.after()
}

// again lists what can be bought after an epoch, which may change any price.
func (w *world) again() error {
	w.offers = newOffers()
	for _, o := range w.owners {
		_, licences, _, err := w.held(o)
		if err != nil {
			return err
		}
		for i := range licences {
			w.offers.put(&licences[i])
		}
	}
	return nil
}
