package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/bizra/bizra/pci"
)

// Media types of the interface.
const (
	MediaJSON    = "application/json"
	MediaNDJSON  = "application/x-ndjson"
	MediaProblem = "application/problem+json"
)

// Headers of the interface.
const (
	HeaderApplied   = "X-Bizra-Applied" // entries of the ledger that an answer is based on
	HeaderRequestID = "X-Request-Id"
)

// Limits that both sides of the interface keep.
const (
	BatchLinesMax     = 512                                      // proofs of one NDJSON request
	BatchBytesMax     = 8 << 20                                  // body of one NDJSON request
	ProofBytesMax     = pci.EnvelopeBytesMax + 1<<10             // body with one proof: an envelope and a little space around it
	DocumentBytesMax  = 1 << 20                                  // canonical form of a federation document
	AdoptionBytesMax  = DocumentBytesMax + ProofBytesMax + 1<<10 // body with a document and the proof that adopts it
	PageItemsMax      = 500                                      // items of one page of a list
	PageItemsDefault  = 100                                      // where a request names no limit
	CertificatesMax   = 100                                      // certificates of one page
	responseBytesMax  = BatchLinesMax*(16<<10) + 64<<10          // what a client reads of an answer
	problemTextMaxLen = 240
	problemBytesMax   = 64 << 10 // of a problem document that stands where a stream was asked for
)

// Finalities of a receipt.
const (
	FinalityRefused   = "refused"   // made no entry and changed nothing
	FinalityCommitted = "committed" // an entry of the region's ledger, on a majority's disks
	FinalityAttested  = "attested"  // an entry that a certificate of a quorum of regions covers
)

// Receipt is what became of one proof.
type Receipt struct {
	Version    int      `json:"version"`
	Digest     string   `json:"digest"` // of the envelope, 64 hexadecimal digits
	EnvelopeID string   `json:"envelope_id"`
	Code       pci.Code `json:"code"`
	Name       string   `json:"name"`             // of the code, such as REJECT_SCHEMA
	Reason     string   `json:"reason,omitempty"` // what refined the code, for programs
	Message    string   `json:"message"`          // a sentence for people: what happened and what to do
	Region     string   `json:"region"`
	Index      *int64   `json:"index"` // of the entry in the region's ledger; nil where there is none
	Time       string   `json:"time,omitempty"`
	Action     string   `json:"action,omitempty"`
	AgentID    string   `json:"agent_id,omitempty"`
	Session    string   `json:"session,omitempty"`
	Head       string   `json:"head,omitempty"`  // the session node that the proof made
	State      string   `json:"state,omitempty"` // the state of that node

	NTU    *NTU      `json:"ntu,omitempty"` // of the session's unit, where a transition was taken
	Fate   *Fate     `json:"fate,omitempty"`
	Budget *Budget   `json:"budget,omitempty"`
	Agent  *Standing `json:"agent,omitempty"` // the sender, after this

	Market     *Trade      `json:"market,omitempty"`     // what the step did in the market
	Unlicensed *Unlicensed `json:"unlicensed,omitempty"` // the licence that the step lacked

	Finality string `json:"finality"`
	Repeated bool   `json:"repeated"` // the first receipt, given again to a retry
	// PolicyHash is the one in force, where the proof was signed under another.
	PolicyHash string `json:"policy_hash,omitempty"`
}

// Accepted reports whether the proof passed every gate and took effect.
func (r *Receipt) Accepted() bool { return r.Code == pci.Success }

// Err is nil for an accepted proof, else a [*pci.Reject] with the receipt's code.
func (r *Receipt) Err() error {
	if r.Accepted() {
		return nil
	}
	return &pci.Reject{Code: r.Code, Detail: r.Message}
}

// ErrNotFound is matched by the error for something that the region does not know.
var ErrNotFound = errors.New("not found")

// Problem is an answer that is no receipt: a problem document of RFC 9457.
type Problem struct {
	Type     string    `json:"type"`
	Title    string    `json:"title"`
	Status   int       `json:"status"`             // HTTP status
	Detail   string    `json:"detail,omitempty"`   // what was wrong and what to do
	Instance string    `json:"instance,omitempty"` // urn of the request, as the node's log has it
	Code     *pci.Code `json:"code,omitempty"`     // where a gate decided
	Name     string    `json:"name,omitempty"`     // of the code
}

// Error is the problem in one line.
func (p *Problem) Error() string {
	var b strings.Builder
	if p.Name != "" {
		b.WriteString(p.Name + ": ")
	}
	switch {
	case p.Detail != "":
		b.WriteString(p.Detail)
	case p.Title != "":
		b.WriteString(p.Title)
	}
	fmt.Fprintf(&b, " (HTTP %d)", p.Status)
	return b.String()
}

// Is makes a problem of status 404 match [ErrNotFound].
func (p *Problem) Is(target error) bool {
	return target == ErrNotFound && p.Status == http.StatusNotFound
}

// Unwrap gives a [*pci.Reject] where a gate decided.
func (p *Problem) Unwrap() error {
	if p.Code == nil {
		return nil
	}
	return &pci.Reject{Code: *p.Code, Detail: p.Detail}
}

// Temporary reports whether the same request may succeed later: no decision was made.
func (p *Problem) Temporary() bool {
	switch p.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return true
	}
	return false
}

