package fsm

import (
	"fmt"

	"github.com/bizra/bizra/fsm/market"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/pci"
)

// Reasons that stand in entries beside a reject code. They are tokens, not
// sentences, because other regions recompute them: a better wording must not
// change a ledger. Those of sessions are in package session.
const (
	reasonIhsan          = "ihsan-below-min"
	reasonSNR            = "snr-below-min"
	reasonSNRMeasured    = "snr-above-measured"
	reasonPolicy         = "policy-hash-differs"
	reasonOperatorsOnly  = "operators-only"
	reasonAgentsOnly     = "agents-only"
	reasonAgentType      = "agent-type-differs"
	reasonAgentExists    = "agent-exists"
	reasonAgentUnknown   = "agent-unknown"
	reasonAgentRevoked   = "agent-revoked"
	reasonKeyTaken       = "key-taken"
	reasonOwnerDiffers   = "owner-differs"
	reasonVoterExists    = "voter-exists"
	reasonVoterUnknown   = "voter-unknown"
	reasonVoterIDSpent   = "voter-id-spent"
	reasonVotersFull     = "too-many-voters"
	reasonLastVoter      = "last-voter"
	reasonFate           = "fate-below-min"
	reasonFateRule       = "fate-rule-denies"
	reasonBudgetNone     = "budget-none"
	reasonBudgetOver     = "budget-exceeded"
	reasonBreaker        = "breaker" // of a refusal without an entry
	reasonNeedsQuorum    = "needs-quorum"
	reasonVersionNotNext = "version-not-next"
	reasonUnlicensed     = "unlicensed"
)

// sentence says what a reason means and what to do; "" for one that is no token.
func sentence(reason string) string {
	switch reason {
	case reasonIhsan:
		return "metadata.ihsan_score is below the constitution's minimum; GET /v1/policy shows it."
	case reasonSNR:
		return "metadata.snr_score is below the constitution's minimum; GET /v1/policy shows it."
	case reasonPolicy:
		return "payload.policy_hash is not the hash of the constitution in force; sign again with the one that GET /v1/policy shows."
	case reasonOperatorsOnly:
		return "Only an operator of this region may do this; sign with an operator key of the federation document."
	case reasonAgentsOnly:
		return "An operator key administers the region and does not act in sessions; sign with an agent's key."
	case reasonAgentType:
		return "sender.agent_type is not the one that the agent was registered with."
	case reasonAgentExists:
		return "An agent of this id is registered and not revoked; revoke it first, or choose another id."
	case reasonAgentUnknown:
		return "No agent of this id is registered; `bizra agent list` shows those that are."
	case reasonAgentRevoked:
		return "The agent is revoked already."
	case reasonKeyTaken:
		return "The public key already belongs to another agent, an operator, a node or a region; make a new one with `bizra keygen`."
	case reasonOwnerDiffers:
		return "A revoked agent's id can be registered again only for the same owner."
	case reasonVoterExists:
		return "The node is a voter already."
	case reasonVoterUnknown:
		return "The node is not a voter of this region; `bizra status` lists them."
	case reasonVoterIDSpent:
		return "The node has been a voter before and may have voted; make a new node key, since an old one never votes again."
	case reasonVotersFull:
		return fmt.Sprintf("A region has at most %d voters; remove one first, or replace one.", votersMax)
	case reasonLastVoter:
		return "The last voter cannot be removed; add another first."
	case reasonBudgetNone:
		return "data.use charges a budget, and none is allocated yet: a session gets one where a standard step leads to computing."
	case reasonNeedsQuorum:
		return "A federation of several regions takes a new document only with the endorsement of a quorum of them, which this version of bizra cannot give yet."
	case reasonVersionNotNext:
		return "data.version must be that of the document in force and one; GET /v1/federation shows it."
	}
	if text := market.Reason(reason).Sentence(); text != "" {
		return text
	}
	return sessionSentence(reason)
}

func sessionSentence(reason string) string {
	switch reason {
	case session.ReasonSessionExists:
		return "A session of this id exists; choose another id, or go on from its head."
	case session.ReasonSessionUnknown:
		return "No session of this id exists here; open it first with session.open."
	case session.ReasonNotATip:
		return "payload.state_hash is not a tip of the session: somebody moved on before you; read the session's tips and sign again."
	case session.ReasonOpenNeedsEmpty:
		return "session.open needs an empty payload.state_hash."
	case session.ReasonAgentNotNamed:
		return "Only the agent that opened the session, or one that it named then, may move it."
	case session.ReasonStepNotAllowed:
		return "The session's state does not lead to that one; docs/protocol.md has the table of steps."
	case session.ReasonRecoveryReason:
		return "A step of type recovery must give a reason."
	case session.ReasonTooManyTips:
		return fmt.Sprintf("A session has at most %d tips; merge or end some first.", session.TipsMax)
	case session.ReasonHeadsDiffer:
		return "Only tips in the same state can be merged."
	case session.ReasonHeadNotATip:
		return "A head of the merge is not a tip of the session."
	case session.ReasonStateNotAHead:
		return "payload.state_hash must be one of the heads that are merged."
	case session.ReasonNoAncestor:
		return fmt.Sprintf("data.ancestor is not an ancestor of the tip within the last %d nodes.", session.RollbackNodesMax)
	case session.ReasonNodeExists:
		return "The same step was made in the same millisecond; sign it again."
	default:
		return ""
	}
}

// message says what happened and what to do, from the token and the numbers beside it.
func (r *Receipt) message() string {
	if r.PolicyHash != "" {
		return "payload.policy_hash is not the hash of the constitution in force, which is " + r.PolicyHash + "; sign again with that one."
	}
	for _, s := range []string{sentence(r.Reason), r.explain()} {
		if s != "" {
			return s
		}
	}
	if r.Reason != "" && r.Code != pci.Success {
		return r.Code.Sentence() + " " + r.Reason
	}
	return r.Code.Sentence()
}

func refusef(code pci.Code, format string, args ...any) *pci.Reject {
	return pci.Rejectf(code, format, args...)
}
