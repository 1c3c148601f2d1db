package sim

import "github.com/bizra/bizra/fsm"

// conservation: the credits of a region's market, wherever they are, are as many as its document says.
type conservation struct {
	promise
	look func(*fsm.View) (held, error)
}

func (c *conservation) audit() error {
	return c.auditor.eachMarket(func(n *Node, region string, v *fsm.View) error {
		s, err := v.Market()
		if err != nil {
			return err
		}
		h, err := c.look(v)
		if err != nil {
			return err
		}
		c.checks.Add(1)
		if sum := h.balances + s.Head.Treasury + s.Head.Pot; sum != s.Rules.Supply || s.Head.Supply != s.Rules.Supply {
			c.breaks("%s has %d micro-credits in the market of %s, where there are %d", n.Name(), sum, region, s.Rules.Supply)
		}
		return nil
	})
}
