package fsm

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"

	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/pci"
)

func hexOf(b []byte) string { return hex.EncodeToString(b) }

// Kinds of entries. Everything that moves the state is one; seals, votes and
// certificates are not.
const (
	EntryProof   = "proof"   // an envelope and what became of it
	EntryGenesis = "genesis" // the first: the document and the state version in force from here on
	EntryEpoch   = "epoch"   // the market has settled an hour or more
	EntryBreaker = "breaker" // an agent is throttled, muted, on probation or clear from here on
)

const (
	entryVersion = 1
	// entryBytesMax is what an entry with the largest envelope can need; the ledger's
	// own limit is above it, which a test holds.
	entryOverheadMax = 8 << 10
)

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
	case EntryGenesis, EntryBreaker, EntryEpoch:
		if env.Kind() != pci.NullKind {
			o.Fault("an entry of kind %s has no envelope", e.Kind)
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

// leaf is the entry with the names under which the ledger finds it.
func (e *Entry) leaf(data []byte) ledger.Appended {
	if e.Envelope == nil {
		return ledger.Appended{Data: data}
	}
	digest := e.Envelope.Digest()
	return ledger.Appended{Data: data, Digest: &digest, EnvelopeID: e.Envelope.EnvelopeID}
}

// receiptFor is the receipt of an entry that an index named, which a damaged disk may have name any.
func (e *Entry) receiptFor(law *constitution.Constitution) (Receipt, error) {
	if e.Envelope == nil {
		return Receipt{}, fmt.Errorf("%w: entry %d is named as a proof's and holds none", ErrDiverged, e.Index)
	}
	return e.receipt(law), nil
}

// receipt is what the entry tells the sender of its proof. Of the constitution, nil if none is at
// hand, it takes the message of a rule that denied, if that is the one that denied.
func (e *Entry) receipt(law *constitution.Constitution) Receipt {
	o := &e.Outcome
	r := Receipt{Digest: e.Envelope.Digest(), EnvelopeID: e.Envelope.EnvelopeID, Code: o.Code, Reason: o.Reason,
		Region: e.Region, HasEntry: true, Index: e.Index, TimeMillis: e.TimeMillis, Action: e.Envelope.Payload.Action,
		AgentID: e.Envelope.Sender.AgentID, Session: o.Session, Head: o.Head, State: o.State,
		NTU: o.NTU, Fate: o.Fate, Budget: o.Budget, Agent: o.Agent, Market: o.Market, Unlicensed: o.Unlicensed}
	if o.Code == pci.RejectPolicyMismatch && law != nil {
		r.PolicyHash = law.PolicyHash() // today's is what helps
	}
	if o.Reason == reasonSNRMeasured && law != nil {
		r.ClaimMin = claimMin(law, r.Action)
	}
	if o.Fate == nil || o.Fate.Rule == "" || law == nil {
		return r
	}
	if i := slices.IndexFunc(law.Rules, func(rule constitution.Rule) bool { return rule.Name == o.Fate.Rule }); i >= 0 && law.PolicyHash() == e.Envelope.Payload.PolicyHash {
		r.RuleMessage = law.Rules[i].Message
	}
	return r
}
