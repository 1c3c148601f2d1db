package certificate

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/fsm/prefixtree"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/pci"
)

// Limits of a bundle.
const (
	BundleBytesMax = 256 << 10
	PathHashesMax  = 64       // more than a tree of ledger.SizeMax entries can need
	RecordBytesMax = 64 << 10 // a session's record: 64 tips, 64 agents
	bundleFormat   = 1
	bundleDepthMax = pci.DepthMax + 2 // an envelope in an entry in a bundle
	documentsMax   = 0                // the place of a chain of documents, which format 1 does not have
)

// ErrBundle is returned, wrapped, for text that is no bundle.
var ErrBundle = errors.New("not a bundle")

// Bundle is what somebody keeps of a proof: a certificate, and an entry or a session's
// state, or both, with the proof that the certificate covers it.
type Bundle struct {
	Certificate []byte
	Entry       *Included // nil where it shows a session's state alone
	State       *Held     // nil where it shows an entry alone
}

// Included is an entry of a ledger, and the way from it to the certified root.
type Included struct {
	Data  []byte // as it stands in the ledger: canonical JSON
	Index int64
	Path  []ledger.Hash // RFC 6962 audit path in the tree of the certified size
}

// Held is what the certified state holds of a session: its record, or that there is none.
type Held struct {
	Session string
	Record  []byte // nil where there is no such session
	Proof   prefixtree.Proof
}

// Include makes the part about an entry, from any view of the ledger that reaches the certified size.
func Include(v ledger.View, index, size int64) (*Included, error) {
	data, err := v.Entry(index)
	if err != nil {
		return nil, err
	}
	path, err := v.InclusionProof(index, size)
	if err != nil {
		return nil, err
	}
	return &Included{Data: data, Index: index, Path: path}, nil
}

// Hold makes the part about a session, from a proof under [fsm.SessionKey]. Its seal
// must be the one that was certified.
func Hold(sessionID string, p *fsm.StateProof) *Held {
	return &Held{Session: sessionID, Record: p.Value, Proof: p.Proof}
}

// Marshal is the bundle in canonical JSON, as a line. It fails for what [ParseBundle] would refuse.
func (b *Bundle) Marshal() ([]byte, error) {
	text := pci.AppendString([]byte(`{"certificate":`), string(b.Certificate))
	text = append(text, `,"documents":[]`...)
	if b.Entry != nil {
		text = append(append(text, `,"entry":`...), b.Entry.Data...)
	}
	text = strconv.AppendInt(append(text, `,"format":`...), bundleFormat, 10)
	if b.Entry != nil {
		text = strconv.AppendInt(append(text, `,"inclusion":{"index":`...), b.Entry.Index, 10)
		text = append(text, `,"path":[`...)
		for i, h := range b.Entry.Path {
			if i > 0 {
				text = append(text, ',')
			}
			text = pci.AppendString(text, hex.EncodeToString(h[:]))
		}
		text = append(text, "]}"...)
	}
	if b.State != nil {
		proof, err := b.State.Proof.MarshalText()
		if err != nil {
			return nil, fmt.Errorf("encode a bundle: %w", err)
		}
		text = pci.AppendString(append(text, `,"state":{"proof":`...), string(proof))
		if b.State.Record == nil {
			text = append(text, `,"record":null`...)
		} else {
			text = pci.AppendString(append(text, `,"record":`...), base64.StdEncoding.EncodeToString(b.State.Record))
		}
		text = append(pci.AppendString(append(text, `,"session":`...), b.State.Session), '}')
	}
	text = append(text, "}\n"...)
	if _, err := ParseBundle(text); err != nil {
		return nil, fmt.Errorf("encode a bundle: %w", err)
	}
	return text, nil
}

// ParseBundle reads a bundle strictly, in any spacing and order of members. It checks
// nothing of what the bundle says; [VerifyBundle] does. An error wraps [ErrBundle].
func ParseBundle(text []byte) (*Bundle, error) {
	v, err := pci.Parse(text, pci.Limits{BytesMax: BundleBytesMax, DepthMax: bundleDepthMax})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBundle, err)
	}
	o := pci.ReadObject(v)
	if f := o.Int("format"); f != bundleFormat {
		o.Fault("format %d of bundles is not known to this program, which knows format %d: a newer bizra may read it", f, bundleFormat)
	}
	b := &Bundle{Certificate: []byte(o.Text("certificate", NoteBytesMax))}
	if len(o.Array("documents", BundleBytesMax)) > documentsMax {
		o.Fault("a chain of documents is not known to this program: a newer bizra may read it")
	}
	if o.Has("entry") || o.Has("inclusion") {
		b.Entry = readIncluded(o)
	}
	if o.Has("state") {
		b.State = readHeld(o.Object("state"))
	}
	if b.Entry == nil && b.State == nil {
		o.Fault("there is neither an entry nor a state in it")
	}
	if err := o.Done(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBundle, err)
	}
	return b, nil
}

func readIncluded(root *pci.Object) *Included {
	entry, _ := root.Any("entry")
	if entry.Kind() != pci.ObjectKind {
		root.Fault("member entry must be an object, and inclusion stands beside it")
		return nil
	}
	o := root.Object("inclusion")
	in := &Included{Data: entry.AppendCanonical(nil), Index: o.Int("index")}
	if len(in.Data) > ledger.EntryBytesMax {
		o.Fault("the entry has %d bytes, at most %d", len(in.Data), ledger.EntryBytesMax)
	}
	for i, text := range o.Texts("path", PathHashesMax, hex.EncodedLen(32)) {
		h, err := hex.DecodeString(text)
		if err != nil || len(h) != 32 || hex.EncodeToString(h) != text {
			o.Fault("member inclusion.path: element %d must be 64 lower-case hexadecimal digits", i)
			break
		}
		in.Path = append(in.Path, ledger.Hash(h))
	}
	_ = o.Done()
	return in
}

func readHeld(o *pci.Object) *Held {
	h := &Held{Session: o.Text("session", session.IDBytesMax)}
	if err := h.Proof.UnmarshalText([]byte(o.Text("proof", base64.StdEncoding.EncodedLen(prefixtree.ProofBytesMax)))); err != nil {
		o.Fault("member state.proof: %v", err)
	}
	record, _ := o.Any("record")
	switch record.Kind() {
	case pci.NullKind:
	case pci.StringKind:
		b, err := base64.StdEncoding.Strict().DecodeString(record.String())
		if err != nil || len(b) == 0 || len(b) > RecordBytesMax {
			o.Fault("member state.record must be base64 of 1 to %d bytes, or null", RecordBytesMax)
		}
		h.Record = b
	default:
		o.Fault("member state.record must be base64 or null")
	}
	_ = o.Done()
	return h
}
