package certificate

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/fsm/prefixtree"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/pci"
)

// ErrNotValid is returned, wrapped, by [Verdict.Err] for a bundle that does not hold.
var ErrNotValid = errors.New("the bundle is not valid")

// Status says what became of a step.
type Status string

// The statuses of a step. The first that fails decides; those after it are not checked,
// since what they would be checked against is not known to be true.
const (
	Holds      Status = "holds"
	Fails      Status = "fails"
	NotChecked Status = "not checked"
)

// Step is one check of a bundle, as it is told to a person.
type Step struct {
	Name    string `json:"name"`
	Checked string `json:"checked"` // what was checked
	Against string `json:"against"` // what it was held against
	Status  Status `json:"status"`
	Result  string `json:"result"` // what is known by it, or why it fails
}

// Verdict is what was found of a bundle. What a step that did not hold would have
// shown is nil.
type Verdict struct {
	Steps      []Step
	Checkpoint *checkpoint.Checkpoint // certified
	Cosigners  []string               // regions, beside the origin
	Entry      *fsm.Entry             // nil also where the bundle has none
	Session    *session.Session       // nil also where there is none, or the bundle says nothing of one
}

// Valid reports whether every step holds.
func (v *Verdict) Valid() bool { return v.Err() == nil }

// Err is nil for a valid bundle, else it wraps [ErrNotValid] and tells the step that failed.
func (v *Verdict) Err() error {
	for _, s := range v.Steps {
		if s.Status != Holds {
			return fmt.Errorf("%w: %s: %s", ErrNotValid, s.Name, s.Result)
		}
	}
	return nil
}

// VerifyBundle checks a bundle against the federation document alone, step by step. It
// takes any input; what it cannot check fails.
//
// It shows that the origin recorded the entry with this outcome, and that a quorum of
// regions executed the ledger up to the certificate and came to the same state. That
// the sender's key is the agent's, and that no gate would refuse, is what the regions
// checked; that the clock was right, nobody can.
func VerifyBundle(text []byte, doc *federation.Document) *Verdict {
	a := &audit{doc: doc, verdict: &Verdict{}}
	a.step("form", "the bundle's text", fmt.Sprintf("format %d of bundles", bundleFormat), func() (string, error) {
		b, err := ParseBundle(text)
		if err != nil {
			return "", err
		}
		a.bundle = b
		return fmt.Sprintf("%d bytes, read strictly", len(text)), nil
	})
	if a.bundle == nil {
		return a.verdict
	}
	a.step("document", "the federation document that the certificate names", fmt.Sprintf("the document at hand, version %d of %q", doc.Version, doc.Name), a.document)
	a.step("certificate", "the signatures of the origin and of the regions that executed its ledger again", fmt.Sprintf("the document's keys, %d of %d regions needed",
		federation.Quorum(len(doc.Regions)), len(doc.Regions)), a.certificate)
	if a.bundle.Entry != nil {
		a.step("inclusion", "the entry's leaf hash and the path from it", "the certified root of the ledger", a.inclusion)
		a.step("entry", "the region, index and time that the entry says", "the certificate's origin and time, and the place in the tree", a.entry)
		a.step("signature", "the proof's signature over its digest", "the public key in the proof", a.signature)
	}
	if a.bundle.State != nil {
		a.step("state", "what the state holds of the session", "the certified state commitment", a.state)
	}
	return a.verdict
}

// audit is a bundle under examination; each step leaves what later ones need.
type audit struct {
	doc     *federation.Document
	bundle  *Bundle
	body    *checkpoint.Checkpoint // as the certificate says, before its signatures are checked
	verdict *Verdict
	failed  bool
}

func (a *audit) step(name, checked, against string, run func() (string, error)) {
	s := Step{Name: name, Checked: checked, Against: against, Status: NotChecked, Result: "an earlier step fails"}
	if !a.failed {
		result, err := run()
		s.Status, s.Result = Holds, result
		if err != nil {
			s.Status, s.Result, a.failed = Fails, err.Error(), true
		}
	}
	a.verdict.Steps = append(a.verdict.Steps, s)
}

func (a *audit) document() (string, error) {
	c, _, err := readBody(a.bundle.Certificate, a.doc)
	if err != nil {
		return "", err
	}
	a.body = c
	return fmt.Sprintf("the same: version %d, digest %x", c.Document, c.DocumentDigest), nil
}

