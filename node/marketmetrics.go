package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/market"
)

// marketMetrics are those of the region's market. Where there is none there are no such series.
type marketMetrics struct {
	now func() *fsm.MarketStanding // nil: there is none
}

// marketPlain are the series without labels.
func marketPlain() []marketFigure {
	credits := func(micro int64) float64 { return float64(micro) / market.Credit }
	return []marketFigure{
		{"gini", "Gini coefficient of declared value per holder: after each epoch at most 0.35.", func(s *fsm.MarketStanding) float64 { return s.Gini.Float64() }},
		{"holders", "Owners with a licence.", func(s *fsm.MarketStanding) float64 { return float64(s.Gini.Holders()) }},
		{"declared_credits", "Sum of the prices of all licences.", func(s *fsm.MarketStanding) float64 { return credits(s.Gini.Total()) }},
		{"supply_credits", "Credits that there are.", func(s *fsm.MarketStanding) float64 { return credits(s.Head.Supply) }},
		{"treasury_credits", "Credits that were not granted, or were paid for licences that nobody held.", func(s *fsm.MarketStanding) float64 { return credits(s.Head.Treasury) }},
		{"pot_credits", "Tax to be paid out at the next epoch.", func(s *fsm.MarketStanding) float64 { return credits(s.Head.Pot) }},
		{"epochs", "Epochs settled since the market was founded.", func(s *fsm.MarketStanding) float64 { return float64(s.Head.Epoch) }},
	}
}

type marketFigure struct {
	name, help string
	of         func(*fsm.MarketStanding) float64
}

func marketDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("bizra", "market", name), help, labels, nil)
}

func marketIssued() *prometheus.Desc {
	return marketDesc("units_issued", "Units under licence, by resource.", "resource")
}

func marketCapacity() *prometheus.Desc {
	return marketDesc("units_capacity", "Units that there are, by resource.", "resource")
}

func marketPrices() *prometheus.Desc {
	return marketDesc("unit_price_credits", "What the market asks for a unit that nobody holds, by resource.", "resource")
}

// Describe implements [prometheus.Collector].
func (m *marketMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range marketPlain() {
		ch <- marketDesc(f.name, f.help)
	}
	ch <- marketIssued()
	ch <- marketCapacity()
	ch <- marketPrices()
}

// Collect implements [prometheus.Collector].
func (m *marketMetrics) Collect(ch chan<- prometheus.Metric) {
	s := m.now()
	if s == nil {
		return
	}
	send := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, f := range marketPlain() {
		send(marketDesc(f.name, f.help), f.of(s))
	}
	issued, capacity, prices := marketIssued(), marketCapacity(), marketPrices()
	for r := range market.ResourceCount {
		if s.Rules.Capacity[r] == 0 && s.Head.Issued[r] == 0 {
			continue
		}
		send(issued, float64(s.Head.Issued[r]), r.String())
		send(capacity, float64(s.Rules.Capacity[r]), r.String())
		send(prices, float64(s.Rules.UnitPrice[r])/market.Credit, r.String())
	}
}
