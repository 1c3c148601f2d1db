package fsm

import (
	"fmt"
	"strconv"

	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/pci"
)

// The circuit breaker of an agent. Whether a decision is due follows from the agent's
// conduct, the constitution and a log time alone, and is asked lazily: before the next proof of the
// agent that would get as far as the scores. Each decision is an entry of its own, which whoever
// re-executes the ledger checks by asking the same.

// BreakerState is what an agent may do.
type BreakerState uint8

// The states of a breaker.
const (
	Clear     BreakerState = iota // as the gates allow
	Throttled                     // so many entries a minute
	Muted                         // nothing, for a time
	Probation                     // throttled after a mute, and muted again sooner
	breakerStates
)

func (b BreakerState) String() string {
	switch b {
	case Clear:
		return "clear"
	case Throttled:
		return "throttled"
	case Muted:
		return "muted"
	case Probation:
		return "probation"
	default:
		return fmt.Sprintf("breaker(%d)", uint8(b))
	}
}

// MarshalText writes the state's name.
func (b BreakerState) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads a state's name.
func (b *BreakerState) UnmarshalText(name []byte) error {
	for s := range breakerStates {
		if s.String() == string(name) {
			*b = s
			return nil
		}
	}
	return fmt.Errorf("no state of a breaker is called %.40q", name)
}

func readBreakerState(o *pci.Object, name string) BreakerState {
	var b BreakerState
	if err := b.UnmarshalText([]byte(o.Text(name, 16))); err != nil {
		o.Fault("outcome: %v", err)
	}
	return b
}

// Decision is one step of an agent's breaker, and the numbers that led to it.
type Decision struct {
	AgentID     string
	From, To    BreakerState
	Outcomes    int64   // of the agent so far
	Fresh       int64   // of them since the decision before
	Bad         int64   // of these, failures
	Belief      float64 // of the agent's unit
	Measured    float64 // SNR
	Reputation  float64 // their product
	UntilMillis int64   // log time at which a mute ends; 0 for other decisions
}

// due says which decision is due at a log time, if any.
func (c *conduct) due(t int64, b *constitution.Breaker) (to BreakerState, due bool) {
	reputation := c.reputation(t)
	switch c.Breaker {
	case Clear:
		return Throttled, c.Outcomes >= b.After && reputation < b.ThrottleBelow
	case Throttled:
		if reputation >= b.RestoreAbove {
			return Clear, true
		}
		return Muted, c.Fresh >= b.MuteAfter && reputation < b.MuteBelow
	case Muted:
		return Probation, t >= c.UntilMillis
	default:
		if c.Bad >= b.ProbationFailures {
			return Muted, true
		}
		return Clear, c.Fresh > 0 && reputation >= b.RestoreAbove
	}
}

// decide takes the step of the breaker that is due at a log time; nil if none is. The
// next decision needs an outcome or time, so that asking again ends.
func (c *conduct) decide(agentID string, t int64, b *constitution.Breaker) *Decision {
	to, due := c.due(t, b)
	if !due {
		return nil
	}
	d := &Decision{AgentID: agentID, From: c.Breaker, To: to, Outcomes: c.Outcomes, Fresh: c.Fresh, Bad: c.Bad,
		Belief: c.unit.State().Belief, Measured: c.measuredAt(t), Reputation: c.reputation(t)}
	if to == Muted {
		if t-c.UntilMillis >= b.MuteMillisMax {
			c.Mutes = 0 // the last one lies so far back that it no longer counts
		}
		c.UntilMillis = t + muteMillis(c.Mutes, b)
		c.Mutes++
		d.UntilMillis = c.UntilMillis
	}
	c.Breaker, c.SinceMillis, c.Fresh, c.Bad = to, t, 0, 0
	return d
}

// muteMillis is how long a mute lasts after so many in a row.
func muteMillis(mutes int64, b *constitution.Breaker) int64 {
	long := b.MuteMillis
	for range mutes {
		if long >= b.MuteMillisMax {
			break
		}
		long *= 2
	}
	return min(long, b.MuteMillisMax)
}

