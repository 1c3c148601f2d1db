package fsm

import (
	"errors"
	"fmt"

	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/pci"
)

const minuteMillis = 60_000

// judgement is one proof on its way through the gates.
type judgement struct {
	env     *pci.Envelope
	act     *action
	who     sender
	t       int64     // log time
	unseen  bool      // neither digest nor nonce need be looked for
	conduct *conduct  // of the agent; nil for an operator
	limited *Standing // of an agent whose breaker lets nothing pass
	out     Outcome
}

// proof puts one proof through the gates. An error is a fault of this replica; a
// refusal is a receipt.
func (m *Machine) proof(env *pci.Envelope, stamp int64, res *Result) (Receipt, error) {
	rec := Receipt{Digest: env.Digest(), EnvelopeID: env.EnvelopeID, Region: m.cfg.Region, Action: clip(env.Payload.Action), AgentID: env.Sender.AgentID}
	if m.doc == nil {
		rec.Code, rec.Reason = pci.RejectInternalError, "the region is not founded yet"
		return rec, nil
	}
	j := &judgement{env: env, t: max(m.head.TimeMillis, stamp)}
	if j.unseen = m.unseen(env, j.t); !j.unseen {
		first, found, err := receiptOf(m.txn, rec.Digest, m.law)
		if err != nil || found {
			first.Repeated = true
			return first, err
		}
	}
	err := m.admit(j)
	if err == nil {
		err = m.runBreaker(j, res)
	}
	if err == nil {
		err = m.runEpoch(j.t)
	}
	var rej *pci.Reject
	if errors.As(err, &rej) {
		rec.Code, rec.Reason, rec.Agent = rej.Code, rej.Detail, j.limited
		return rec, nil
	}
	if err != nil {
		return rec, err
	}
	limited, err := m.decide(j, res)
	var bare withoutEntry
	if errors.As(err, &bare) {
		rec.Code, rec.Reason = bare.reject.Code, bare.reject.Detail
		return rec, nil
	}
	if err != nil {
		return rec, err
	}
	if limited {
		rec.Code, rec.Reason = pci.RejectRateLimited, "too many refused proofs of this agent in this minute"
		return rec, nil
	}
	return m.append(&Entry{Kind: EntryProof, Region: m.cfg.Region, Index: m.log.Size(), TimeMillis: j.t, Envelope: env, Outcome: j.out})
}

// decide fills in the outcome and takes up what follows from it; limited says that the proof is one
// refusal too many and makes no entry.
func (m *Machine) decide(j *judgement, res *Result) (limited bool, err error) {
	j.out = Outcome{Session: j.act.step.Session}
	err = m.judge(j)
	var rej *pci.Reject
	var bare withoutEntry
	switch {
	case errors.As(err, &bare):
		m.scratch.Reset()
		return false, err
	case errors.As(err, &rej):
		m.scratch.Reset()
		j.out.refused(rej)
		if limited, err := m.countRefusal(j.env.Sender.PublicKey, rej.Code, j.t); limited || err != nil {
			return limited, err
		}
	case err != nil:
		return false, err
	default:
		m.scratch.Merge()
		if err := m.putInForce(j.t); err != nil {
			return false, err
		}
		m.note(j.act, res)
	}
	return false, m.recordConduct(j)
}

// refused takes out of an outcome what did not happen.
func (o *Outcome) refused(rej *pci.Reject) {
	o.Code, o.Reason = rej.Code, rej.Detail
	o.Head, o.State, o.NTU = "", "", nil
	if o.Budget != nil && o.Budget.Over == nil {
		o.Budget = nil
	}
}

// recordConduct counts the outcome for its agent, and shows in it how the agent stands then.
func (m *Machine) recordConduct(j *judgement) error {
	if j.who.operator || j.who.newcomer && j.out.Code != pci.Success {
		return nil
	}
	defer m.layer(LayerConduct)()
	c := j.conduct
	measured, value := j.measured()
	if err := c.take(j.t, j.out.Code, measured, value); err != nil {
		return err
	}
	j.out.Agent = c.standing(j.t, m.law)
	if j.out.Reason == reasonSNRMeasured {
		j.out.Agent.EnoughMillis = c.enoughMillis(j.t, j.env.Metadata.SNRScore, m.law.Thresholds.MeasuredSNRMargin)
	}
	return m.saveConduct(j.who.agent.ID, c)
}

