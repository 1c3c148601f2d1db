package federation

import (
	"fmt"
	"strconv"

	"github.com/bizra/bizra/fsm/market"
	"github.com/bizra/bizra/pci"
)

// exactMax is the greatest whole number that every JSON reader keeps exactly.
const exactMax = 1 << 53

// readMarket reads the market of a region, nil where it has none.
func readMarket(o *pci.Object) *market.Rules {
	if !o.Has("market") {
		return nil
	}
	m := o.Object("market")
	rules := &market.Rules{Supply: m.Int("supply_micro")}
	resources := m.Object("resources")
	for r := range market.ResourceCount {
		if !resources.Has(r.String()) {
			continue
		}
		offer := resources.Object(r.String())
		rules.Capacity[r], rules.UnitPrice[r] = offer.Int("capacity"), offer.Int("price_micro")
		if rules.Capacity[r] == 0 {
			o.Fault("market.resources.%v.capacity is 0: leave the resource out where there is none of it", r)
		}
		_ = offer.Done()
	}
	_ = resources.Done()
	_ = m.Done()
	return rules
}

// checkMarket refuses rules by which no market could work.
func checkMarket(rules *market.Rules) error {
	if rules == nil {
		return nil
	}
	if err := rules.Check(); err != nil {
		return err
	}
	if rules.Supply < market.Credit || rules.Supply > exactMax {
		return fmt.Errorf("market: supply_micro is %d: there must be 1 credit (%d) to %d", rules.Supply, int64(market.Credit), int64(exactMax))
	}
	some := false
	for r := range market.ResourceCount {
		if rules.Capacity[r] == 0 && rules.UnitPrice[r] != 0 {
			return fmt.Errorf("market: resources.%v has a price_micro and no capacity", r)
		}
		some = some || rules.Capacity[r] > 0
	}
	if !some {
		return fmt.Errorf("market: resources has nothing in it: name what there is to be licensed, such as gpu, with its capacity and price_micro")
	}
	return nil
}

func appendMarket(b []byte, rules *market.Rules) []byte {
	if rules == nil {
		return b
	}
	b = append(b, `,"market":{"resources":{`...)
	first := true
	for _, r := range market.ResourcesByName() {
		if rules.Capacity[r] == 0 {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = pci.AppendString(b, r.String())
		b = strconv.AppendInt(append(b, `:{"capacity":`...), rules.Capacity[r], 10)
		b = strconv.AppendInt(append(b, `,"price_micro":`...), rules.UnitPrice[r], 10)
		b = append(b, '}')
	}
	b = strconv.AppendInt(append(b, `},"supply_micro":`...), rules.Supply, 10)
	return append(b, '}')
}

// format is the least format that can say what the document says. A program that does not know
// markets refuses the later one by its number.
func (d *Document) format() int64 {
	for i := range d.Regions {
		if d.Regions[i].Market != nil {
			return marketFormat
		}
	}
	return documentFormat
}
