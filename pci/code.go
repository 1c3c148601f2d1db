package pci

import (
	"errors"
	"fmt"
	"strconv"
)

// Code says what became of a proof: [Success] or the gate that refused it. The
// numbers and names are part of the wire format and never change.
type Code uint16

// The codes; docs/envelope.md lists them with their HTTP status.
const (
	Success                  Code = 0
	RejectSchema             Code = 1
	RejectSignature          Code = 2
	RejectNonceReplay        Code = 3
	RejectTimestampStale     Code = 4
	RejectTimestampFuture    Code = 5
	RejectIhsanBelowMin      Code = 6
	RejectSNRBelowMin        Code = 7
	RejectBudgetExceeded     Code = 8
	RejectPolicyMismatch     Code = 9
	RejectStateMismatch      Code = 10
	RejectRoleViolation      Code = 11
	RejectQuorumFailed       Code = 12
	RejectFateViolation      Code = 13
	RejectInvariantFailed    Code = 14
	RejectRateLimited        Code = 15
	RejectInternalError      Code = 99
	RejectADLGiniExceeded    Code = 100
	RejectADLConservation    Code = 101
	RejectADLNegativeHolding Code = 102
	RejectADLInvalidTx       Code = 103
	RejectADLDustAmount      Code = 104
)

// Codes lists every code in ascending order.
func Codes() []Code {
	return []Code{
		Success, RejectSchema, RejectSignature, RejectNonceReplay, RejectTimestampStale,
		RejectTimestampFuture, RejectIhsanBelowMin, RejectSNRBelowMin, RejectBudgetExceeded,
		RejectPolicyMismatch, RejectStateMismatch, RejectRoleViolation, RejectQuorumFailed,
		RejectFateViolation, RejectInvariantFailed, RejectRateLimited, RejectInternalError,
		RejectADLGiniExceeded, RejectADLConservation, RejectADLNegativeHolding,
		RejectADLInvalidTx, RejectADLDustAmount,
	}
}

// describe gives a code its name on the wire and its sentence for people; ok is
// false for a number that is no code.
func (c Code) describe() (name, sentence string, ok bool) {
	switch c {
	case Success:
		return "SUCCESS", "The proof was accepted.", true
	case RejectSchema:
		return "REJECT_SCHEMA", "The document does not have the form of a proof; correct the member that the detail names and sign it again.", true
	case RejectSignature:
		return "REJECT_SIGNATURE", "The signature is missing or does not fit the document and its public key; sign the document as it is sent, with the key it names.", true
	case RejectNonceReplay:
		return "REJECT_NONCE_REPLAY", "Another proof has used this nonce already; sign again with a fresh random one.", true
	case RejectTimestampStale:
		return "REJECT_TIMESTAMP_STALE", "The timestamp is too far in the past; check the clock of the sender and sign again.", true
	case RejectTimestampFuture:
		return "REJECT_TIMESTAMP_FUTURE", "The timestamp is too far in the future; check the clock of the sender and sign again.", true
	case RejectIhsanBelowMin:
		return "REJECT_IHSAN_BELOW_MIN", "The claimed ihsan_score is below what the constitution demands; improve the work before submitting it.", true
	case RejectSNRBelowMin:
		return "REJECT_SNR_BELOW_MIN", "The claimed snr_score is below what the constitution demands, or above what this agent's record supports; the detail says which.", true
	case RejectBudgetExceeded:
		return "REJECT_BUDGET_EXCEEDED", "The step would use more than is left of the session's budget; use less or begin a new computation.", true
	case RejectPolicyMismatch:
		return "REJECT_POLICY_MISMATCH", "The proof was made under another policy; fetch the region's current policy digest and sign again.", true
	case RejectStateMismatch:
		return "REJECT_STATE_MISMATCH", "The session has moved on or does not allow this step; fetch its head and build on that.", true
	case RejectRoleViolation:
		return "REJECT_ROLE_VIOLATION", "This agent is not known here, was revoked, or may not do this; ask an operator of the region.", true
	case RejectQuorumFailed:
		return "REJECT_QUORUM_FAILED", "Not enough regions agreed; try again when more of them can be reached.", true
	case RejectFateViolation:
		return "REJECT_FATE_VIOLATION", "The operation scores too low in fidelity, accountability, transparency or ethics, or a rule of the constitution denies it; the detail says which.", true
	case RejectInvariantFailed:
		return "REJECT_INVARIANT_FAILED", "The step would break an invariant of the state; the detail says which.", true
	case RejectRateLimited:
		return "REJECT_RATE_LIMITED", "This agent has had too many refusals this minute; wait a minute and correct what was refused.", true
	case RejectInternalError:
		return "REJECT_INTERNAL_ERROR", "The node could not decide for a reason of its own; send the same proof again, and tell an operator if that does not help.", true
	case RejectADLGiniExceeded:
		return "REJECT_ADL_GINI_EXCEEDED", "The transaction would concentrate the market above its limit; buy less or let others hold more first.", true
	case RejectADLConservation:
		return "REJECT_ADL_CONSERVATION", "The transaction would create or destroy credits; this is a fault of the node, tell an operator.", true
	case RejectADLNegativeHolding:
		return "REJECT_ADL_NEGATIVE_HOLDING", "The payer does not hold enough; pay less or obtain credits first.", true
	case RejectADLInvalidTx:
		return "REJECT_ADL_INVALID_TX", "The market does not allow this transaction; the detail says why.", true
	case RejectADLDustAmount:
		return "REJECT_ADL_DUST_AMOUNT", "The amount is too small; declare or pay more.", true
	}
	return "", "", false
}