// measured says whether a proof is an outcome by which its agent is measured, and which: 1 for a transition
// taken, 0 for one to failed and for a refusal. Refusals that tell nothing of the work do not count;
// nor do the actions that FATE does not score, by which a record could be washed clean.
func (j *judgement) measured() (measured bool, value float64) {
	switch {
	case j.out.Code == pci.Success && j.act.name != ActionSessionTransition:
		return false, 0
	case j.out.Code == pci.Success && j.act.step.To != session.Failed:
		return true, 1
	case j.out.Code == pci.Success:
		return true, 0
	case j.out.Code == pci.RejectStateMismatch, j.out.Code == pci.RejectRoleViolation, j.out.Reason == reasonSNRMeasured:
		return false, 0
	default:
		return true, 0
	}
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
func receiptOf(g store.Getter, digest [32]byte, law *constitution.Constitution) (Receipt, bool, error) {
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
	r, err := e.receiptFor(law)
	if err == nil && r.Digest != digest {
		err = fmt.Errorf("%w: entry %d is found under the digest of a proof that it does not hold", ErrDiverged, index)
	}
	return r, err == nil, err
}

// sender is who signed a proof, as the state knows it.
type sender struct {
	operator bool
	agent    Agent
	newcomer bool // unknown, and let in because registration is open
}

// admit runs the gates whose refusals make no entry: form of the data, agent
// known, TIMESTAMP, REPLAY.
func (m *Machine) admit(j *judgement) (err error) {
	env, t := j.env, j.t
	if j.act, err = readAction(env, m.cfg.Region, m.region.Market != nil); err != nil {
		return err
	}
	if j.who, err = m.sender(env); err != nil {
		return err
	}
	if err := env.CheckTime(t, m.limits); err != nil {
		return err
	}
	if err := m.checkReplay(j); err != nil {
		return err
	}
	if j.who.operator {
		return nil
	}
	j.conduct, err = loadConduct(m.enc, m.txn, j.who.agent.ID)
	return err
}

// checkReplay is the gate REPLAY.
func (m *Machine) checkReplay(j *judgement) error {
	if j.unseen {
		return nil
	}
	_, last, found, err := m.remembered(j.env.Nonce)
	if err != nil {
		return err
	}
	window := m.law.Thresholds.NonceWindowMillis
	if found && j.t-last < window {
		return refusef(pci.RejectNonceReplay, "another proof used this nonce less than %d s of log time ago; sign again with a new one", window/1000)
	}
	return nil
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
func (m *Machine) judge(j *judgement) error {
	if err := m.checkClaims(j); err != nil {
		return err
	}
	env, act, who := j.env, j.act, &j.who
	switch {
	case act.operator && !who.operator:
		return &pci.Reject{Code: pci.RejectRoleViolation, Detail: reasonOperatorsOnly}
	case !act.operator && !act.anyone && who.operator:
		return &pci.Reject{Code: pci.RejectRoleViolation, Detail: reasonAgentsOnly}
	case !who.operator && who.agent.Type != env.Sender.AgentType:
		return &pci.Reject{Code: pci.RejectRoleViolation, Detail: reasonAgentType}
	}
	if who.newcomer {
		if err := m.putAgent(who.agent, j.t); err != nil {
			return err
		}
	}
	switch act.name {
	case ActionAgentRegister:
		return m.registerAgent(act.register, j.t)
	case ActionAgentRevoke:
		return m.revokeAgent(act.revoke, j.t)
	case ActionRegionVoter:
		return m.changeVoters(&act.voter)
	case ActionFederationAdopt:
		return m.adoptDocument(&act.adopt)
	case ActionMarketIssue, ActionMarketReassess, ActionMarketBuy, ActionMarketRelease, ActionMarketPay:
		return m.takeTrade(j)
	case ActionPatternElevate:
		return nil // that it is in the ledger is all there is to it
	default:
		act.step.TimeMillis = j.t
		act.step.Data = session.Hash(pci.DigestOf(env.Payload.Data))
		return m.moveSession(j)
	}
}

// checkClaims runs the gates IHSAN, SNR and POLICY.
func (m *Machine) checkClaims(j *judgement) error {
	defer m.layer(LayerClaims)()
	if err := j.env.CheckScores(m.limits); err != nil {
		reason := reasonIhsan
		if pci.CodeOf(err) == pci.RejectSNRBelowMin {
			reason = reasonSNR
		}
		return &pci.Reject{Code: pci.CodeOf(err), Detail: reason}
	}
	th := &m.law.Thresholds
	if j.conduct != nil && j.env.Metadata.SNRScore > j.conduct.claimMax(j.t, th.MeasuredSNRMargin, th.MeasuredAfter)+claimTolerance {
		return &pci.Reject{Code: pci.RejectSNRBelowMin, Detail: reasonSNRMeasured}
	}
	if err := j.env.CheckPolicy(m.limits); err != nil {
		return &pci.Reject{Code: pci.CodeOf(err), Detail: reasonPolicy}
	}
	return nil
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
	defer m.layer(LayerLedger)()
	m.written = e.AppendCanonical(m.written[:0]) // the transaction copies it
	if _, err := m.log.Append(m.txn, e.leaf(m.written)); err != nil {
		return Receipt{}, fmt.Errorf("append entry %d: %w", e.Index, err)
	}
	m.head.TimeMillis = e.TimeMillis
	if e.Envelope != nil {
		if err := m.remember(e.Envelope.Nonce); err != nil {
			return Receipt{}, err
		}
	}
	if e.Envelope == nil {
		return Receipt{}, nil
	}
	return e.receipt(m.law), nil
}
