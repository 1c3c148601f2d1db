package sim

import (
	"fmt"
	"testing"
	"time"

	"github.com/bizra/bizra/fsm/market"
	"github.com/bizra/bizra/pci"
)

// TestMarketsOfAFederation has owners trade in every region over some hours of log time, and the other regions
// execute it again. The clocks are set ahead instead of waiting, which the nodes cannot tell.
func TestMarketsOfAFederation(t *testing.T) {
	const hours, credit = 3, market.Credit
	bubble(t, func(c *Config) { c.Voters, c.Change, c.Seed = 1, Markets, 11 }, func(t *testing.T, w *World) {
		ahead := time.Duration(0)
		nonces := 0
		fresh := func(d *pci.Draft) {
			nonces++
			copy(d.Nonce[:], fmt.Sprintf("market %d %d", w.cfg.Seed, nonces))
		}
		for hour := range hours {
			for _, region := range w.names {
				agent, operator := w.agent(region), w.Fed.Operator(region, 0)
				now := time.Now().Add(ahead).UnixMilli()
				agent.NowMillis, operator.NowMillis = now, now
				in := func(action string, data map[string]any) {
					t.Helper()
					signer := agent
					if action == "market.pay" {
						signer = operator
					}
					data["region"] = region
					if err := w.hand(t.Context(), region, signer.Sign(action, data, "", fresh)); err != nil {
						t.Fatal(err)
					}
				}
				in("market.pay", map[string]any{"to": "owner-of-" + agent.AgentID, "amount_micro": 100 * credit})
				in("market.issue", map[string]any{"resource": "gpu", "quantity": 2, "price_micro": 5 * credit})
				in("market.reassess", map[string]any{"licence": hour, "price_micro": 4 * credit})
			}
			ahead += time.Hour
			for _, n := range w.All() {
				n.trouble.skew.Store(int64(ahead))
			}
		}
		for _, region := range w.names {
			agent := w.agent(region)
			agent.NowMillis = time.Now().Add(ahead).UnixMilli()
			if err := w.hand(t.Context(), region, agent.Sign("session.open", map[string]any{"region": region, "session": "s"}, "", fresh)); err != nil {
				t.Fatal(err)
			}
			w.attested(t, 20*time.Second, region, 1+hours*4+1)
		}
		if err := w.Auditor.Audit(); err != nil {
			t.Fatal(err)
		}
		// Each region's epochs at its voter and at the copies of three others.
		if n := w.Auditor.equality.Checks(); n < hours*4*4 {
			t.Errorf("%d epochs were checked", n)
		}
		if n := w.Auditor.conservation.Checks(); n < 4*4 {
			t.Errorf("credits were counted %d times", n)
		}
	})
}
