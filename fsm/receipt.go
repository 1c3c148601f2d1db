package fsm

import (
	"encoding/json"
	"time"

	"github.com/bizra/bizra/fsm/fate"
	"github.com/bizra/bizra/fsm/ntu"
	"github.com/bizra/bizra/pci"
)

// Finality says how far a proof has come.
type Finality string

// The finalities of a receipt.
const (
	FinalityRefused   Finality = "refused"   // makes no entry and changed nothing
	FinalityCommitted Finality = "committed" // an entry of its region's ledger, on a majority's disks
	FinalityAttested  Finality = "attested"  // an entry that a recorded certificate covers
)

// Receipt is what became of one proof. Index, TimeMillis and what follows are
// meaningful only where there is an entry.
type Receipt struct {
	Digest     [32]byte
	EnvelopeID string
	Code       pci.Code
	Reason     string // token of the entry's outcome, or a sentence where there is no entry
	Region     string
	HasEntry   bool
	Index      int64 // leaf index in the region's ledger
	TimeMillis int64 // log time of the entry, Unix milliseconds
	Action     string
	AgentID    string
	Session    string // "" where the action concerns none
	Head       string // the node that the proof made, 64 hexadecimal digits
	State      string // the state of that node
	NTU        *ntu.State
	Fate       *fate.Verdict
	Budget     *Budget
	Agent      *Standing // as of this entry, or of a refusal by the agent's breaker
	Market     *Trade
	Unlicensed *Unlicensed
	// RuleMessage is what the constitution says to who meets the rule that denied, while that constitution is in force.
	RuleMessage string
	// ClaimMin is the lowest snr_score with which such a proof can pass, where a claim was above what the
	// agent's record supports: a lower one than that would only be one more failure.
	ClaimMin float64
	Repeated bool // the first receipt, given again to a retry
	// PolicyHash is that of the constitution in force now, where the proof was signed under another; else "".
	PolicyHash string
}

// Accepted reports whether the proof passed every gate and took effect.
func (r *Receipt) Accepted() bool { return r.Code == pci.Success }

type receiptJSON struct {
	Version    int      `json:"version"`
	Digest     string   `json:"digest"`
	EnvelopeID string   `json:"envelope_id"`
	Code       pci.Code `json:"code"`
	Name       string   `json:"name"`
	Reason     string   `json:"reason,omitempty"`
	Message    string   `json:"message"`
	Region     string   `json:"region"`
	Index      *int64   `json:"index"`
	Time       string   `json:"time,omitempty"`
	Action     string   `json:"action,omitempty"`
	AgentID    string   `json:"agent_id,omitempty"`
	Session    string   `json:"session,omitempty"`
	Head       string   `json:"head,omitempty"`
	State      string   `json:"state,omitempty"`

	NTU    *ntu.State    `json:"ntu,omitempty"`
	Fate   *fate.Verdict `json:"fate,omitempty"`
	Budget *Budget       `json:"budget,omitempty"`
	Agent  *standingJSON `json:"agent,omitempty"`

	Market     *Trade      `json:"market,omitempty"`
	Unlicensed *Unlicensed `json:"unlicensed,omitempty"`

	Finality Finality `json:"finality"`
	Repeated bool     `json:"repeated"`

	PolicyHash string `json:"policy_hash,omitempty"`
}

// standingJSON is a [Standing] with its times as people read them.
type standingJSON struct {
	*Standing
	EnoughFrom string `json:"enough_from,omitempty"`
	Until      string `json:"until,omitempty"`
}

const timeForm = "2006-01-02T15:04:05.000Z"

// timeText is a log time in RFC 3339; "" for none.
func timeText(millis int64) string {
	if millis == 0 {
		return ""
	}
	return time.UnixMilli(millis).UTC().Format(timeForm)
}

const receiptVersion = 1

// Finality is how far the proof has come where a certificate covers so many entries of its
// region's ledger; 0 where none is known.
func (r *Receipt) Finality(certifiedSize int64) Finality {
	switch {
	case !r.HasEntry:
		return FinalityRefused
	case r.Index < certifiedSize:
		return FinalityAttested
	}
	return FinalityCommitted
}

// Message says in a sentence what happened and what to do.
func (r *Receipt) Message() string { return r.message() }

// Told is a receipt with how far its region's certificates have come since.
type Told struct {
	Receipt
	CertifiedSize int64 // entries that the newest certificate covers
}

// MarshalJSON writes the receipt in its public form, version 1.
func (t Told) MarshalJSON() ([]byte, error) { return t.encode(t.CertifiedSize) }

// MarshalJSON writes the receipt in its public form, version 1, as of the moment at which it
// was given: no certificate covers its entry.
func (r Receipt) MarshalJSON() ([]byte, error) { return r.encode(0) }

func (r *Receipt) encode(certifiedSize int64) ([]byte, error) {
	j := receiptJSON{Version: receiptVersion, Digest: hexOf(r.Digest[:]), EnvelopeID: r.EnvelopeID, Code: r.Code,
		Name: r.Code.String(), Reason: r.Reason, Message: r.Message(), Region: r.Region, Action: r.Action, AgentID: r.AgentID,
		Session: r.Session, Head: r.Head, State: r.State, NTU: r.NTU, Fate: r.Fate, Budget: r.Budget, Market: r.Market, Unlicensed: r.Unlicensed, Finality: r.Finality(certifiedSize), Repeated: r.Repeated, PolicyHash: r.PolicyHash}
	if r.HasEntry {
		j.Index = &r.Index
		j.Time = timeText(r.TimeMillis)
	}
	if a := r.Agent; a != nil {
		j.Agent = &standingJSON{a, timeText(a.EnoughMillis), timeText(a.UntilMillis)}
	}
	return json.Marshal(j)
}
