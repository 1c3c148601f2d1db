package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/pci"
)

// Outcome is what became of one proof. Either there is a Receipt, with the code that
// it states, or Err says why there is none.
type Outcome struct {
	Code    pci.Code       // of the receipt
	Receipt json.Marshaler // written out as one line; fsm.Receipt is one
	Err     error          // nil if there is a receipt; see [Backend] for the kinds
}

// Consistency is what a read asks for.
type Consistency uint8

// The consistencies of a read.
const (
	Linearizable Consistency = iota // everything acknowledged before the read began is seen
	Stale                           // whatever this node has applied, also without a leader
)

func (c Consistency) String() string {
	if c == Stale {
		return "stale"
	}
	return "linearizable"
}

// Backend is the node behind the interface. All methods may be called from any
// goroutine and must return soon after the context ends. Errors, wrapped or not, mean:
// [*pci.Reject] a gate refused; [*Unavailable] nothing was decided, try again later;
// [*Overloaded] the same, and slower; [ErrNotFound]; a context's error, nothing is
// known; any other is a fault of the node, told to the client without its text.
type Backend interface {
	// Submit puts envelopes, as they came, through the gates as one batch, and
	// returns an outcome for each in order. An error stands for all of them.
	Submit(ctx context.Context, raw [][]byte) ([]Outcome, error)
	// Adopt is Submit for the one envelope that adopts a federation document, which goes
	// with it. Both are canonical JSON.
	Adopt(ctx context.Context, envelope, document []byte) (Outcome, error)
	// Judge says how a proof would fare, as far as this node knows now. An error may be a *pci.Reject.
	Judge(ctx context.Context, q client.Question) (*client.Judgement, error)
	// View opens a consistent view of the state; the caller closes it.
	View(ctx context.Context, c Consistency) (View, error)
	// The others are the node's own view, without asking anybody.
	Status(ctx context.Context) (*client.Status, error)
	Peers(ctx context.Context) (*client.Peers, error)
	// Outlook is what streams of events tell beside receipts. It is asked every second
	// for each stream.
	Outlook(ctx context.Context) (*client.Outlook, error)
	// Patterns gives those that the node keeps from the from-th that passes the filter on, the
	// greatest impact first, at most limit.
	Patterns(ctx context.Context, f client.PatternFilter, from, limit int) ([]client.Pattern, error)
	Pattern(ctx context.Context, digest [32]byte) (*client.PatternRecord, error)
	// Changed is closed once the ledger has grown, or more of it is certified, since the call.
	Changed() <-chan struct{}
	// Ready is nil if the node can serve, else it says what is missing.
	Ready(ctx context.Context) error
}

// View reads the state as it was at one moment. Lists are sorted by id, begin after
// the one given ("": at the first) and have at most limit items.
type View interface {
	// Entries is how many entries of the ledger the view has.
	Entries() int64
	// CertifiedSize is how many of them the newest certificate covers: they are attested.
	CertifiedSize() (int64, error)
	Receipt(p Proof) (*Receipt, error)
	// ReceiptAt is the receipt of the entry at an index, nil where it records no proof.
	ReceiptAt(index int64) (json.Marshaler, error)
	Inclusion(p Proof) (*client.Inclusion, error)
	// Bundle is the bundle of the proof's entry, in JSON; [ErrNotAttested] while no certificate covers it.
	Bundle(p Proof) ([]byte, error)
	// SessionBundle is the bundle of what the newest certified state holds of a session;
	// [ErrNotAttested] before the first certificate.
	SessionBundle(id string) ([]byte, error)
	// Certificates are those that cover more than so many entries, by size, at most limit.
	Certificates(after int64, limit int) ([]client.Certificate, error)
	// DocumentText is the canonical form of a federation document that is or was in force.
	DocumentText(digest [32]byte) ([]byte, error)
	Session(id string) (*client.Session, error)
	Sessions(after string, limit int) ([]client.Session, error)
	History(id string, from int64, limit int) ([]client.Node, error)
	Agent(id string) (*client.AgentRecord, error)
	Agents(after string, limit int) ([]client.Agent, error)
	Policy() (*client.Policy, error)
	// Market is the region's market, [ErrNotFound] where it has none; then the lists are empty.
	Market() (*client.Market, error)
	Holder(owner string) (*client.Holder, error)
	Holders(after string, limit int) ([]client.Holder, error)
	Licence(number int64) (*client.Licence, error)
	// Licences are those numbered from a number on.
	Licences(from int64, limit int) ([]client.Licence, error)
	// Epochs are the settlements before the one numbered so, newest first.
	Epochs(before int64, limit int) ([]client.Epoch, error)
	// Checkpoint is the newest certificate of the region's ledger, with the lines of outside
	// witnesses behind it, and how many entries it covers; [ErrNotFound] before the first.
	Checkpoint() (note []byte, size int64, err error)
	// Tile is a tile of the region's ledger in the form of c2sp.org/tlog-tiles, at level -1 a
	// bundle of entries; [ErrNotFound] for one that the ledger has not filled to that width.
	Tile(t tlog.Tile) ([]byte, error)
	Federation() (*client.Federation, error)
	Close() error
}

// Proof is how a proof is named: by the digest of its envelope, or by its envelope_id, which names the newest
// entry with it.
type Proof struct {
	Digest     [32]byte
	EnvelopeID string // "" where the digest is given
}

// Receipt is the receipt of a proof that became an entry.
type Receipt struct {
	json.Marshaler
	Index int64
}

// ErrNotAttested is for a backend to say that no certificate covers it yet.
var ErrNotAttested = errors.New("no certificate covers it yet")

// ErrNotFound is for a backend to say that the region knows no such thing.
var ErrNotFound = errors.New("not found")

// Unavailable is for a backend to say that it could not decide: there is no leader,
// or it is not reached. The same request may be sent again without harm.
type Unavailable struct {
	Reason     string        // for the client: what is missing
	RetryAfter time.Duration // 0: one second
	Err        error         // for the log
}

func (u *Unavailable) Error() string {
	if u.Err != nil {
		return fmt.Sprintf("unavailable: %s: %v", u.Reason, u.Err)
	}
	return "unavailable: " + u.Reason
}

// Unwrap gives the cause.
func (u *Unavailable) Unwrap() error { return u.Err }

// Overloaded is for a backend to say that its queues are full.
type Overloaded struct {
	Reason     string
	RetryAfter time.Duration // 0: one second
}

func (o *Overloaded) Error() string { return "overloaded: " + o.Reason }
