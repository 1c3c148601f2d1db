package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/ntu"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/pci"
)

func refuse(code pci.Code, reason string) error { return &pci.Reject{Code: code, Detail: reason} }

// moveSession opens a session or takes a step in one: the gates ROLE and STATE of sessions, NTU, FATE,
// INVARIANT and BUDGET.
func (m *Machine) moveSession(j *judgement) error {
	st := &j.act.step
	var rec sessionRecord
	found, err := load(m.enc, m.scratch, stateKeyOf(stateSession, st.Session), &rec)
	if err != nil {
		return err
	}
	if st.Type == session.Genesis {
		return m.openSession(j, found)
	}
	s := &rec.Session
	if !found {
		return refuse(pci.RejectStateMismatch, session.ReasonSessionUnknown)
	}
	if err := s.MayMove(st.Agent); err != nil {
		return err
	}
	if err := s.CheckHead(st); err != nil {
		return err
	}
	transition := j.act.name == ActionSessionTransition
	var unit ntu.Unit
	if transition {
		if unit, err = m.observe(j, &rec); err != nil {
			return err
		}
	}
	tip, _ := s.Tip(st.StateHash) // CheckHead has found it
	if err := m.judgeFate(j, s, tip); err != nil {
		return err
	}
	next, node, err := m.step(s, st)
	if err != nil {
		return err
	}
	if err := m.spend(j, &rec, &unit); err != nil {
		return err
	}
	if err := m.license(j); err != nil {
		return err
	}
	rec.Session = *next
	rec.setBudgets(next.Last.Hash, j.out.Budget)
	if transition {
		rec.SNRSum += j.env.Metadata.SNRScore
		rec.SNRCount++
		if st.To == session.Failed {
			rec.Failed++
		}
		j.out.NTU = st.NTU
		if rec.Unit, err = unit.AppendBinary(rec.Unit[:0]); err != nil {
			return fmt.Errorf("keep the unit of session %q: %w", s.ID, err)
		}
	}
	return m.putSession(j, &rec, node)
}

func (m *Machine) step(s *session.Session, st *session.Step) (*session.Session, *session.Node, error) {
	defer m.layer(LayerSession)()
	return s.Apply(st, nodes{m.scratch})
}

func (m *Machine) openSession(j *judgement, exists bool) error {
	if j.env.Payload.StateHash != "" {
		return refuse(pci.RejectStateMismatch, session.ReasonOpenNeedsEmpty)
	}
	if exists {
		return refuse(pci.RejectStateMismatch, session.ReasonSessionExists)
	}
	if err := m.judgeFate(j, nil, session.Tip{}); err != nil {
		return err
	}
	opened, node := session.Open(j.act.step)
	return m.putSession(j, &sessionRecord{Session: *opened}, node)
}

// putSession writes down a session after a step, and the node that the step made.
func (m *Machine) putSession(j *judgement, rec *sessionRecord, node *session.Node) error {
	last := rec.Session.Last
	m.putNode(node, &rec.Session)
	j.out.Head, j.out.State = last.Hash.String(), last.State.String()
	return save(m.enc, m.scratch, stateKeyOf(stateSession, rec.Session.ID), rec)
}

func (m *Machine) putNode(n *session.Node, s *session.Session) {
	h := s.Last.Hash
	record := binary.BigEndian.AppendUint64(make([]byte, 0, 512), uint64(m.log.Size())) //nolint:gosec // a size is never negative
	m.scratch.Set(nodeKey(h), n.AppendCanonical(record))
	m.scratch.Set(historyKey(s.ID, s.Nodes-1), h[:])
}

func historyKey(id string, number uint64) []byte {
	b := append([]byte{keyHistory}, id...)
	return binary.BigEndian.AppendUint64(append(b, 0), number)
}

// keyFree refuses a public key that belongs to somebody.
func (m *Machine) keyFree(g store.Getter, key [32]byte) error {
	if _, taken := m.docKeys[key]; taken {
		return refuse(pci.RejectInvariantFailed, reasonKeyTaken)
	}
	taken, err := has(g, stateKeyOf(stateKey, string(key[:])))
	if err == nil && !taken {
		taken, err = has(g, stateKeyOf(stateSpent, string(key[:]))) // a voter's once
	}
	if err != nil {
		return err
	}
	var vs voters
	if _, err := load(m.enc, g, stateKeyOf(stateVoters, ""), &vs); err != nil {
		return err
	}
	if _, err := vs.find(key); taken || err == nil {
		return refuse(pci.RejectInvariantFailed, reasonKeyTaken)
	}
	return nil
}

