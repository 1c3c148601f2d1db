package fsm

import (
	"fmt"

	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/exact"
	"github.com/bizra/bizra/fsm/ntu"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/pci"
)

// What a sender claims of itself no gate can prove, so the machine keeps how its proofs
// came out: its measured SNR, and a unit over its outcomes.

const (
	measuredFactor = 0.95 // of the exponential mean over outcomes, and of what is left of a deficit each minute
	agentWindow    = 12   // outcomes that an agent's unit looks back on

	// recoveryMinutesMax is after how many minutes nothing measurable is left of a deficit (0.95^1000 < 1e-22).
	recoveryMinutesMax = 1000
	// claimTolerance forgives the rounding of 0.85 + 0.10.
	claimTolerance = 1e-9
)

// conduct is what the state keeps of how an agent has done. It goes by agent_id: a new
// key does not make a new beginning.
type conduct struct {
	_           struct{} `cbor:",toarray"`
	Accepted    int64    // entries, whatever the action
	Refused     int64
	Failed      int64 // accepted steps to failed
	Outcomes    int64 // that were measured
	Measured    float64
	Minute      int64  // of log time, up to which Measured has recovered
	Unit        []byte // over the outcomes
	Breaker     BreakerState
	SinceMillis int64 // log time of the breaker's last decision
	UntilMillis int64 // of a mute
	Mutes       int64 // in a row
	Fresh       int64 // outcomes since the last decision
	Bad         int64 // those of them that were failures
	Quota       int64 // entries in QuotaMinute
	QuotaMinute int64

	unit ntu.Unit // what Unit encodes
}

// loadConduct reads an agent's conduct, or that of one that did nothing yet.
func loadConduct(e encoding, g store.Getter, id string) (*conduct, error) {
	c := &conduct{Measured: 1}
	found, err := load(e, g, stateKeyOf(stateConduct, id), c)
	if err == nil && found {
		err = c.unit.UnmarshalBinary(c.Unit)
	} else if err == nil {
		c.unit, err = ntu.New(ntu.Config{Window: agentWindow})
	}
	if err != nil {
		return nil, fmt.Errorf("read the conduct of agent %q: %w", id, err)
	}
	return c, nil
}

func (m *Machine) saveConduct(id string, c *conduct) (err error) {
	if c.Unit, err = c.unit.AppendBinary(c.Unit[:0]); err != nil {
		return fmt.Errorf("keep the conduct of agent %q: %w", id, err)
	}
	return save(m.enc, m.txn, stateKeyOf(stateConduct, id), c)
}

// measuredAt is the measured SNR at a log time: each minute takes it 5 % of the way back to 1.
func (c *conduct) measuredAt(t int64) float64 {
	deficit := 1 - c.Measured
	if deficit == 0 {
		return 1
	}
	for range min(t/minuteMillis-c.Minute, recoveryMinutesMax) {
		deficit = exact.Mul(measuredFactor, deficit)
	}
	return 1 - deficit
}

// claimMax is the highest snr_score that the agent may claim at a log time.
func (c *conduct) claimMax(t int64, margin float64, after int64) float64 {
	if c.Outcomes < after {
		return 1
	}
	return min(1, c.measuredAt(t)+margin)
}

// enoughMillis is the log time from which on a claim would do, if nothing else happens.
func (c *conduct) enoughMillis(t int64, claim, margin float64) int64 {
	deficit := 1 - c.measuredAt(t)
	minute := t / minuteMillis
	for range recoveryMinutesMax {
		if claim <= 1-deficit+margin+claimTolerance {
			break
		}
		deficit = exact.Mul(measuredFactor, deficit)
		minute++
	}
	return minute * minuteMillis
}

// reputation is the belief of the unit over the agent's outcomes, which falls at once where
// they turn, times the measured SNR, which remembers longer. A unit alone would also
// believe in an agent that fails steadily.
func (c *conduct) reputation(t int64) float64 {
	return exact.Mul(c.unit.State().Belief, c.measuredAt(t))
}

// take counts one entry of the agent. measured says that it is an outcome, value 1 for
// a step taken and 0 for a failure.
func (c *conduct) take(t int64, code pci.Code, measured bool, value float64) error {
	if minute := t / minuteMillis; c.QuotaMinute != minute {
		c.QuotaMinute, c.Quota = minute, 0
	}
	c.Quota++
	if code == pci.Success {
		c.Accepted++
	} else {
		c.Refused++
	}
	if !measured {
		return nil
	}
	if _, err := c.unit.Observe(value); err != nil {
		return fmt.Errorf("observe an outcome: %w", err)
	}
	c.Measured = exact.Mul(measuredFactor, c.measuredAt(t)) + exact.Mul(1-measuredFactor, value)
	c.Minute = t / minuteMillis
	c.Outcomes++
	c.Fresh++
	if value == 0 {
		c.Bad++
		if code == pci.Success {
			c.Failed++
		}
	}
	return nil
}

// standing shows the conduct as of a log time, under a constitution.
func (c *conduct) standing(t int64, law *constitution.Constitution) *Standing {
	s := &Standing{Outcomes: c.Outcomes, Measured: c.measuredAt(t), Reputation: c.reputation(t), Breaker: c.Breaker,
		ClaimMax: c.claimMax(t, law.Thresholds.MeasuredSNRMargin, law.Thresholds.MeasuredAfter)}
	if c.Breaker == Muted {
		s.UntilMillis = c.UntilMillis
	}
	return s
}
