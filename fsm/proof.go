package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/pci"
)

const minuteMillis = 60_000

// proof puts one proof through the gates. An error is a fault of this replica; a
// refusal is a receipt.
func (m *Machine) proof(env *pci.Envelope, stamp int64, res *Result) (Receipt, error) {
	rec := Receipt{Digest: env.Digest(), EnvelopeID: env.EnvelopeID, Region: m.cfg.Region, Action: clip(env.Payload.Action), AgentID: env.Sender.AgentID}
	if m.doc == nil {
		rec.Code, rec.Reason = pci.RejectInternalError, "the region is not founded yet"
		return rec, nil
	}
	first, found, err := receiptOf(m.txn, rec.Digest)
	if err != nil || found {
		first.Repeated = true
		return first, err
	}
	t := max(m.head.TimeMillis, stamp)
	act, who, err := m.admit(env, t)
	var rej *pci.Reject
	if errors.As(err, &rej) {
		rec.Code, rec.Reason = rej.Code, rej.Detail
		return rec, nil
	}
	if err != nil {
		return rec, err
	}
	out := Outcome{Session: act.step.Session}
	err = m.judge(env, act, who, t, &out)
	switch {
	case errors.As(err, &rej):
		m.scratch.Reset()
		out.Code, out.Reason = rej.Code, rej.Detail
		limited, err := m.countRefusal(env.Sender.PublicKey, rej.Code, t)
		if err != nil {
			return rec, err
		}
		if limited {
			rec.Code, rec.Reason = pci.RejectRateLimited, "too many refused proofs of this agent in this minute"
			return rec, nil
		}
	case err != nil:
		return rec, err
	default:
		m.scratch.Merge()
		m.note(act, res)
	}
	return m.append(&Entry{Kind: EntryProof, Region: m.cfg.Region, Index: m.log.Size(), TimeMillis: t, Envelope: env, Outcome: out})
}

// clip bounds what a receipt repeats of an action that no state version knows.
func clip(action string) string { return action[:min(len(action), actionShownMax)] }

const actionShownMax = 64

func (m *Machine) note(act *action, res *Result) {
	if act.name != ActionRegionVoter {
		return
	}
	if act.voter.op == VoterTransfer {
		key := act.voter.voter.NodeKey
		res.Transfer = &key
		return
	}
	res.VotersChanged = true
}

// receiptOf finds the first receipt of an envelope that has become an entry.
func receiptOf(g store.Getter, digest [32]byte) (Receipt, bool, error) {
	index, err := ledger.IndexByDigest(g, digest)
	if errors.Is(err, store.ErrNotFound) {
		return Receipt{}, false, nil
	}
	if err != nil {
		return Receipt{}, false, err
	}
	data, err := ledger.ReadEntry(g, index)
	if err != nil {
		return Receipt{}, false, err
	}
	e, err := ParseEntry(data)
	if err != nil {
		return Receipt{}, false, err
	}
	return e.receipt(), true, nil
}

// sender is who signed a proof, as the state knows it.
type sender struct {
	operator bool
	agent    Agent
	newcomer bool // unknown, and let in because registration is open
}

// admit runs the gates whose refusals make no entry: form of the data, agent
// known, TIMESTAMP, REPLAY.
func (m *Machine) admit(env *pci.Envelope, t int64) (*action, sender, error) {
	act, err := readAction(env, m.cfg.Region)
	if err != nil {
		return nil, sender{}, err
	}
	who, err := m.sender(env)
	if err != nil {
		return nil, who, err
	}
	if err := env.CheckTime(t, m.limits); err != nil {
		return nil, who, err
	}
	b, err := m.txn.Get(nonceKey(env.Nonce))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, who, fmt.Errorf("look up a nonce: %w", err)
	}
	if err == nil && t-int64(binary.BigEndian.Uint64(b[8:])) < m.law.Thresholds.NonceWindowMillis { //nolint:gosec // written from an int64
		return nil, who, refusef(pci.RejectNonceReplay, "another proof used this nonce less than %d s of log time ago; sign again with a new one", m.law.Thresholds.NonceWindowMillis/1000)
	}
	return act, who, nil
}