func has(g store.Getter, key []byte) (bool, error) {
	_, err := g.Get(key)
	if err == nil {
		return true, nil
	}
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return false, err
}

func (m *Machine) registerAgent(a Agent, t int64) error {
	var was Agent
	found, err := load(m.enc, m.scratch, stateKeyOf(stateAgent, a.ID), &was)
	if err != nil {
		return err
	}
	if found && was.RevokedMillis == 0 {
		return refuse(pci.RejectInvariantFailed, reasonAgentExists)
	}
	if found && was.Owner != a.Owner {
		return refuse(pci.RejectInvariantFailed, reasonOwnerDiffers)
	}
	if err := m.keyFree(m.scratch, a.PublicKey); err != nil {
		return err
	}
	return m.putAgent(a, t)
}

func (m *Machine) putAgent(a Agent, t int64) error {
	a.RegisteredMillis = t
	m.scratch.Set(stateKeyOf(stateKey, string(a.PublicKey[:])), []byte(a.ID))
	return save(m.enc, m.scratch, stateKeyOf(stateAgent, a.ID), &a)
}

func (m *Machine) revokeAgent(id string, t int64) error {
	var a Agent
	key := stateKeyOf(stateAgent, id)
	found, err := load(m.enc, m.scratch, key, &a)
	if err != nil {
		return err
	}
	if !found {
		return refuse(pci.RejectInvariantFailed, reasonAgentUnknown)
	}
	if a.RevokedMillis != 0 {
		return refuse(pci.RejectInvariantFailed, reasonAgentRevoked)
	}
	a.RevokedMillis = t
	return save(m.enc, m.scratch, key, &a)
}

// changeVoters changes what the region's voters should be. Raft's configuration
// follows, by the leader's hand. An ID that was a voter once is spent: its disk may
// have been lost since, and with it its votes.
func (m *Machine) changeVoters(c *voterChange) error {
	var vs voters
	if _, err := load(m.enc, m.scratch, stateKeyOf(stateVoters, ""), &vs); err != nil {
		return err
	}
	var err error
	switch c.op {
	case VoterTransfer:
		_, err = vs.find(c.voter.NodeKey)
		return err
	case VoterAdd:
		err = m.addVoter(&vs, c.voter)
	case VoterReplace:
		if err = m.removeVoter(&vs, c.replaces); err == nil {
			err = m.addVoter(&vs, c.voter)
		}
	default:
		if len(vs.Active) == 1 {
			return refuse(pci.RejectInvariantFailed, reasonLastVoter)
		}
		err = m.removeVoter(&vs, c.voter.NodeKey)
	}
	if err != nil {
		return err
	}
	return save(m.enc, m.scratch, stateKeyOf(stateVoters, ""), &vs)
}

func (m *Machine) addVoter(vs *voters, v Voter) error {
	if _, err := vs.find(v.NodeKey); err == nil {
		return refuse(pci.RejectInvariantFailed, reasonVoterExists)
	}
	spent, err := has(m.scratch, stateKeyOf(stateSpent, string(v.NodeKey[:])))
	if err != nil {
		return err
	}
	if spent {
		return refuse(pci.RejectInvariantFailed, reasonVoterIDSpent)
	}
	if len(vs.Active) >= votersMax {
		return refuse(pci.RejectInvariantFailed, reasonVotersFull)
	}
	if err := m.keyFree(m.scratch, v.NodeKey); err != nil {
		return err
	}
	v.Index = m.log.Size()
	vs.Active = append(vs.Active, v)
	return nil
}

func (m *Machine) removeVoter(vs *voters, node federation.Key) error {
	i, err := vs.find(node)
	if err != nil {
		return err
	}
	vs.Active = slices.Delete(vs.Active, i, i+1)
	return save(m.enc, m.scratch, stateKeyOf(stateSpent, string(node[:])), m.log.Size())
}

// find gives the place of a voter that is in force.
func (vs *voters) find(node [32]byte) (int, error) {
	i := slices.IndexFunc(vs.Active, func(v Voter) bool { return v.NodeKey == node })
	if i < 0 {
		return 0, refuse(pci.RejectInvariantFailed, reasonVoterUnknown)
	}
	return i, nil
}