func (a *audit) certificate() (string, error) {
	c, cosigners, err := Verify(a.bundle.Certificate, a.doc)
	if err != nil {
		return "", err
	}
	a.verdict.Checkpoint, a.verdict.Cosigners = c, cosigners
	by := "no other region is needed"
	if len(cosigners) > 0 {
		by = "cosigned by " + strings.Join(cosigners, ", ")
	}
	return fmt.Sprintf("signed by %s, %s: %d entries, log time %s", c.Region(), by, c.Size, when(c.TimeMillis)), nil
}

func when(millis int64) string {
	return time.UnixMilli(millis).UTC().Format("2006-01-02T15:04:05.000Z")
}

func (a *audit) inclusion() (string, error) {
	in, c := a.bundle.Entry, a.verdict.Checkpoint
	leaf := ledger.LeafHash(in.Data)
	if err := ledger.CheckInclusion(in.Path, c.Size, c.Root, in.Index, leaf); err != nil {
		return "", err
	}
	return fmt.Sprintf("leaf %x is entry %d of %d under root %x", leaf[:], in.Index, c.Size, c.Root), nil
}

func (a *audit) entry() (string, error) {
	in, c := a.bundle.Entry, a.verdict.Checkpoint
	e, err := fsm.ParseEntry(in.Data)
	switch {
	case err != nil:
		return "", err
	case e.Region != c.Region() || e.Index != in.Index:
		return "", fmt.Errorf("it says entry %d of region %q, and stands as entry %d of region %q", e.Index, e.Region, in.Index, c.Region())
	case e.TimeMillis > c.TimeMillis:
		return "", fmt.Errorf("it is of %s, after the checkpoint's log time", when(e.TimeMillis))
	}
	a.verdict.Entry = e
	told := fmt.Sprintf("entry %d of region %s at %s: ", e.Index, e.Region, when(e.TimeMillis))
	if e.Envelope == nil {
		return told + fmt.Sprintf("%s, document version %d", e.Kind, e.Outcome.Document), nil
	}
	told += fmt.Sprintf("%s by %s: ", e.Envelope.Payload.Action, e.Envelope.Sender.AgentID)
	if e.Outcome.Code != pci.Success {
		return told + fmt.Sprintf("refused, %v (%s)", e.Outcome.Code, e.Outcome.Reason), nil
	}
	told += "accepted"
	if e.Outcome.Head != "" {
		told += fmt.Sprintf(", session %s is %s, head %s", e.Outcome.Session, e.Outcome.State, e.Outcome.Head)
	}
	return told, nil
}

func (a *audit) signature() (string, error) {
	e := a.verdict.Entry
	if e.Envelope == nil {
		return fmt.Sprintf("an entry of kind %s records no proof, so nobody signed one", e.Kind), nil
	}
	if err := e.Envelope.Verify(); err != nil {
		return "", err
	}
	return fmt.Sprintf("digest %x is signed by key %x", e.Envelope.Digest(), e.Envelope.Sender.PublicKey), nil
}

func (a *audit) state() (string, error) {
	h, c := a.bundle.State, a.verdict.Checkpoint
	key := prefixtree.KeyHash(fsm.SessionKey(h.Session))
	if h.Record == nil {
		if err := h.Proof.Verify(c.State, key, nil); err != nil {
			return "", err
		}
		return fmt.Sprintf("there was no session %q", h.Session), nil
	}
	value := prefixtree.ValueHash(h.Record)
	if err := h.Proof.Verify(c.State, key, &value); err != nil {
		return "", err
	}
	s, err := fsm.ParseSession(h.Record)
	if err != nil {
		return "", err
	}
	a.verdict.Session = s
	if len(s.Tips) == 0 {
		return fmt.Sprintf("session %s was over, its last node %v (%v)", s.ID, s.Last.Hash, s.Last.State), nil
	}
	heads := make([]string, 0, len(s.Tips))
	for _, t := range s.Tips {
		heads = append(heads, fmt.Sprintf("%v (%v)", t.Hash, t.State))
	}
	return fmt.Sprintf("session %s, opened by %s, could be built on at %s", s.ID, s.Opener, strings.Join(heads, ", ")), nil
}
