package economy

import (
	"fmt"
	"math"
	"slices"

	"github.com/bizra/bizra/fsm/market"
)

// Schema is the version of a report's form.
const Schema = 1

// Report is what a run came to. Amounts are in credits.
type Report struct {
	Schema   int    `json:"schema"`
	Seed     uint64 `json:"seed"`
	Attack   Attack `json:"attack"`
	Owners   int    `json:"owners"`   // honest at first
	Capacity int64  `json:"capacity"` // units
	Hours    []Hour `json:"hours"`

	GiniWorst  float64 `json:"gini_worst"`  // at any end of an hour, before the epoch
	GiniSettle float64 `json:"gini_settle"` // the most after an epoch
	Served     float64 `json:"served"`      // of what honest owners wanted, the share that they held, by units
	Welfare    float64 `json:"welfare"`     // of what the units are worth to those who value them most, the share that was got by owners who want to compute
	FirstCome  float64 `json:"first_come"`  // the same if units went to who happens to ask first, and cost nothing
	Sales      int     `json:"sales"`
	Refused    int     `json:"refused"`
	Dodged     int     `json:"dodged"` // sales that a seller escaped from

	Attackers        int     `json:"attackers"`          // names
	AttackerUnits    float64 `json:"attacker_units"`     // share of all units, on average over hours
	AttackerDeclared float64 `json:"attacker_declared"`  // share of declared value, on average
	AttackerPurse    float64 `json:"attacker_purse"`     // granted to them
	AttackerNet      float64 `json:"attacker_net"`       // what they have gained since, in credits; less than 0 is what the attack cost
	AttackerNetHour  float64 `json:"attacker_net_hour"`  // the same by the hour and name
	HonestNetHour    float64 `json:"honest_net_hour"`    // of the others, by the hour and owner
	AttackerUnitHour float64 `json:"attacker_unit_hour"` // credits that a unit cost them for an hour; 0 if they had none
	HonestUnitHour   float64 `json:"honest_unit_hour"`
	Broken           int     `json:"broken"` // hours after whose epoch the Gini was above its limit, or credits were not conserved
}

// Hour is the end of an hour, after its epoch.
type Hour struct {
	Hour       int     `json:"hour"`
	Load       float64 `json:"load"` // by which demand was multiplied
	GiniBefore float64 `json:"gini_before"`
	GiniAfter  float64 `json:"gini_after"`
	Holders    int64   `json:"holders"`
	Mean       float64 `json:"mean"` // declared value of a holder
	Cap        float64 `json:"cap"`  // 0: nobody was lowered
	Lowered    int64   `json:"lowered"`
	Lifted     int64   `json:"lifted"`
	UnitPrice  float64 `json:"unit_price"` // declared for a unit, the median over units
	Treasury   float64 `json:"treasury"`
	Tax        float64 `json:"tax"` // paid out, each holder the same
	Licensed   float64 `json:"licensed"`
	Served     float64 `json:"served"`
	Welfare    float64 `json:"welfare"`
	FirstCome  float64 `json:"first_come"`
	Sales      int     `json:"sales"`
	Refused    int     `json:"refused"`
	Attackers  float64 `json:"attacker_units"` // share of all units
	Declared   float64 `json:"attacker_declared"`
}

func credits(micro int64) float64 { return float64(micro) / market.Credit }

// standing is what a sum over all owners needs.
type standing struct {
	sum                  int64 // balances
	units, declared      int64
	attacked, boasted    int64 // of them, the attackers'
	wanted, got          int64 // units, of the honest
	worth                float64
	wishes               []wish // as many as there are owners, in no order that says anything of them
	perUnit              []price
	gangBalance, balance int64
}

type wish struct {
	value float64
	units int64
}

type price struct {
	perUnit float64
	units   int64
}

func (w *world) stand() (*standing, error) {
	s := &standing{}
	for _, o := range w.owners {
		h, licences, units, err := w.held(o)
		if err != nil {
			return nil, err
		}
		s.sum += h.Balance
		s.units += units
		s.declared += h.Value
		o.unitHours += units
		for i := range licences {
			s.perUnit = append(s.perUnit, price{float64(licences[i].Price) / float64(licences[i].Quantity), licences[i].Quantity})
		}
		if o.attacks {
			s.attacked += units
			s.boasted += h.Value
			s.gangBalance += h.Balance
		} else {
			s.balance += h.Balance
			s.wanted += o.wants
			s.got += min(units, o.wants)
		}
		s.worth += o.value * float64(min(units, o.wants))
		s.wishes = append(s.wishes, wish{o.value, o.wants})
	}
	return s, nil
}