func (m *Machine) sender(env *pci.Envelope) (sender, error) {
	key := env.Sender.PublicKey
	if m.region.IsOperator(key) {
		return sender{operator: true}, nil
	}
	var a Agent
	found, err := load(m.enc, m.txn, stateKeyOf(stateAgent, env.Sender.AgentID), &a)
	if err != nil {
		return sender{}, err
	}
	if !found && m.law.Limits.OpenRegistration {
		var taken *pci.Reject
		if err := m.keyFree(m.txn, key); err != nil && !errors.As(err, &taken) {
			return sender{}, err
		} else if err != nil {
			return sender{}, refusef(pci.RejectRoleViolation, "the public key belongs to another agent, an operator, a node or a region")
		}
		a = Agent{ID: env.Sender.AgentID, PublicKey: key, Type: env.Sender.AgentType, Owner: env.Sender.AgentID}
		return sender{agent: a, newcomer: true}, nil
	}
	switch {
	case !found:
		return sender{}, refusef(pci.RejectRoleViolation, "agent %.80q is not registered in region %q; an operator registers it with `bizra agent register`", env.Sender.AgentID, m.cfg.Region)
	case a.PublicKey != key:
		return sender{}, refusef(pci.RejectRoleViolation, "agent %.80q is registered in region %q with another public key", env.Sender.AgentID, m.cfg.Region)
	case a.RevokedMillis != 0:
		return sender{}, refusef(pci.RejectRoleViolation, "agent %.80q is revoked in region %q", env.Sender.AgentID, m.cfg.Region)
	}
	return sender{agent: a}, nil
}

// judge runs the gates whose refusals are entries, and the action itself, on the
// scratch copy. Rejects carry a reason token.
func (m *Machine) judge(env *pci.Envelope, act *action, who sender, t int64, out *Outcome) error {
	if err := env.CheckScores(m.limits); err != nil {
		reason := reasonIhsan
		if pci.CodeOf(err) == pci.RejectSNRBelowMin {
			reason = reasonSNR
		}
		return &pci.Reject{Code: pci.CodeOf(err), Detail: reason}
	}
	if err := env.CheckPolicy(m.limits); err != nil {
		return &pci.Reject{Code: pci.CodeOf(err), Detail: reasonPolicy}
	}
	switch {
	case act.operator && !who.operator:
		return &pci.Reject{Code: pci.RejectRoleViolation, Detail: reasonOperatorsOnly}
	case !act.operator && who.operator:
		return &pci.Reject{Code: pci.RejectRoleViolation, Detail: reasonAgentsOnly}
	case !who.operator && who.agent.Type != env.Sender.AgentType:
		return &pci.Reject{Code: pci.RejectRoleViolation, Detail: reasonAgentType}
	}
	if who.newcomer {
		if err := m.putAgent(who.agent, t); err != nil {
			return err
		}
	}
	switch act.name {
	case ActionAgentRegister:
		return m.registerAgent(act.register, t)
	case ActionAgentRevoke:
		return m.revokeAgent(act.revoke, t)
	case ActionRegionVoter:
		return m.changeVoters(&act.voter)
	default:
		act.step.TimeMillis = t
		act.step.Data = session.Hash(pci.DigestOf(env.Payload.Data))
		return m.moveSession(&act.step, env.Payload.StateHash, out)
	}
}

// countRefusal counts a refusal that would become an entry; limited says that the
// agent has had its share of this minute and the proof makes no entry.
func (m *Machine) countRefusal(key [32]byte, code pci.Code, t int64) (limited bool, err error) {
	var l limit
	at := stateKeyOf(stateLimit, string(key[:]))
	if _, err := load(m.enc, m.txn, at, &l); err != nil {
		return false, err
	}
	if minute := t / minuteMillis; l.Minute != minute {
		l = limit{Minute: minute}
	}
	count, most := &l.Refusals, m.law.Limits.RefusalsPerMinute
	if code == pci.RejectStateMismatch {
		count, most = &l.Mismatches, m.law.Limits.StateMismatchesPerMinute
	}
	if *count >= most {
		return true, nil
	}
	*count++
	return false, save(m.enc, m.txn, at, &l)
}

// append makes the entry a leaf, remembers its nonce and moves log time.
func (m *Machine) append(e *Entry) (Receipt, error) {
	m.written = e.AppendCanonical(make([]byte, 0, 2<<10))
	if _, err := m.log.Append(m.txn, e.leaf(m.written)); err != nil {
		return Receipt{}, fmt.Errorf("append entry %d: %w", e.Index, err)
	}
	m.head.TimeMillis = e.TimeMillis
	if e.Envelope != nil {
		if err := m.remember(e.Envelope.Nonce); err != nil {
			return Receipt{}, err
		}
	}
	if err := save(m.enc, m.txn, stateKeyOf(stateHead, ""), &m.head); err != nil {
		return Receipt{}, err
	}
	if e.Envelope == nil {
		return Receipt{}, nil
	}
	return e.receipt(), nil
}
