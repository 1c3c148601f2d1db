package follow

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/p2p"
)

// Limits of the protocol.
const (
	requestVersion  = 1
	requestBytesMax = 1 << 10
	// FrameBytesMax is the longest frame that a follower takes.
	FrameBytesMax = 1 << 20
	// FrameEntriesMax is the most entries of one frame.
	FrameEntriesMax = 4096
	// frameEntriesBytes is what the server puts into one frame: small enough that a frame
	// of it passes a link of 250 kbit/s before anyone takes the other for dead.
	frameEntriesBytes  = 256 << 10
	regionBytesMax     = 63
	originBytesMax     = 2 * 64
	refusalCodeMax     = 32
	refusalDetailMax   = 512
	ageMillisMax       = int64(365 * 24 * time.Hour / time.Millisecond)
	logTimeMillisMax   = int64(1) << 53
	documentVersionMax = int64(1) << 53
)

// ageUnknown stands for a replica that never knew how old it is.
const ageUnknown = time.Duration(ageMillisMax) * time.Millisecond

// ErrMalformed is returned for a request or a frame that the protocol does not allow.
var ErrMalformed = errors.New("malformed message of the entries protocol")

// envelope of a request: the version is known before the body is read, so that a
// request of a later version is refused for its version and nothing else.
type request struct {
	Version uint64          `cbor:"1,keyasint"`
	Body    cbor.RawMessage `cbor:"2,keyasint"`
}

type requestBody struct {
	Region     string `cbor:"1,keyasint"`
	From       int64  `cbor:"2,keyasint"` // index of the first entry wanted
	FromSeal   int64  `cbor:"3,keyasint"` // number of the first seal wanted
	EntriesMax int64  `cbor:"4,keyasint"` // 0: no end
	// SealsFrom asks, instead of FromSeal, for seals of at least so many entries, and for the
	// root of the first From entries with the first frame: for a copy in another region, which
	// counts seals for itself and must not take up half of one fork and half of another.
	SealsFrom int64 `cbor:"5,keyasint,omitempty"`
	// Holds is the digest of the federation document that the follower has, which need not be sent.
	Holds []byte `cbor:"6,keyasint,omitempty"`
}

func (r *requestBody) check() error {
	if len(r.Region) == 0 || len(r.Region) > regionBytesMax {
		return fmt.Errorf("%w: a region's name has 1 to %d bytes, this one %d", ErrMalformed, regionBytesMax, len(r.Region))
	}
	for _, n := range []int64{r.From, r.FromSeal, r.EntriesMax, r.SealsFrom} {
		if n < 0 || n > ledger.SizeMax {
			return fmt.Errorf("%w: %d is no index and no count", ErrMalformed, n)
		}
	}
	if len(r.Holds) != 0 && len(r.Holds) != 32 {
		return fmt.Errorf("%w: a digest of %d bytes", ErrMalformed, len(r.Holds))
	}
	if r.SealsFrom != 0 && (r.SealsFrom < r.From || r.FromSeal != 0) {
		return fmt.Errorf("%w: seals of at least %d entries and from number %d on, with entries from %d on", ErrMalformed, r.SealsFrom, r.FromSeal, r.From)
	}
	return nil
}

// Kinds of frames.
const (
	frameEntries   = 1
	frameSeal      = 2
	frameHeartbeat = 3
	frameRefusal   = 4
	frameDocument  = 5
)

// Codes of refusals.
const (
	refusedVersion    = "version"     // of the request
	refusedMalformed  = "malformed"   // request
	refusedRegion     = "region"      // not the one served here
	refusedBeyond     = "beyond"      // the follower has more than the server
	refusedSealPassed = "seal-passed" // the follower has entries beyond a seal that it lacks
)