// limited says until when the breaker lets nothing of the agent pass; 0 if it does now.
func (c *conduct) limited(t int64, b *constitution.Breaker) (untilMillis int64) {
	minute := t / minuteMillis
	switch {
	case c.Breaker == Muted:
		return c.UntilMillis
	case c.Breaker != Clear && c.QuotaMinute == minute && c.Quota >= b.ThrottledPerMinute:
		return (minute + 1) * minuteMillis
	default:
		return 0
	}
}

// runBreaker takes the decisions about a proof's agent that are due, an entry each, and then refuses
// the proof where the breaker lets nothing pass.
func (m *Machine) runBreaker(j *judgement, res *Result) error {
	if j.conduct == nil {
		return nil
	}
	id := j.who.agent.ID
	for d := j.conduct.decide(id, j.t, &m.law.Breaker); d != nil; d = j.conduct.decide(id, j.t, &m.law.Breaker) {
		if err := m.appendDecision(d, j.conduct, j.t); err != nil {
			return err
		}
		res.BreakersMoved = true
	}
	until := j.conduct.limited(j.t, &m.law.Breaker)
	if until == 0 {
		return nil
	}
	j.limited = j.conduct.standing(j.t, m.law)
	j.limited.UntilMillis = until
	return &pci.Reject{Code: pci.RejectRateLimited, Detail: reasonBreaker}
}

func (m *Machine) appendDecision(d *Decision, c *conduct, t int64) error {
	if err := m.saveConduct(d.AgentID, c); err != nil {
		return err
	}
	at := stateKeyOf(stateLimited, d.AgentID)
	if d.To == Clear {
		m.txn.Delete(at)
	} else if err := save(m.enc, m.txn, at, d.To); err != nil {
		return err
	}
	_, err := m.append(&Entry{Kind: EntryBreaker, Region: m.cfg.Region, Index: m.log.Size(), TimeMillis: t, Outcome: Outcome{Breaker: d}})
	return err
}

// rebreak re-executes a decision: it must be the one that is due for that agent at that time.
func (m *Machine) rebreak(e *Entry) error {
	id := e.Outcome.Breaker.AgentID
	if m.law == nil {
		return fmt.Errorf("%w: a decision before the genesis", ErrDiverged)
	}
	if known, err := has(m.txn, stateKeyOf(stateConduct, id)); err != nil || !known {
		return errorOr(err, fmt.Errorf("%w: agent %.80q has no conduct to decide about", ErrDiverged, id))
	}
	c, err := loadConduct(m.enc, m.txn, id)
	if err != nil {
		return err
	}
	d := c.decide(id, e.TimeMillis, &m.law.Breaker)
	if d == nil {
		return fmt.Errorf("%w: no decision about agent %.80q is due at log time %d", ErrDiverged, id, e.TimeMillis)
	}
	return m.appendDecision(d, c, e.TimeMillis)
}

func errorOr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

func (d *Decision) appendCanonical(b []byte) []byte {
	b = pci.AppendString(append(b, `{"agent_id":`...), d.AgentID)
	b = strconv.AppendInt(append(b, `,"bad":`...), d.Bad, 10)
	b = pci.AppendFloat(append(b, `,"belief":`...), d.Belief)
	b = strconv.AppendInt(append(b, `,"fresh":`...), d.Fresh, 10)
	b = append(append(b, `,"from":"`...), d.From.String()...)
	b = pci.AppendFloat(append(b, `","measured_snr":`...), d.Measured)
	b = strconv.AppendInt(append(b, `,"outcomes":`...), d.Outcomes, 10)
	b = pci.AppendFloat(append(b, `,"reputation":`...), d.Reputation)
	b = append(append(b, `,"to":"`...), d.To.String()...)
	b = strconv.AppendInt(append(b, `","until":`...), d.UntilMillis, 10)
	return append(b, '}')
}

func readDecision(o *pci.Object) *Decision {
	return &Decision{AgentID: o.Text("agent_id", agentIDBytesMax), From: readBreakerState(o, "from"), To: readBreakerState(o, "to"),
		Outcomes: o.Int("outcomes"), Fresh: o.Int("fresh"), Bad: o.Int("bad"), Belief: o.Float("belief"),
		Measured: o.Float("measured_snr"), Reputation: o.Float("reputation"), UntilMillis: o.Int("until")}
}
