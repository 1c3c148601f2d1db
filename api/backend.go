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
	// View opens a consistent view of the state; the caller closes it.
	View(ctx context.Context, c Consistency) (View, error)
	// Status, Peers and Ready are the node's own view, without asking anybody.
	Status(ctx context.Context) (*client.Status, error)
	Peers(ctx context.Context) ([]client.Peer, error)
	// Ready is nil if the node can serve, else it says what is missing.
	Ready(ctx context.Context) error
}

// View reads the state as it was at one moment. Lists are sorted by id, begin after
// the one given ("": at the first) and have at most limit items.
type View interface {
	// Entries is how many entries of the ledger the view has.
	Entries() int64
	ReceiptByDigest(digest [32]byte) (json.Marshaler, error)
	ReceiptByEnvelopeID(id string) (json.Marshaler, error) // of the newest entry with it
	InclusionByDigest(digest [32]byte) (*client.Inclusion, error)
	InclusionByEnvelopeID(id string) (*client.Inclusion, error)
	Session(id string) (*client.Session, error)
	Sessions(after string, limit int) ([]client.Session, error)
	History(id string, from int64, limit int) ([]client.Node, error)
	Agent(id string) (*client.AgentRecord, error)
	Agents(after string, limit int) ([]client.Agent, error)
	Policy() (*client.Policy, error)
	// Checkpoint is the newest certificate of the region's ledger, with the lines of outside
	// witnesses behind it, and how many entries it covers; [ErrNotFound] before the first.
	Checkpoint() (note []byte, size int64, err error)
	// Tile is a tile of the region's ledger in the form of c2sp.org/tlog-tiles, at level -1 a
	// bundle of entries; [ErrNotFound] for one that the ledger has not filled to that width.
	Tile(t tlog.Tile) ([]byte, error)
	Federation() (*client.Federation, error)
	Close() error
}

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
