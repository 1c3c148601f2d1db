package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/market"
)

// marketMetrics are those of the region's market. Where there is none there are no such series.
type marketMetrics struct {
	now                      func() *fsm.MarketStanding // nil: there is none
	plain                    []marketGauge
	issued, capacity, prices *prometheus.Desc // by resource
}

type marketGauge struct {
	desc *prometheus.Desc
	of   func(*fsm.MarketStanding) float64
}

func newMarketMetrics(now func() *fsm.MarketStanding) *marketMetrics {
	name := func(n string) string { return prometheus.BuildFQName("bizra", "market", n) }
	m := &marketMetrics{now: now}
	gauge := func(n, help string, of func(*fsm.MarketStanding) float64) {
		m.plain = append(m.plain, marketGauge{prometheus.NewDesc(name(n), help, nil, nil), of})
	}
	credits := func(micro int64) float64 { return float64(micro) / market.Credit }
	gauge("gini", "Gini coefficient of declared value per holder: after each epoch at most 0.35.", func(s *fsm.MarketStanding) float64 { return s.Gini.Float64() })
	gauge("holders", "Owners with a licence.", func(s *fsm.MarketStanding) float64 { return float64(s.Gini.Holders()) })
	gauge("declared_credits", "Sum of the prices of all licences.", func(s *fsm.MarketStanding) float64 { return credits(s.Gini.Total()) })
	gauge("supply_credits", "Credits that there are.", func(s *fsm.MarketStanding) float64 { return credits(s.Head.Supply) })
	gauge("treasury_credits", "Credits that were not granted, or were paid for licences that nobody held.", func(s *fsm.MarketStanding) float64 { return credits(s.Head.Treasury) })
	gauge("pot_credits", "Tax to be paid out at the next epoch.", func(s *fsm.MarketStanding) float64 { return credits(s.Head.Pot) })
	gauge("epochs", "Epochs settled since the market was founded.", func(s *fsm.MarketStanding) float64 { return float64(s.Head.Epoch) })
	byResource := []string{"resource"}
	m.issued = prometheus.NewDesc(name("units_issued"), "Units under licence, by resource.", byResource, nil)
	m.capacity = prometheus.NewDesc(name("units_capacity"), "Units that there are, by resource.", byResource, nil)
	m.prices = prometheus.NewDesc(name("unit_price_credits"), "What the market asks for a unit that nobody holds, by resource.", byResource, nil)
	return m
}

// Describe implements [prometheus.Collector].
func (m *marketMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range m.plain {
		ch <- g.desc
	}
	ch <- m.issued
	ch <- m.capacity
	ch <- m.prices
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
	for _, g := range m.plain {
		send(g.desc, g.of(s))
	}
	for r := range market.ResourceCount {
		if s.Rules.Capacity[r] == 0 && s.Head.Issued[r] == 0 {
			continue
		}
		send(m.issued, float64(s.Head.Issued[r]), r.String())
		send(m.capacity, float64(s.Rules.Capacity[r]), r.String())
		send(m.prices, float64(s.Rules.UnitPrice[r])/market.Credit, r.String())
	}
}