// Outcome is what became of one proof of several: a receipt, or a problem where
// there is none.
type Outcome struct {
	Receipt *Receipt
	Problem *Problem
}

// Err is nil for an accepted proof.
func (o Outcome) Err() error {
	switch {
	case o.Receipt != nil:
		return o.Receipt.Err()
	case o.Problem != nil:
		return o.Problem
	}
	return errors.New("the node gave no answer for this proof")
}

// MarshalJSON writes the receipt or the problem, as the node did.
func (o Outcome) MarshalJSON() ([]byte, error) {
	if o.Receipt != nil {
		return json.Marshal(o.Receipt)
	}
	return json.Marshal(o.Problem)
}

// UnmarshalJSON tells receipt and problem apart: only a receipt has a finality.
func (o *Outcome) UnmarshalJSON(text []byte) error {
	var kind struct {
		Finality string `json:"finality"`
		Status   int    `json:"status"`
	}
	if err := json.Unmarshal(text, &kind); err != nil {
		return fmt.Errorf("decode an outcome: %w", err)
	}
	switch {
	case kind.Finality != "":
		o.Receipt = &Receipt{}
		return json.Unmarshal(text, o.Receipt)
	case kind.Status != 0:
		o.Problem = &Problem{}
		return json.Unmarshal(text, o.Problem)
	}
	return errors.New("decode an outcome: neither a receipt nor a problem")
}

// Tip is a node of a session that may be built on.
type Tip struct {
	Head  string `json:"head"` // 64 hexadecimal digits: the state_hash of the next step
	State string `json:"state"`
	Clock uint64 `json:"clock"` // steps from the genesis, the longest way

	Budget *Budget `json:"budget,omitempty"` // what may be spent from here; none was allocated yet if nil
}

// Session is where a session stands.
type Session struct {
	ID     string   `json:"session"`
	Region string   `json:"region"`
	Opener string   `json:"opener"` // agent_id
	Agents []string `json:"agents"` // who else may move it
	Tips   []Tip    `json:"tips"`   // sorted by head; none: every branch is terminated
	Last   Tip      `json:"last"`   // the node made last, terminated or not
	Nodes  int64    `json:"nodes"`  // made so far
	Opened string   `json:"opened"` // log time, RFC 3339

	NTU    *NTU  `json:"ntu,omitempty"` // what its unit says; nil before the first transition, and in lists
	Failed int64 `json:"failed"`        // steps to failed
}

// Sessions is one page of the list of sessions, sorted by id.
type Sessions struct {
	Sessions []Session `json:"sessions"`
	Next     string    `json:"next,omitempty"` // the `after` of the next page; "" on the last
}

// Node is one step of a session's history.
type Node struct {
	Number  int64    `json:"number"` // in the order in which the nodes were made, from 0
	Head    string   `json:"head"`   // the node's hash
	Parents []string `json:"parents"`
	Clock   uint64   `json:"clock"`
	State   string   `json:"state"`
	Type    string   `json:"type"`
	Reason  string   `json:"reason,omitempty"`
	Data    string   `json:"data"`  // digest of the proof's payload.data
	Time    string   `json:"time"`  // log time, RFC 3339
	Index   int64    `json:"index"` // of the entry that made it

	NTU       *NTU    `json:"ntu,omitempty"` // of a transition
	Scores    *Scores `json:"fate,omitempty"`
	Composite float64 `json:"composite,omitempty"`
}

// History is one page of a session's nodes.
type History struct {
	Session string `json:"session"`
	Nodes   []Node `json:"nodes"`
	Next    *int64 `json:"next,omitempty"` // the `from` of the next page; nil on the last
}

// Agent is one entry of the agent registry.
type Agent struct {
	AgentID    string `json:"agent_id"`
	AgentType  string `json:"agent_type"` // PAT or SAT
	Owner      string `json:"owner"`
	PublicKey  string `json:"public_key"`
	Registered string `json:"registered"`        // log time, RFC 3339
	Revoked    string `json:"revoked,omitempty"` // log time; "" while it is in force
}

// Agents is one page of the registry, sorted by agent_id.
type Agents struct {
	Agents []Agent `json:"agents"`
	Next   string  `json:"next,omitempty"`
}

// Policy is the constitution in force and the hash that proofs must carry.
type Policy struct {
	PolicyHash   string          `json:"policy_hash"`
	Federation   string          `json:"federation"`
	Region       string          `json:"region"`
	Document     int64           `json:"document_version"`
	Constitution json.RawMessage `json:"constitution"`
}

// Federation is the federation document in force.
type Federation struct {
	Federation string          `json:"federation"`
	Region     string          `json:"region"`
	Version    int64           `json:"version"`
	Digest     string          `json:"digest"` // 64 hexadecimal digits
	PolicyHash string          `json:"policy_hash"`
	Document   json.RawMessage `json:"document"` // canonical form
}

// Adoption is a federation document with the proof that adopts it: an envelope with the
// action federation.adopt, signed by an operator.
type Adoption struct {
	Document json.RawMessage `json:"document"` // canonical form
	Proof    json.RawMessage `json:"proof"`
}

// Inclusion is the RFC 6962 proof that a leaf is in the region's ledger. Hashes are
// 64 hexadecimal digits.
type Inclusion struct {
	Index    int64    `json:"index"`
	Size     int64    `json:"size"`
	Root     string   `json:"root"`
	LeafHash string   `json:"leaf_hash"`
	Path     []string `json:"path"`
}
