package fsm

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/bizra/bizra/fsm/ntu"
	"github.com/bizra/bizra/fsm/session"
)

// What the layers know, for readers.

// SessionLayers is what the layers keep of a session.
type SessionLayers struct {
	NTU     *ntu.State // nil before its first transition
	Failed  int64      // steps to failed
	Budgets map[session.Hash]Budget
}

// SessionLayers finds what the layers keep of a session, or [ErrNotFound].
func (v *View) SessionLayers(id string) (*SessionLayers, error) {
	r, err := v.sessionRecord(id)
	if err != nil {
		return nil, err
	}
	l := &SessionLayers{Failed: r.Failed, Budgets: map[session.Hash]Budget{}}
	for _, b := range r.Budgets {
		l.Budgets[b.Tip] = *r.budgetOf(b.Tip)
	}
	if len(r.Unit) > 0 {
		u, err := r.unit()
		if err != nil {
			return nil, fmt.Errorf("read the unit of session %q: %w", id, err)
		}
		state := u.State()
		l.NTU = &state
	}
	return l, nil
}

// Conduct is how an agent has done, as of the log time of the last entry.
type Conduct struct {
	Standing
	Accepted    int64     // entries, whatever the action
	Refused     int64     // entries
	Failed      int64     // steps to failed
	NTU         ntu.State // of the unit over its outcomes
	Observed    int       // outcomes in that unit's window
	SinceMillis int64     // log time of the breaker's last decision; 0 if there was none
}

// Conduct finds how an agent has done, or [ErrNotFound]; one that did nothing yet has a clean record.
func (v *View) Conduct(id string) (*Conduct, error) {
	if _, err := v.Agent(id); err != nil {
		return nil, err
	}
	law := v.law()
	if law == nil {
		return nil, fmt.Errorf("constitution: %w", ErrNotFound)
	}
	c, err := loadConduct(v.enc, v.snap, id)
	if err != nil {
		return nil, err
	}
	return &Conduct{Standing: *c.standing(v.head.TimeMillis, law), Accepted: c.Accepted, Refused: c.Refused, Failed: c.Failed,
		NTU: c.unit.State(), Observed: c.unit.Count(), SinceMillis: c.SinceMillis}, nil
}

// Limited is an agent whose breaker is not clear.
type Limited struct {
	Agent   Agent
	Breaker BreakerState
}

// Limited lists agents whose breakers are not clear, sorted by id, at most countMax.
func (v *View) Limited(countMax int) ([]Limited, error) {
	var all []Limited
	prefix := stateKeyOf(stateLimited, "")
	it, err := v.snap.Iter(prefix, append(bytes.Clone(prefix[:len(prefix)-1]), prefix[len(prefix)-1]+1))
	if err != nil {
		return nil, fmt.Errorf("list limited agents: %w", err)
	}
	for ok := it.First(); ok && len(all) < countMax; ok = it.Next() {
		var l Limited
		if err = v.enc.dec.Unmarshal(it.Value(), &l.Breaker); err != nil {
			break
		}
		a, err1 := v.Agent(string(it.Key()[len(prefix):]))
		if err = err1; err != nil {
			break
		}
		l.Agent = *a
		all = append(all, l)
	}
	return all, errors.Join(err, it.Err(), it.Close())
}
