package fsm

import (
	"encoding/json"
	"time"

	"github.com/bizra/bizra/pci"
)

// Finality says how far a proof has come.
type Finality string

// The finalities of a receipt.
const (
	Refused   Finality = "refused"   // makes no entry and changed nothing
	Committed Finality = "committed" // an entry of its region's ledger, on a majority's disks
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
	Repeated   bool   // the first receipt, given again to a retry
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
	Finality   Finality `json:"finality"`
	Repeated   bool     `json:"repeated"`
}

const receiptVersion = 1

// Finality is [Committed] for what has an entry, else [Refused].
func (r *Receipt) Finality() Finality {
	if r.HasEntry {
		return Committed
	}
	return Refused
}

// Message says in a sentence what happened and what to do.
func (r *Receipt) Message() string { return message(r.Code, r.Reason) }

// MarshalJSON writes the receipt in its public form, version 1.
func (r Receipt) MarshalJSON() ([]byte, error) {
	j := receiptJSON{Version: receiptVersion, Digest: hexOf(r.Digest[:]), EnvelopeID: r.EnvelopeID, Code: r.Code,
		Name: r.Code.String(), Reason: r.Reason, Message: r.Message(), Region: r.Region, Action: r.Action, AgentID: r.AgentID,
		Session: r.Session, Head: r.Head, State: r.State, Finality: r.Finality(), Repeated: r.Repeated}
	if r.HasEntry {
		j.Index = &r.Index
		j.Time = time.UnixMilli(r.TimeMillis).UTC().Format("2006-01-02T15:04:05.000Z")
	}
	return json.Marshal(j)
}
