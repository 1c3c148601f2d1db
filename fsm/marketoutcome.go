package fsm

import (
	"strconv"

	"github.com/bizra/bizra/fsm/market"
	"github.com/bizra/bizra/pci"
)

// Trade is what a step did in the market. Amounts are in micro-credits.
type Trade struct {
	Licence *int64  `json:"licence"`           // issued, reassessed, bought or released; nil of a payment
	Paid    int64   `json:"paid_micro"`        // that changed hands, the tax apart
	Tax     int64   `json:"tax_micro"`         // collected from whom the step touched
	Lapsed  []int64 `json:"lapsed,omitempty"`  // licences of theirs that had lapsed
	Revoked []int64 `json:"revoked,omitempty"` // licences of theirs whose tax could not be paid
}

// Unlicensed is what a step asked for and its owner has no licence to.
type Unlicensed struct {
	Owner    string          `json:"owner"`
	Resource market.Resource `json:"resource"`
	Asked    int64           `json:"asked"` // units
	Held     int64           `json:"held"`  // units
}

// Epoch is what a market settled for one hour of log time, or for several that had passed. Amounts are in micro-credits; the
// Gini coefficients are in millionths, rounded down.
type Epoch struct {
	Number     int64 `json:"number"`      // epochs settled since the market was founded
	Epochs     int64 `json:"epochs"`      // of them, by this entry
	Tax        int64 `json:"tax_micro"`   // collected by it
	PaidOut    int64 `json:"paid_micro"`  // to the holders in all
	Each       int64 `json:"each_micro"`  // to each
	Lapsed     int64 `json:"lapsed"`      // licences that were not reassessed in time, or no longer fit
	Revoked    int64 `json:"revoked"`     // licences whose tax could not be paid
	Floor      int64 `json:"floor_micro"` // declared value that holders below it were lifted to
	Lifted     int64 `json:"lifted"`
	Cap        int64 `json:"cap_micro"` // declared value that holders above it were lowered to; 0: the Gini kept its limit
	Lowered    int64 `json:"lowered"`
	GiniBefore int64 `json:"gini_before_ppm"` // after lapses and revocations
	GiniAfter  int64 `json:"gini_after_ppm"`
	Holders    int64 `json:"holders"`
	Declared   int64 `json:"declared_micro"` // by all of them
	Treasury   int64 `json:"treasury_micro"`
	Pot        int64 `json:"pot_micro"` // tax that did not divide
}

func epochOf(h *market.Head, s *market.Settlement) *Epoch {
	return &Epoch{Number: h.Epoch, Epochs: s.Epochs, Tax: s.Tax, PaidOut: s.PaidOut, Each: s.Each, Lapsed: s.Lapsed, Revoked: s.Revoked,
		Floor: s.Floor, Lifted: s.Lifted, Cap: s.Cap, Lowered: s.Lowered, GiniBefore: s.Before.Millionths(), GiniAfter: s.After.Millionths(),
		Holders: s.After.Holders(), Declared: s.After.Total(), Treasury: h.Treasury, Pot: h.Pot}
}

type epochMember struct {
	name string
	at   *int64
}

// members are the epoch's numbers in the order of their names, as the canonical form has them.
func (e *Epoch) members() []epochMember {
	return []epochMember{{"cap_micro", &e.Cap}, {"declared_micro", &e.Declared}, {"each_micro", &e.Each}, {"epochs", &e.Epochs},
		{"floor_micro", &e.Floor}, {"gini_after_ppm", &e.GiniAfter}, {"gini_before_ppm", &e.GiniBefore}, {"holders", &e.Holders},
		{"lapsed", &e.Lapsed}, {"lifted", &e.Lifted}, {"lowered", &e.Lowered}, {"number", &e.Number}, {"paid_micro", &e.PaidOut},
		{"pot_micro", &e.Pot}, {"revoked", &e.Revoked}, {"tax_micro", &e.Tax}, {"treasury_micro", &e.Treasury}}
}

func (e *Epoch) appendCanonical(b []byte) []byte {
	for i, m := range e.members() {
		b = append(b, "{,"[min(i, 1)])
		b = append(pci.AppendString(b, m.name), ':')
		b = strconv.AppendInt(b, *m.at, 10)
	}
	return append(b, '}')
}

func readEpoch(o *pci.Object) *Epoch {
	e := &Epoch{}
	for _, m := range e.members() {
		*m.at = o.Int(m.name)
	}
	return e
}

// appendCanonical appends a member, and nothing where there was no step in the market: entries of regions
// without one are what they were before there were markets.
func (t *Trade) appendCanonical(b []byte) []byte {
	if t == nil {
		return b
	}
	b = appendNumbers(append(b, `,"market":{"lapsed":`...), t.Lapsed)
	b = append(b, `,"licence":`...)
	if t.Licence != nil {
		b = strconv.AppendInt(b, *t.Licence, 10)
	} else {
		b = append(b, null...)
	}
	b = strconv.AppendInt(append(b, `,"paid_micro":`...), t.Paid, 10)
	b = appendNumbers(append(b, `,"revoked":`...), t.Revoked)
	b = strconv.AppendInt(append(b, `,"tax_micro":`...), t.Tax, 10)
	return append(b, '}')
}

func appendNumbers(b []byte, numbers []int64) []byte {
	b = append(b, '[')
	for i, n := range numbers {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, n, 10)
	}
	return append(b, ']')
}

func readTrade(o *pci.Object) *Trade {
	if !o.Has("market") {
		return nil
	}
	m := o.Object("market")
	t := &Trade{Paid: m.Int("paid_micro"), Tax: m.Int("tax_micro"), Lapsed: readNumbers(m, "lapsed"), Revoked: readNumbers(m, "revoked")}
	if v, _ := m.Any("licence"); v.Kind() != pci.NullKind {
		number := m.Int("licence")
		t.Licence = &number
	}
	_ = m.Done()
	return t
}

// tradeLicencesMax is how many licences the two owners that a step touches can lose by it.
const tradeLicencesMax = 2 * market.LicencesMax

func readNumbers(o *pci.Object, name string) []int64 {
	var numbers []int64
	for _, v := range o.Array(name, tradeLicencesMax) {
		n, ok := v.Int64()
		if !ok {
			o.Fault("outcome.market.%s must hold whole numbers", name)
		}
		numbers = append(numbers, n)
	}
	return numbers
}

// appendCanonical appends a member, and nothing where no licence was missing.
func (u *Unlicensed) appendCanonical(b []byte) []byte {
	if u == nil {
		return b
	}
	b = strconv.AppendInt(append(b, `,"unlicensed":{"asked":`...), u.Asked, 10)
	b = strconv.AppendInt(append(b, `,"held":`...), u.Held, 10)
	b = pci.AppendString(append(b, `,"owner":`...), u.Owner)
	b = append(append(b, `,"resource":"`...), u.Resource.String()...)
	return append(b, `"}`...)
}

func readUnlicensed(o *pci.Object) *Unlicensed {
	if !o.Has("unlicensed") {
		return nil
	}
	m := o.Object("unlicensed")
	u := &Unlicensed{Owner: m.Text("owner", ownerBytesMax), Asked: m.Int("asked"), Held: m.Int("held")}
	r, ok := market.ParseResource(m.Text("resource", 16))
	if !ok {
		o.Fault("outcome.unlicensed: a resource that this program does not know")
	}
	u.Resource = r
	_ = m.Done()
	return u
}
