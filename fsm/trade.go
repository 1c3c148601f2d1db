package fsm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/market"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/pci"
)

// The region's market: its steps are actions of agents for their owners, its epochs are entries of
// their own, taken lazily: before the next proof that gets as far as the scores.

// trade is payload.data of a market action. What an operator pays comes out of the treasury, which only the sender tells.
type trade interface {
	step(operator bool) market.Action
}

type (
	issuing    market.Issue
	reassessed market.Reassess
	buying     market.Buy
	releasing  market.Release
	paying     market.Pay
)

func (t issuing) step(bool) market.Action    { return market.Issue(t) }
func (t reassessed) step(bool) market.Action { return market.Reassess(t) }
func (t buying) step(bool) market.Action     { return market.Buy(t) }
func (t releasing) step(bool) market.Action  { return market.Release(t) }

func (t paying) step(operator bool) market.Action {
	if operator {
		return market.Grant(t)
	}
	return market.Pay(t)
}

// resource is what a transition computes with; a quantity of 0 is none.
type resource struct {
	kind     market.Resource
	quantity int64 // units
}

func noMarket(region string) string {
	return fmt.Sprintf("region %q has no market, since its federation document gives it none; leave it out, or have an operator adopt a document that does", region)
}

func readResource(o *pci.Object, name string) market.Resource {
	r, ok := market.ParseResource(o.Text(name, 16))
	if !ok {
		o.Fault("data.%s must be cpu, gpu, memory, storage, bandwidth, inference or consensus", name)
	}
	return r
}

// readTrade reads the data of a market action. Ranges are the market's to refuse.
func (a *action) readTrade(o *pci.Object) {
	switch a.name {
	case ActionMarketIssue:
		a.trade = issuing{Resource: readResource(o, "resource"), Quantity: o.Int("quantity"), Price: o.Int("price_micro")}
	case ActionMarketReassess:
		a.trade = reassessed{Licence: readLicence(o), Price: o.Int("price_micro")}
	case ActionMarketBuy:
		a.trade = buying{Licence: readLicence(o), Limit: o.Int("limit_micro"), Price: o.Int("price_micro")}
	case ActionMarketRelease:
		a.trade = releasing{Licence: readLicence(o)}
	default:
		a.anyone = true
		to := o.Text("to", ownerBytesMax)
		if err := CheckAgentID(to); err != nil { // as an owner's name has to be when an agent is registered
			o.Fault("data.to: %v", err)
		}
		a.trade = paying{To: to, Amount: o.Int("amount_micro")}
	}
}

func readLicence(o *pci.Object) int64 {
	number := o.Int("licence")
	if number < 0 {
		o.Fault("data.licence is %d: licences are numbered from 0", number)
	}
	return number
}

// readNeeds reads which resource a transition computes with.
func (a *action) readNeeds(o *pci.Object) {
	if !o.Has("resource") {
		return
	}
	r := o.Object("resource")
	a.needs.quantity = r.Int("quantity")
	kind, ok := market.ParseResource(r.Text("type", 16))
	if !ok {
		o.Fault("data.resource.type must be cpu, gpu, memory, storage, bandwidth, inference or consensus")
	}
	a.needs.kind = kind
	if a.needs.quantity < 1 {
		o.Fault("data.resource.quantity must be at least 1")
	}
	_ = r.Done()
}

// openMarket is the region's market; nil where it has none.
func (m *Machine) openMarket() (*market.Market, error) {
	if m.region.Market == nil || m.market != nil {
		return m.market, nil
	}
	opened, err := market.Open(m.marketRecords(), *m.region.Market)
	if err != nil {
		return nil, fmt.Errorf("open the market of region %q: %w", m.cfg.Region, err)
	}
	m.market = opened
	return opened, nil
}

// adoptMarket gives the market the rules of the document that has just come in force, and founds it if there is none.
func (m *Machine) adoptMarket(t int64) (err error) {
	rules := m.region.Market
	if rules == nil {
		return nil
	}
	_, founded, err := m.marketRecords().Head()
	switch {
	case err != nil:
	case !founded:
		m.market, err = market.Found(m.marketRecords(), *rules, t)
	default:
		if _, err = m.openMarket(); err == nil {
			err = m.market.Adopt(t, *rules)
		}
	}
	if err != nil {
		return fmt.Errorf("put the market's rules in force: %w", err)
	}
	m.scratch.Merge()
	return nil
}