// String returns the name on the wire, such as REJECT_SCHEMA; a number that is no
// code gives CODE_ and the number.
func (c Code) String() string {
	if name, _, ok := c.describe(); ok {
		return name
	}
	return "CODE_" + strconv.Itoa(int(c))
}

// Sentence says to a person what happened and what to do about it.
func (c Code) Sentence() string {
	if _, sentence, ok := c.describe(); ok {
		return sentence
	}
	return "The outcome has a code that this version does not know; update it."
}

// HTTPStatus returns the status with which a single proof of this outcome is answered.
func (c Code) HTTPStatus() int {
	// Numbers, because net/http would come with its whole stack into a library.
	switch c {
	case Success:
		return 200
	case RejectSchema, RejectSignature, RejectTimestampStale, RejectTimestampFuture:
		return 400
	case RejectRoleViolation:
		return 403
	case RejectStateMismatch, RejectNonceReplay:
		return 409
	case RejectRateLimited:
		return 429
	case RejectInternalError:
		return 500
	}
	return 422
}

// ParseCode returns the code of a name on the wire; ok is false for any other text.
func ParseCode(name string) (c Code, ok bool) {
	for _, c := range Codes() {
		if c.String() == name {
			return c, true
		}
	}
	return 0, false
}

// Reject is the refusal of an envelope or of a JSON text.
type Reject struct {
	Code   Code
	Detail string // which member or limit, and what would pass
}

// Rejectf makes a refusal with a formatted detail.
func Rejectf(code Code, format string, args ...any) *Reject {
	return &Reject{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Error returns the code's name and the detail.
func (r *Reject) Error() string {
	if r.Detail == "" {
		return r.Code.String()
	}
	return r.Code.String() + ": " + r.Detail
}

// CodeOf returns the code that an error stands for: Success for nil, the code of a
// [*Reject] anywhere in its chain, else RejectInternalError.
func CodeOf(err error) Code {
	if err == nil {
		return Success
	}
	if r, ok := errors.AsType[*Reject](err); ok {
		return r.Code
	}
	return RejectInternalError
}

// quote shows a text of the sender's in a detail, at most 48 bytes of it: details
// go into receipts and logs, which must not grow with what a stranger sends.
func quote(s string) string {
	const shownBytesMax = 48
	if len(s) > shownBytesMax {
		return strconv.QuoteToASCII(s[:shownBytesMax]) + "…"
	}
	return strconv.QuoteToASCII(s)
}