// frame is one message of a server. What it says of the server holds when it was made.
type frame struct {
	Kind       uint8     `cbor:"1,keyasint"`
	Size       int64     `cbor:"2,keyasint"` // entries that the server has
	Seals      int64     `cbor:"3,keyasint"` // seals that it has
	TimeMillis int64     `cbor:"4,keyasint"` // log time of its last entry, Unix milliseconds; 0 without one
	AgeMillis  int64     `cbor:"5,keyasint"` // since when it may not know what the region committed
	First      int64     `cbor:"6,keyasint,omitempty"`
	Entries    [][]byte  `cbor:"7,keyasint,omitempty"`
	Seal       *wireSeal `cbor:"8,keyasint,omitempty"`
	Code       string    `cbor:"9,keyasint,omitempty"`
	Detail     string    `cbor:"10,keyasint,omitempty"`
	Root       []byte    `cbor:"20,keyasint,omitempty"` // of the entries before those asked for, where it was asked for

	Document     []byte `cbor:"11,keyasint,omitempty"` // part of a federation document's canonical form
	DocumentFrom int64  `cbor:"12,keyasint,omitempty"` // where in it the part begins
	DocumentSize int64  `cbor:"13,keyasint,omitempty"` // bytes of the whole
}

// wireSeal is a seal with its hashes as byte strings, whose lengths are checked: CBOR
// would quietly cut and fill those of Go arrays.
type wireSeal struct {
	_              struct{} `cbor:",toarray"`
	Number         int64
	Origin         string
	Size           int64
	Root           []byte
	State          []byte
	TimeMillis     int64
	Document       int64
	DocumentDigest []byte
}

func newWireSeal(s *fsm.Seal) *wireSeal {
	return &wireSeal{Number: s.Number, Origin: s.Origin, Size: s.Size, Root: s.Root[:], State: s.State[:],
		TimeMillis: s.TimeMillis, Document: s.Document, DocumentDigest: s.DocumentDigest[:]}
}

// seal is called after check.
func (w *wireSeal) seal() *fsm.Seal {
	return &fsm.Seal{Number: w.Number, Origin: w.Origin, Size: w.Size, Root: [32]byte(w.Root), State: [32]byte(w.State),
		TimeMillis: w.TimeMillis, Document: w.Document, DocumentDigest: [32]byte(w.DocumentDigest)}
}

func (w *wireSeal) check() error {
	switch {
	case w.Number < 0 || w.Number >= ledger.SizeMax, w.Size < 1 || w.Size > ledger.SizeMax,
		w.TimeMillis < 0 || w.TimeMillis > logTimeMillisMax, w.Document < 0 || w.Document > documentVersionMax:
		return fmt.Errorf("%w: seal number %d of size %d, time %d, document %d", ErrMalformed, w.Number, w.Size, w.TimeMillis, w.Document)
	case len(w.Root) != 32 || len(w.State) != 32 || len(w.DocumentDigest) != 32:
		return fmt.Errorf("%w: a seal with a hash that has not 32 bytes", ErrMalformed)
	case len(w.Origin) == 0 || len(w.Origin) > originBytesMax:
		return fmt.Errorf("%w: a seal whose origin has %d bytes", ErrMalformed, len(w.Origin))
	}
	return nil
}

