package market_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/bizra/bizra/fsm/market"
	"github.com/bizra/bizra/pci"
)

const (
	credit = market.Credit
	hour   = market.EpochMillis
	start  = 1_800_000_000_000 // some log time
)

// plenty are rules under which nothing is scarce but credits.
func plenty() market.Rules {
	r := market.Rules{Supply: 1_000_000_000 * credit}
	for i := range market.ResourceCount {
		r.UnitPrice[i] = credit
		r.Capacity[i] = 1_000_000
	}
	return r
}

func found(t testing.TB, rules market.Rules) *market.Market {
	t.Helper()
	m, err := market.Found(market.NewInMemory(), rules, start)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func by(owner string) market.Actor { return market.Actor{Owner: owner, Ihsan: 1} }

// must takes a step that the market has to allow.
func must(t testing.TB, m *market.Market, now int64, actor market.Actor, action market.Action) market.Outcome {
	t.Helper()
	outcome, err := m.Apply(now, actor, action)
	if err != nil {
		t.Fatalf("%+v by %+v: %v", action, actor, err)
	}
	return outcome
}

func grant(t testing.TB, m *market.Market, now int64, owner string, credits int64) {
	t.Helper()
	must(t, m, now, market.Actor{}, market.Grant{To: owner, Amount: credits * credit})
}

func epoch(t testing.TB, m *market.Market, now int64) market.Settlement {
	t.Helper()
	s, err := m.Epoch(now)
	if err != nil {
		t.Fatal(err)
	}
	if s.After.Exceeds(market.GiniLimitPercent) {
		t.Fatalf("after an epoch the Gini is %v", s.After.Float64())
	}
	if err := m.Audit(); err != nil {
		t.Fatal(err)
	}
	return s
}

func balance(t testing.TB, m *market.Market, owner string) int64 {
	t.Helper()
	h, _, err := m.Holder(owner)
	if err != nil {
		t.Fatal(err)
	}
	return h.Balance
}

func wantRefused(t testing.TB, err error, want market.Reason) {
	t.Helper()
	var refusal *market.Refusal
	if !errors.As(err, &refusal) || refusal.Reason != want {
		t.Errorf("got %v, want a refusal for %s", err, want)
	}
}

func TestLifeOfALicence(t *testing.T) {
	m := found(t, plenty())
	grant(t, m, start, "ann", 100)
	grant(t, m, start, "ben", 100)
	o := must(t, m, start, by("ann"), market.Issue{Resource: market.GPU, Quantity: 3, Price: 20 * credit})
	if o.Paid != 3*credit || balance(t, m, "ann") != 97*credit {
		t.Errorf("paid %d, left %d", o.Paid, balance(t, m, "ann"))
	}
	// Half an hour at 5 % of 20 credits an hour.
	o = must(t, m, start+hour/2, by("ann"), market.Reassess{Licence: o.Licence, Price: 10 * credit})
	if o.Tax != credit/2 || m.Head().Pot != credit/2 {
		t.Errorf("tax %d, pot %d", o.Tax, m.Head().Pot)
	}
	if units, err := m.Units(start+hour/2, "ann", market.GPU); err != nil || units != 3 {
		t.Errorf("ann may use %d units (%v)", units, err)
	}
	o = must(t, m, start+hour/2+hour/10, by("ben"), market.Buy{Licence: o.Licence, Limit: 10 * credit, Price: 12 * credit})
	if o.Tax != credit/20 || o.Paid != 10*credit {
		t.Errorf("tax %d, paid %d", o.Tax, o.Paid)
	}
	if a, b := balance(t, m, "ann"), balance(t, m, "ben"); a != 107*credit-credit/2-credit/20 || b != 90*credit {
		t.Errorf("ann has %d, ben %d", a, b)
	}
	if l, ok, err := m.Licence(o.Licence); err != nil || !ok || l.Owner != "ben" || l.Price != 12*credit || l.IssuedMillis != start || l.LapsesMillis() != start+hour/2+hour/10+market.LapseMillis {
		t.Errorf("%+v, %v, %v", l, ok, err)
	}
	// Ben is the only holder when the hour ends: all tax comes back to him.
	s := epoch(t, m, start+hour)
	if tax := 12 * int64(credit) * 5 / 100 * 4 / 10; s.Tax != tax || s.PaidOut != tax+credit/2+credit/20 || s.Each != s.PaidOut || m.Head().Pot != 0 {
		t.Errorf("%+v", s)
	}
	must(t, m, start+hour, by("ben"), market.Release{Licence: o.Licence})
	if h := m.Head(); h.Issued[market.GPU] != 0 || m.Gini().Holders() != 0 {
		t.Errorf("after the release: %+v", h)
	}
	must(t, m, start+hour, by("ben"), market.Pay{To: "ann", Amount: balance(t, m, "ben")})
	if _, found, err := m.Holder("ben"); found || err != nil {
		t.Errorf("an empty account is kept (%v)", err)
	}
	if err := m.Audit(); err != nil {
		t.Error(err)
	}
}

func TestLapseAndRevocation(t *testing.T) {
	m := found(t, plenty())
	for _, owner := range []string{"idle", "poor", "careful"} {
		grant(t, m, start, owner, 100)
		must(t, m, start, by(owner), market.Issue{Resource: market.CPU, Quantity: 1, Price: 10 * credit})
	}
	// The poor one keeps three credits: with its share of the tax, enough for every hour but not for a day at once.
	must(t, m, start, by("poor"), market.Pay{To: "careful", Amount: 96 * credit})
	must(t, m, start+hour-1, by("careful"), market.Reassess{Licence: 2, Price: 10 * credit})
	lapses := int64(start + market.LapseMillis)
	for _, c := range []struct{ now, idle, poor int64 }{{lapses - 1, 1, 0}, {lapses, 0, 0}} {
		if units, err := m.Units(c.now, "idle", market.CPU); err != nil || units != c.idle {
			t.Errorf("the idle one may use %d units (%v), want %d", units, err, c.idle)
		}
		if units, err := m.Units(c.now, "poor", market.CPU); err != nil || units != c.poor {
			t.Errorf("the poor one may use %d units (%v), want %d", units, err, c.poor)
		}
	}
	// All 24 epochs were missed, and are settled together.
	s := epoch(t, m, lapses)
	if s.Epochs != 24 || s.Lapsed != 1 || s.Revoked != 1 || m.Gini().Holders() != 1 || m.Head().Issued[market.CPU] != 1 {
		t.Errorf("%+v, %d holders", s, m.Gini().Holders())
	}
	if got := balance(t, m, "poor"); got != 0 {
		t.Errorf("the poor one owed more than it had, and has %d", got)
	}
	_, err := m.Apply(lapses, by("idle"), market.Reassess{Licence: 0, Price: credit})
	wantRefused(t, err, market.ReasonLicenceUnknown)
}

// TestRefusals takes a market with ann (licence 0, 10 credits) and ben (licence 1, 10 credits), and
// shows that each reason is given, with its code, and that nothing has changed then.
func TestRefusals(t *testing.T) {
	long := strings.Repeat("x", market.OwnerBytesMax+1)
	issue := market.Issue{Resource: market.CPU, Quantity: 1, Price: 10 * credit}
	for _, c := range []struct {
		reason market.Reason
		code   pci.Code
		actor  market.Actor
		action market.Action
	}{
		{market.ReasonIhsan, pci.RejectIhsanBelowMin, market.Actor{Owner: "ann", Ihsan: 0.9499}, issue},
		{market.ReasonOwner, pci.RejectADLInvalidTx, by(""), issue},
		{market.ReasonOwner, pci.RejectADLInvalidTx, by(long), issue},
		{market.ReasonOwner, pci.RejectADLInvalidTx, market.Actor{}, market.Grant{To: long, Amount: credit}},
		{market.ReasonOwner, pci.RejectADLInvalidTx, by("ann"), market.Pay{Amount: credit}},
		{market.ReasonResource, pci.RejectADLInvalidTx, by("ann"), market.Issue{Resource: market.ResourceCount, Quantity: 1, Price: credit}},
		{market.ReasonQuantity, pci.RejectADLInvalidTx, by("ann"), market.Issue{Quantity: 0, Price: 10 * credit}},
		{market.ReasonQuantity, pci.RejectADLInvalidTx, by("ann"), market.Issue{Quantity: market.QuantityMax + 1, Price: 10 * credit}},
		{market.ReasonPriceDust, pci.RejectADLDustAmount, by("ann"), market.Reassess{Licence: 0, Price: credit - 1}},
		{market.ReasonPrice, pci.RejectADLInvalidTx, by("ann"), market.Reassess{Licence: 0, Price: market.ValueMax + 1}},
		{market.ReasonSoldOut, pci.RejectADLInvalidTx, by("ann"), market.Issue{Quantity: 1_000_000, Price: 10 * credit}},
		{market.ReasonBalance, pci.RejectADLNegativeHolding, by("ann"), market.Issue{Quantity: 1000, Price: 10 * credit}},
		{market.ReasonBalance, pci.RejectADLNegativeHolding, by("cid"), market.Buy{Licence: 0, Limit: market.ValueMax, Price: 10 * credit}},
		{market.ReasonBalance, pci.RejectADLNegativeHolding, by("ann"), market.Pay{To: "cid", Amount: 100 * credit}},
		{market.ReasonTreasury, pci.RejectADLNegativeHolding, market.Actor{}, market.Grant{To: "cid", Amount: 1_000_000_000 * credit}},
		{market.ReasonLicenceUnknown, pci.RejectADLInvalidTx, by("ann"), market.Reassess{Licence: 7, Price: 10 * credit}},
		{market.ReasonLicenceUnknown, pci.RejectADLInvalidTx, by("ann"), market.Buy{Licence: -1, Limit: 10 * credit, Price: 10 * credit}},
		{market.ReasonNotHolder, pci.RejectADLInvalidTx, by("ann"), market.Reassess{Licence: 1, Price: 10 * credit}},
		{market.ReasonNotHolder, pci.RejectADLInvalidTx, by("ann"), market.Release{Licence: 1}},
		{market.ReasonOwnLicence, pci.RejectADLInvalidTx, by("ann"), market.Buy{Licence: 0, Limit: 10 * credit, Price: 10 * credit}},
		{market.ReasonPriceRose, pci.RejectADLInvalidTx, by("ann"), market.Buy{Licence: 1, Limit: 10*credit - 1, Price: 10 * credit}},
		{market.ReasonValueMax, pci.RejectADLInvalidTx, by("ann"), market.Issue{Quantity: 1, Price: market.ValueMax}},
		{market.ReasonOwnAccount, pci.RejectADLInvalidTx, by("ann"), market.Pay{To: "ann", Amount: credit}},
		{market.ReasonPaymentDust, pci.RejectADLDustAmount, by("ann"), market.Pay{To: "cid", Amount: credit - 1}},
		{market.ReasonPaymentDust, pci.RejectADLDustAmount, by("ann"), market.Pay{To: "cid", Amount: -credit}},
		{market.ReasonPaymentDust, pci.RejectADLDustAmount, market.Actor{}, market.Grant{To: "cid", Amount: 0}},
		{market.ReasonFloor, pci.RejectADLDustAmount, by("ann"), market.Reassess{Licence: 0, Price: 1428571}}, // a quarter is 10/7 credits
		{market.ReasonGini, pci.RejectADLGiniExceeded, by("ann"), market.Reassess{Licence: 0, Price: 60 * credit}},
		{market.ReasonGini, pci.RejectADLGiniExceeded, by("ann"), market.Buy{Licence: 1, Limit: 10 * credit, Price: 10 * credit}},
	} {
		t.Run(fmt.Sprintf("%s %+v", c.reason, c.action), func(t *testing.T) {
			m := found(t, plenty())
			for _, owner := range []string{"ann", "ben"} {
				grant(t, m, start, owner, 60)
				must(t, m, start, by(owner), issue)
			}
			head, gini, ann := m.Head(), m.Gini(), balance(t, m, "ann")
			_, err := m.Apply(start+hour-1, c.actor, c.action)
			wantRefused(t, err, c.reason)
			if c.reason.Code() != c.code || c.reason.Sentence() == "" {
				t.Errorf("code %v, sentence %q", c.reason.Code(), c.reason.Sentence())
			}
			if m.Head().TimeMillis != head.TimeMillis || m.Head().Pot != head.Pot || m.Gini() != gini || balance(t, m, "ann") != ann {
				t.Error("a refused step has changed something")
			}
			if err := m.Audit(); err != nil {
				t.Error(err)
			}
		})
	}
	if r := market.Reason("no such"); r.Code() != pci.RejectInternalError || r.Sentence() != "" {
		t.Errorf("%v, %q", r.Code(), r.Sentence())
	}
}

// TestEdges is each limit at its edge; TestRefusals has one beyond.
func TestEdges(t *testing.T) {
	m := found(t, plenty())
	name := strings.Repeat("x", market.OwnerBytesMax)
	grant(t, m, start, name, 1_000_000)
	must(t, m, start, market.Actor{Owner: name, Ihsan: market.IhsanMin}, market.Issue{Quantity: 1, Price: credit})
	for i := 1; i < market.LicencesMax; i++ {
		must(t, m, start, by(name), market.Issue{Quantity: 1, Price: credit})
	}
	_, err := m.Apply(start, by(name), market.Issue{Quantity: 1, Price: credit})
	wantRefused(t, err, market.ReasonLicencesMax)
	for i := range int64(market.LicencesMax - 1) {
		must(t, m, start, by(name), market.Release{Licence: i})
	}
	must(t, m, start, by(name), market.Reassess{Licence: market.LicencesMax - 1, Price: market.ValueMax})
	grant(t, m, start, "ann", 1)
	must(t, m, start, by(name), market.Pay{To: "ann", Amount: credit})
	if err := m.Audit(); err != nil {
		t.Error(err)
	}
	// Quarter of the mean, exactly: 10, 10 and 4·v·3 ≥ 20+v.
	m = found(t, plenty())
	for _, owner := range []string{"a", "b", "c"} {
		grant(t, m, start, owner, 100)
	}
	must(t, m, start, by("a"), market.Issue{Quantity: 1, Price: 10 * credit})
	must(t, m, start, by("b"), market.Issue{Quantity: 1, Price: 10 * credit})
	least, sure := m.Admission()
	if least != 1818182 || sure != 10*credit {
		t.Errorf("admission from %d to %d", least, sure)
	}
	_, err = m.Apply(start, by("c"), market.Issue{Quantity: 1, Price: least - 1})
	wantRefused(t, err, market.ReasonFloor)
	must(t, m, start, by("c"), market.Issue{Quantity: 1, Price: least})
}

// TestGiniGate shows each of the three conditions of the gate to be needed for a refusal.
func TestGiniGate(t *testing.T) {
	m := found(t, plenty())
	declare := func(owner string, credits int64) {
		grant(t, m, start, owner, 1000)
		must(t, m, start, by(owner), market.Issue{Quantity: 1, Price: credits * credit})
	}
	declare("a", 100)
	declare("b", 100)
	declare("c", 28) // dust is below 25 or so
	declare("d", 28)
	declare("e", 28)
	// Raises the Gini, ends above the mean, and below the limit: allowed.
	must(t, m, start, by("a"), market.Reassess{Licence: 0, Price: 110 * credit})
	if m.Gini().Exceeds(market.GiniLimitPercent) {
		t.Fatalf("the Gini is %v", m.Gini().Float64())
	}
	// Raises it above the limit, ends above the mean: refused.
	_, err := m.Apply(start, by("a"), market.Reassess{Licence: 0, Price: 160 * credit})
	wantRefused(t, err, market.ReasonGini)
	// Raises it above the limit and ends below the mean: allowed, a newcomer that declares little.
	for i := range 4 {
		least, _ := m.Admission()
		owner := fmt.Sprintf("small %d", i)
		grant(t, m, start, owner, 100)
		must(t, m, start, by(owner), market.Issue{Quantity: 1, Price: least})
	}
	if !m.Gini().Exceeds(market.GiniLimitPercent) {
		t.Fatalf("the Gini is %v", m.Gini().Float64())
	}
	// Is above the limit and ends above the mean, but lowers the Gini: allowed.
	must(t, m, start, by("a"), market.Reassess{Licence: 0, Price: 105 * credit})
	// Above the limit, ending above the mean and raising it: refused.
	_, err = m.Apply(start, by("a"), market.Reassess{Licence: 0, Price: 106 * credit})
	wantRefused(t, err, market.ReasonGini)
	// The epoch works it off, and leaves as little below the top as it must.
	s := epoch(t, m, start+hour)
	if s.Lowered != 2 || s.Cap == 0 || s.After.Millionths() < 349_999 {
		t.Errorf("%+v", s)
	}
}

// TestSoleHolderCanBeReplaced: an emptied seller counts for the Gini, but the newcomer in its place is not above any mean.
func TestSoleHolderCanBeReplaced(t *testing.T) {
	m := found(t, plenty())
	grant(t, m, start, "first", 100)
	grant(t, m, start, "second", 100)
	must(t, m, start, by("first"), market.Issue{Quantity: 1, Price: 20 * credit})
	must(t, m, start, by("second"), market.Buy{Licence: 0, Limit: 20 * credit, Price: 50 * credit})
}

func TestOrderOfEpochsAndTime(t *testing.T) {
	m := found(t, plenty())
	grant(t, m, start, "ann", 10)
	if _, err := m.Epoch(start + hour - 1); !errors.Is(err, market.ErrEpoch) {
		t.Errorf("an epoch that is not due: %v", err)
	}
	if _, err := m.Apply(start+hour, by("ann"), market.Pay{To: "ben", Amount: credit}); !errors.Is(err, market.ErrEpoch) {
		t.Errorf("a step while an epoch is due: %v", err)
	}
	if _, err := m.Apply(start-1, by("ann"), market.Pay{To: "ben", Amount: credit}); !errors.Is(err, market.ErrTime) {
		t.Errorf("a step in the past: %v", err)
	}
	epoch(t, m, start+hour)
	must(t, m, start+hour, by("ann"), market.Pay{To: "ben", Amount: credit})
	if _, err := m.Epoch(start + hour); !errors.Is(err, market.ErrEpoch) {
		t.Errorf("the same epoch again: %v", err)
	}
}

func TestAdopt(t *testing.T) {
	m := found(t, plenty())
	grant(t, m, start, "ann", 999_999_000)
	rules := plenty()
	rules.Supply += 5 * credit
	rules.Capacity[market.CPU] = 0
	if err := m.Adopt(start, rules); err != nil || m.Head().Treasury != 1005*credit {
		t.Errorf("treasury %d, %v", m.Head().Treasury, err)
	}
	_, err := m.Apply(start, by("ann"), market.Issue{Quantity: 1, Price: credit})
	wantRefused(t, err, market.ReasonSoldOut)
	rules.Supply = 999_999_000*credit - 1
	if err := m.Adopt(start, rules); !errors.Is(err, market.ErrRules) {
		t.Errorf("less supply than is granted: %v", err)
	}
	rules.Supply = -1
	if err := m.Adopt(start, rules); !errors.Is(err, market.ErrRules) {
		t.Errorf("a negative supply: %v", err)
	}
	if err := m.Audit(); err != nil {
		t.Error(err)
	}
}

func TestRulesAreChecked(t *testing.T) {
	for name, change := range map[string]func(*market.Rules){
		"Supply":    func(r *market.Rules) { r.Supply = market.SupplyMax + 1 },
		"UnitPrice": func(r *market.Rules) { r.UnitPrice[market.GPU] = market.ValueMax + 1 },
		"Capacity":  func(r *market.Rules) { r.Capacity[market.Consensus] = market.CapacityMax + 1 },
	} {
		rules := plenty()
		change(&rules)
		if _, err := market.Found(market.NewInMemory(), rules, start); !errors.Is(err, market.ErrRules) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	rules := plenty()
	rules.Supply, rules.UnitPrice[market.GPU], rules.Capacity[market.GPU] = market.SupplyMax, market.ValueMax, market.CapacityMax
	m := found(t, rules)
	// The dearest issue that there can be does not overflow.
	_, err := m.Apply(start, by("ann"), market.Issue{Resource: market.GPU, Quantity: market.QuantityMax, Price: credit})
	wantRefused(t, err, market.ReasonBalance)
}

func TestResourceNames(t *testing.T) {
	for r := range market.ResourceCount {
		text, err := r.MarshalText()
		var back market.Resource
		if err != nil || back.UnmarshalText(text) != nil || back != r {
			t.Errorf("%v becomes %q and %v (%v)", r, text, back, err)
		}
	}
	var r market.Resource
	if r.UnmarshalText([]byte("water")) == nil || market.ResourceCount.String() != "resource(7)" {
		t.Error("a resource that is none")
	}
}
