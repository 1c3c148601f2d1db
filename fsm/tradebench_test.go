package fsm_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/fsm/store/pebblestore"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

// BenchmarkEpoch settles an hour of a market with so many holders through the machine on disk: ms/epoch is the proof that
// finds it due, with all that it writes; ms/open the first step after a restart; µs/reassess one step of the market
// with a commit of its own.
func BenchmarkEpoch(b *testing.B) {
	for _, holders := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(holders), func(b *testing.B) {
			st, err := pebblestore.Open(b.TempDir(), pebblestore.Options{})
			if err != nil {
				b.Fatal(err)
			}
			m := &marketBench{b: b, fed: testfed.New(1, 1, testfed.Market, testfed.Lenient), st: st, now: start}
			b.Cleanup(func() { _ = st.Close() })
			m.found(holders)
			var epochs, opening, steps time.Duration
			renewals := int64(1)
			for b.Loop() {
				if m.now += hour; m.now-start > 20*hour*renewals {
					m.renew()
					renewals++
				}
				epochs += m.timed(m.reassess(0))
				for i := range 50 {
					steps += m.timed(m.reassess(i))
				}
				m.open()
				opening += m.timed(m.reassess(0))
			}
			v, err := m.m.View()
			if err != nil {
				b.Fatal(err)
			}
			if all, err := v.Epochs(1<<40, fsm.PageMax); err != nil || len(all) != min(b.N, fsm.PageMax) || all[0].Holders != int64(holders) {
				b.Fatalf("%d epochs of %d: %v", len(all), b.N, err)
			}
			if err := v.Close(); err != nil {
				b.Fatal(err)
			}
			n := float64(b.N)
			b.ReportMetric(epochs.Seconds()*1e3/n, "ms/epoch")
			b.ReportMetric(opening.Seconds()*1e3/n, "ms/open")
			b.ReportMetric(steps.Seconds()*1e6/50/n, "µs/reassess")
			b.ReportMetric(0, "ns/op")
		})
	}
}

const benchBatch = 128

// marketBench is a machine whose agents each have an owner, and the time that its commands take.
type marketBench struct {
	b      *testing.B
	fed    *testfed.Federation
	st     store.Store
	m      *fsm.Machine
	index  uint64
	now    int64
	agents []*testfed.Signer
}

func (m *marketBench) open() {
	var err error
	if m.m, err = fsm.Open(m.st, fsm.Config{Region: "a"}); err != nil {
		m.b.Fatal(err)
	}
}

func (m *marketBench) apply(data []byte) time.Duration {
	m.index++
	began := time.Now()
	results, err := m.m.Apply([]fsm.Command{{Index: m.index, Term: 1, Data: data}})
	took := time.Since(began)
	if err != nil {
		m.b.Fatal(err)
	}
	for _, r := range results[0].Receipts {
		if r.Code != pci.Success {
			m.b.Fatalf("%v: %s", r.Code, r.Message())
		}
	}
	return took
}

func (m *marketBench) timed(envs ...*pci.Envelope) time.Duration {
	canonical := make([][]byte, len(envs))
	for i, e := range envs {
		canonical[i] = e.Canonical()
	}
	return m.apply(fsm.EncodeProofs(m.now, canonical))
}

// reassess says the price of a licence once more, so that it does not lapse.
func (m *marketBench) reassess(agent int) *pci.Envelope {
	a := m.agents[agent]
	a.NowMillis = m.now
	return a.Sign("market.reassess", map[string]any{"region": "a", "licence": agent, "price_micro": credit * int64(5+agent%10)}, "")
}

// renew has every holder say its price again, before its licence lapses.
func (m *marketBench) renew() {
	m.now -= hour // which is when they do, so that the epoch is for the proof that is timed
	var envs []*pci.Envelope
	for i := range m.agents {
		if envs = append(envs, m.reassess(i)); len(envs) == benchBatch || i == len(m.agents)-1 {
			m.timed(envs...)
			envs = nil
		}
	}
	m.now += hour
}

// found makes a market in which so many owners hold one cpu each.
func (m *marketBench) found(holders int) {
	for i := range m.fed.Document.Regions {
		rules := m.fed.Document.Regions[i].Market
		rules.Supply, rules.Capacity[0] = int64(holders)*500*credit, int64(holders)
	}
	m.open()
	m.apply(fsm.EncodeGenesis(m.now, m.fed.Document.Canonical()))
	operator := m.fed.Operator("a", m.now)
	var envs []*pci.Envelope
	for i := range holders {
		a := m.fed.Agent(fmt.Sprintf("agent-%d", i), m.now)
		m.agents = append(m.agents, a)
		envs = append(envs, operator.Register("a", a),
			operator.Sign("market.pay", map[string]any{"region": "a", "to": "owner-of-" + a.AgentID, "amount_micro": 400 * credit}, ""),
			a.Sign("market.issue", map[string]any{"region": "a", "resource": "cpu", "quantity": 1, "price_micro": credit * int64(5+i%10)}, ""))
		if len(envs) >= benchBatch || i == holders-1 {
			m.timed(envs...)
			envs = nil
		}
	}
}