// checkSupply refuses a document that takes more credits away than the treasury has.
func (m *Machine) checkSupply(next *federation.Document) error {
	region, ok := next.Region(m.cfg.Region)
	if !ok || region.Market == nil {
		return nil
	}
	head, founded, err := m.marketRecords().Head()
	if err != nil || !founded {
		return err
	}
	if less := head.Supply - region.Market.Supply; less > head.Treasury {
		return pci.Rejectf(pci.RejectSchema, "the document cannot be adopted: market.supply_micro is %d less than before, and the treasury has %d: the rest belongs to owners", less, head.Treasury)
	}
	return nil
}

// takeTrade is a step in the market: the deny rules are asked, and then the market itself.
func (m *Machine) takeTrade(j *judgement) error {
	if !j.who.operator {
		if err := m.judgeFate(j, nil, session.Tip{}); err != nil {
			return err
		}
	}
	defer m.layer(LayerMarket)()
	mk, err := m.openMarket()
	if err != nil {
		return err
	}
	// Nothing after this refuses the proof, so that the market in memory and its records stay one.
	did, err := mk.Apply(j.t, market.Actor{Owner: j.who.agent.Owner, Ihsan: j.env.Metadata.IhsanScore}, j.act.trade.step(j.who.operator))
	var refusal *market.Refusal
	switch {
	case errors.As(err, &refusal):
		return refuse(refusal.Reason.Code(), string(refusal.Reason))
	case err != nil:
		return fmt.Errorf("take a step in the market: %w", err)
	}
	j.out.Market = &Trade{Paid: did.Paid, Tax: did.Tax, Lapsed: did.Lapsed, Revoked: did.Revoked}
	if j.act.name != ActionMarketPay {
		j.out.Market.Licence = &did.Licence
	}
	return nil
}

// license refuses a transition that computes with more than its agent's owner holds licences for.
func (m *Machine) license(j *judgement) error {
	needs := j.act.needs
	if needs.quantity == 0 {
		return nil
	}
	defer m.layer(LayerMarket)()
	mk, err := m.openMarket()
	if err != nil {
		return err
	}
	held, err := mk.Units(j.t, j.who.agent.Owner, needs.kind)
	if err != nil {
		return fmt.Errorf("look up licences: %w", err)
	}
	if held < needs.quantity {
		j.out.Unlicensed = &Unlicensed{Owner: j.who.agent.Owner, Resource: needs.kind, Asked: needs.quantity, Held: held}
		return refuse(pci.RejectADLInvalidTx, reasonUnlicensed)
	}
	return nil
}

// runEpoch settles the market's epochs that have ended by a log time, if any, in one entry.
func (m *Machine) runEpoch(t int64) error {
	mk, err := m.openMarket()
	if err != nil || mk == nil || !mk.Due(t) {
		return err
	}
	return m.settle(mk, t)
}

func epochKey(number int64) []byte {
	return numbered(keyEpoch, uint64(number)) //nolint:gosec // never negative
}

func (m *Machine) settle(mk *market.Market, t int64) error {
	leave := m.layer(LayerMarket)
	settled, err := mk.Epoch(t)
	leave()
	if err != nil {
		return fmt.Errorf("settle the market: %w", err)
	}
	m.scratch.Merge()
	head := mk.Head()
	m.txn.Set(epochKey(head.Epoch), binary.BigEndian.AppendUint64(nil, uint64(m.log.Size()))) //nolint:gosec // a size is never negative
	_, err = m.append(&Entry{Kind: EntryEpoch, Region: m.cfg.Region, Index: m.log.Size(), TimeMillis: t, Outcome: Outcome{Epoch: epochOf(&head, &settled)}})
	return err
}

// resettle re-executes an epoch's entry: one must be due at that time.
func (m *Machine) resettle(e *Entry) error {
	if m.region == nil {
		return fmt.Errorf("%w: an epoch before the genesis", ErrDiverged)
	}
	mk, err := m.openMarket()
	switch {
	case err != nil:
		return err
	case mk == nil:
		return fmt.Errorf("%w: an epoch, and the region has no market", ErrDiverged)
	case !mk.Due(e.TimeMillis):
		return fmt.Errorf("%w: no epoch of the market is due at log time %d", ErrDiverged, e.TimeMillis)
	}
	return m.settle(mk, e.TimeMillis)
}

// checkMarket holds the market's records against each other, and its epochs against the ledger.
func (m *Machine) checkMarket(ctx context.Context, v *View) error {
	mk, err := v.openMarket()
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil {
		err = mk.Audit()
	}
	if err != nil {
		return err
	}
	last := int64(0)
	err = scan(ctx, v.snap, keyEpoch, func(key, value []byte) error {
		last, err = v.checkEpoch(key, value)
		return err
	})
	if err == nil && last != mk.Head().Epoch {
		err = fmt.Errorf("%w: the last epoch on record is %d, the market has settled %d", ErrDiverged, last, mk.Head().Epoch)
	}
	return err
}