// check says whether a frame is one by itself; whether it is due, the follower knows.
func (f *frame) check() error {
	switch {
	case f.Size < 0 || f.Size > ledger.SizeMax, f.Seals < 0 || f.Seals > f.Size,
		f.TimeMillis < 0 || f.TimeMillis > logTimeMillisMax, f.AgeMillis < 0 || f.AgeMillis > ageMillisMax:
		return fmt.Errorf("%w: a frame of a peer with %d entries, %d seals, log time %d, age %d ms", ErrMalformed, f.Size, f.Seals, f.TimeMillis, f.AgeMillis)
	case (f.Kind == frameEntries) != (len(f.Entries) > 0), f.Kind != frameEntries && f.First != 0,
		(f.Kind == frameSeal) != (f.Seal != nil), (f.Kind == frameRefusal) != (f.Code != ""), f.Kind != frameRefusal && f.Detail != "",
		(f.Kind == frameDocument) != (len(f.Document) > 0), f.Kind != frameDocument && (f.DocumentFrom != 0 || f.DocumentSize != 0):
		return fmt.Errorf("%w: a frame of kind %d has members of another", ErrMalformed, f.Kind)
	case f.Root != nil && (len(f.Root) != 32 || f.Kind == frameRefusal):
		return fmt.Errorf("%w: a frame of kind %d with a root of %d bytes", ErrMalformed, f.Kind, len(f.Root))
	}
	switch f.Kind {
	case frameEntries:
		return f.checkEntries()
	case frameSeal:
		if err := f.Seal.check(); err != nil {
			return err
		}
		if f.Seal.Size > f.Size || f.Seal.Number >= f.Seals {
			return fmt.Errorf("%w: seal %d of size %d from a peer that has %d seals and %d entries", ErrMalformed, f.Seal.Number, f.Seal.Size, f.Seals, f.Size)
		}
	case frameHeartbeat:
	case frameDocument:
		return f.checkDocument()
	case frameRefusal:
		if len(f.Code) > refusalCodeMax || len(f.Detail) > refusalDetailMax {
			return fmt.Errorf("%w: a refusal of %d and %d bytes", ErrMalformed, len(f.Code), len(f.Detail))
		}
	default:
		return fmt.Errorf("%w: a frame of kind %d", ErrMalformed, f.Kind)
	}
	return nil
}

func (f *frame) checkEntries() error {
	if len(f.Entries) > FrameEntriesMax {
		return fmt.Errorf("%w: %d entries in a frame, at most %d", ErrMalformed, len(f.Entries), FrameEntriesMax)
	}
	if f.First < 0 || f.First > f.Size-int64(len(f.Entries)) {
		return fmt.Errorf("%w: %d entries from %d on, from a peer that has %d", ErrMalformed, len(f.Entries), f.First, f.Size)
	}
	for i, e := range f.Entries {
		if len(e) == 0 || len(e) > ledger.EntryBytesMax {
			return fmt.Errorf("%w: entry %d has %d bytes, it must have 1 to %d", ErrMalformed, f.First+int64(i), len(e), ledger.EntryBytesMax)
		}
	}
	return nil
}

func readFrame(r io.Reader) (*frame, error) {
	var f frame
	if err := p2p.ReadMessage(r, FrameBytesMax, &f); err != nil {
		return nil, err
	}
	return &f, f.check()
}

func writeRequest(w io.Writer, b *requestBody) error {
	body, err := p2p.Marshal(b)
	if err != nil {
		return err
	}
	return p2p.WriteMessage(w, requestBytesMax, &request{Version: requestVersion, Body: body})
}

// readRequest reads what a follower wants. Where the follower should learn why it gets
// nothing, the error is a *refusal.
func readRequest(r io.Reader) (*requestBody, error) {
	var req request
	if err := p2p.ReadMessage(r, requestBytesMax, &req); err != nil {
		return nil, err
	}
	if req.Version != requestVersion {
		return nil, &refusal{refusedVersion, fmt.Sprintf("this node knows version %d of the request, not %d: the older of the two programs must be updated",
			requestVersion, req.Version)}
	}
	var b requestBody
	if err := p2p.Unmarshal(req.Body, &b); err != nil {
		return nil, &refusal{refusedMalformed, "the request's body is not one"}
	}
	if err := b.check(); err != nil {
		return nil, &refusal{refusedMalformed, err.Error()}
	}
	return &b, nil
}

// refusal is a server's no.
type refusal struct{ code, detail string }

// Error is the refusal as either side logs it.
func (r *refusal) Error() string { return fmt.Sprintf("refused (%.32q): %.512q", r.code, r.detail) }