// ideal is what the units are worth to those who value them most.
func (s *standing) ideal(capacity int64) float64 {
	best := slices.Clone(s.wishes)
	slices.SortFunc(best, func(a, b wish) int { return -compare(a.value, b.value) })
	return worth(best, capacity)
}

// worth is what the units are worth to those who are given what they want in turn, until there is no more.
func worth(turns []wish, capacity int64) float64 {
	sum := 0.0
	for _, b := range turns {
		take := min(b.units, capacity)
		sum += b.value * float64(take)
		capacity -= take
	}
	return sum
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// median is the price that half of the units do not exceed.
func (s *standing) median() float64 {
	slices.SortFunc(s.perUnit, func(a, b price) int { return compare(a.perUnit, b.perUnit) })
	seen := int64(0)
	for _, p := range s.perUnit {
		if seen += p.units; 2*seen >= s.units {
			return p.perUnit / market.Credit
		}
	}
	return 0
}

func share[T int64 | float64](part, whole T) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// measure writes down how things stand at the end of an hour, after its epoch.
func (w *world) measure(load float64, before market.Gini, settled *market.Settlement) error {
	s, err := w.stand()
	if err != nil {
		return err
	}
	head, gini := w.market.Head(), w.market.Gini()
	refused := 0
	for _, n := range w.tally.refused {
		refused += n
	}
	h := Hour{Hour: w.hour + 1, Load: load, GiniBefore: before.Float64(), GiniAfter: settled.After.Float64(), Holders: gini.Holders(), Mean: credits(gini.Mean()),
		Cap: credits(settled.Cap), Lowered: settled.Lowered, Lifted: settled.Lifted, UnitPrice: s.median(), Treasury: credits(head.Treasury),
		Tax: credits(settled.PaidOut), Licensed: share(s.units, w.report.Capacity), Served: share(s.got, s.wanted), Welfare: share(s.worth, s.ideal(w.report.Capacity)), FirstCome: share(worth(s.wishes, w.report.Capacity), s.ideal(w.report.Capacity)),
		Sales: w.tally.sales, Refused: refused, Attackers: share(s.attacked, s.units), Declared: share(s.boasted, s.declared)}
	r := w.report
	r.Hours = append(r.Hours, h)
	r.GiniWorst, r.GiniSettle = math.Max(r.GiniWorst, h.GiniBefore), math.Max(r.GiniSettle, h.GiniAfter)
	r.Sales += h.Sales
	r.Refused += refused
	r.Dodged += w.tally.dodged
	if settled.After.Exceeds(market.GiniLimitPercent) || s.sum+head.Treasury+head.Pot != head.Supply {
		r.Broken++
	}
	return nil
}

// conclude sums the run up.
func (w *world) conclude() error {
	if err := w.market.Audit(); err != nil {
		return fmt.Errorf("economy: %w", err)
	}
	r := w.report
	n := float64(len(r.Hours))
	for _, h := range r.Hours {
		r.Served += h.Served / n
		r.Welfare += h.Welfare / n
		r.FirstCome += h.FirstCome / n
		r.AttackerUnits += h.Attackers / n
		r.AttackerDeclared += h.Declared / n
	}
	var gang, honest group
	for _, o := range w.owners {
		h, err := w.holder(o)
		if err != nil {
			return err
		}
		g := &honest
		if o.attacks {
			g = &gang
		}
		g.names++
		g.purse += o.given
		g.net += h.Balance - o.given - o.bought
		g.unitHours += o.unitHours
	}
	r.Attackers, r.AttackerPurse, r.AttackerNet = gang.names, credits(gang.purse), credits(gang.net)
	r.AttackerNetHour, r.HonestNetHour = gang.perHour(n), honest.perHour(n)
	r.AttackerUnitHour, r.HonestUnitHour = gang.perUnitHour(), honest.perUnitHour()
	return nil
}

// group is some owners together.
type group struct {
	names      int
	purse, net int64 // micro-credits
	unitHours  int64
}

func (g *group) perHour(hours float64) float64 {
	if g.names == 0 {
		return 0
	}
	return credits(g.net) / hours / float64(g.names)
}

func (g *group) perUnitHour() float64 {
	if g.unitHours == 0 {
		return 0
	}
	return -credits(g.net) / float64(g.unitHours)
}
