package fsm

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/pci"
)

func hexOf(b []byte) string { return hex.EncodeToString(b) }

// Kinds of entries. Everything that moves the state is one; seals, votes and
// certificates are not.
const (
	EntryProof   = "proof"   // an envelope and what became of it
	EntryGenesis = "genesis" // the first: the document and the state version in force from here on
)

const (
	entryVersion = 1
	// entryBytesMax is what an entry with the largest envelope can need; the ledger's
	// own limit is above it, which a test holds.
	entryOverheadMax = 8 << 10
)

// Outcome is what the state machine decided about an entry.
type Outcome struct {
	Code           pci.Code
	Reason         string // token; "" if accepted
	Session        string // "" where the action concerns none
	Head           string // the node made, if any
	State          string // that node's state
	DocumentDigest string // genesis: the federation document in force
	Document       int64  // genesis: its version
	StateVersion   int64  // genesis: the rules in force
}

// Entry is one leaf of the ledger.
type Entry struct {
	Kind       string
	Region     string
	Index      int64
	TimeMillis int64         // log time
	Envelope   *pci.Envelope // nil but for [EntryProof]
	Outcome    Outcome
}

// AppendCanonical appends the entry's canonical JSON, which is the leaf's data.
func (e *Entry) AppendCanonical(b []byte) []byte {
	b = append(b, `{"envelope":`...)
	if e.Envelope != nil {
		b = append(b, e.Envelope.Canonical()...)
	} else {
		b = append(b, "null"...)
	}
	b = append(b, `,"index":`...)
	b = strconv.AppendInt(b, e.Index, 10)
	b = append(b, `,"kind":"`...)
	b = append(b, e.Kind...)
	b = append(b, `","outcome":`...)
	b = e.Outcome.appendCanonical(b, e.Kind)
	b = append(b, `,"region":`...)
	b = pci.AppendString(b, e.Region)
	b = append(b, `,"time":`...)
	b = strconv.AppendInt(b, e.TimeMillis, 10)
	b = append(b, `,"v":`...)
	b = strconv.AppendInt(b, entryVersion, 10)
	return append(b, '}')
}

func (o *Outcome) appendCanonical(b []byte, kind string) []byte {
	if kind == EntryGenesis {
		b = append(b, `{"document":`...)
		b = strconv.AppendInt(b, o.Document, 10)
		b = append(b, `,"document_digest":"`...)
		b = append(b, o.DocumentDigest...)
		b = append(b, `","state_version":`...)
		b = strconv.AppendInt(b, o.StateVersion, 10)
		return append(b, '}')
	}
	b = append(b, `{"code":`...)
	b = strconv.AppendUint(b, uint64(o.Code), 10)
	b = append(b, `,"head":"`...)
	b = append(b, o.Head...)
	b = append(b, `","reason":"`...)
	b = append(b, o.Reason...)
	b = append(b, `","session":`...)
	b = pci.AppendString(b, o.Session)
	b = append(b, `,"state":"`...)
	b = append(b, o.State...)
	return append(b, `"}`...)
}

// ParseEntry reads a leaf's data. It refuses an unknown version or kind, and every
// form but the canonical one.
func ParseEntry(data []byte) (*Entry, error) {
	v, err := pci.Parse(data, pci.Limits{BytesMax: pci.EnvelopeBytesMax + entryOverheadMax, DepthMax: pci.DepthMax + 1})
	if err != nil {
		return nil, fmt.Errorf("decode entry: %w", err)
	}
	o := pci.ReadObject(v)
	if ver := o.Int("v"); ver != entryVersion {
		o.Fault("entry version %d is not known to this program, which knows version %d: a newer bizra may read it", ver, entryVersion)
	}
	e := &Entry{Kind: o.Text("kind", 16), Region: o.Text("region", 63), Index: o.Int("index"), TimeMillis: o.Int("time")}
	env, _ := o.Any("envelope")
	e.Outcome = readOutcome(o.Object("outcome"), e.Kind)
	switch e.Kind {
	case EntryProof:
		if env.Kind() != pci.ObjectKind {
			o.Fault("an entry of kind proof has an envelope")
		}
	case EntryGenesis:
		if env.Kind() != pci.NullKind {
			o.Fault("an entry of kind genesis has no envelope")
		}
	default:
		o.Fault("entry kind %q is not known to this program: a newer bizra may read it", e.Kind)
	}
	if err := o.Done(); err != nil {
		return nil, fmt.Errorf("decode entry: %w", err)
	}
	if e.Kind == EntryProof {
		if e.Envelope, err = pci.DecodeCanonical(env.AppendCanonical(nil)); err != nil {
			return nil, fmt.Errorf("decode entry: envelope: %w", err)
		}
	}
	if !bytes.Equal(e.AppendCanonical(make([]byte, 0, len(data))), data) {
		return nil, fmt.Errorf("decode entry: not in canonical form")
	}
	return e, nil
}

func readOutcome(o *pci.Object, kind string) Outcome {
	var out Outcome
	if kind == EntryGenesis {
		out = Outcome{Document: o.Int("document"), DocumentDigest: o.Text("document_digest", 64), StateVersion: o.Int("state_version")}
	} else {
		code := o.Int("code")
		if code < 0 || code > 104 {
			o.Fault("outcome.code %d is no reject code", code)
			code = 0
		}
		out = Outcome{Code: pci.Code(code), Head: o.Text("head", 64), Reason: o.Text("reason", 64),
			Session: o.Text("session", session.IDBytesMax), State: o.Text("state", 16)}
	}
	_ = o.Done()
	return out
}

// leaf is the entry with the names under which the ledger finds it.
func (e *Entry) leaf(data []byte) ledger.Appended {
	if e.Envelope == nil {
		return ledger.Appended{Data: data}
	}
	digest := e.Envelope.Digest()
	return ledger.Appended{Data: data, Digest: &digest, EnvelopeID: e.Envelope.EnvelopeID}
}

// receipt is what the entry tells the sender of its proof.
func (e *Entry) receipt() Receipt {
	return Receipt{Digest: e.Envelope.Digest(), EnvelopeID: e.Envelope.EnvelopeID, Code: e.Outcome.Code, Reason: e.Outcome.Reason,
		Region: e.Region, HasEntry: true, Index: e.Index, TimeMillis: e.TimeMillis, Action: e.Envelope.Payload.Action,
		AgentID: e.Envelope.Sender.AgentID, Session: e.Outcome.Session, Head: e.Outcome.Head, State: e.Outcome.State}
}
