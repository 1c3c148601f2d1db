// Package testregion runs the state machine of one region in memory, with the other
// regions' keys at hand, so that tests have ledgers, certificates and bundles that
// are real. It is imported by tests alone.
package testregion

import (
	"testing"

	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

// Start is the log time of the genesis entry: 2026-03-02T12:00:00Z.
const Start = 1_772_452_800_000

// CosignSeconds is when the other regions cosign.
const CosignSeconds = 1_772_452_801

// Region is a founded region.
type Region struct {
	Fed     *testfed.Federation
	Name    string
	Machine *fsm.Machine
	Now     int64 // the leader's clock, Unix milliseconds

	t        testing.TB
	operator *testfed.Signer
	index    uint64
}

// New founds a region of a federation.
func New(t testing.TB, fed *testfed.Federation, name string) *Region {
	t.Helper()
	m, err := fsm.Open(store.NewMemory(), fsm.Config{Region: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	r := &Region{Fed: fed, Name: name, Machine: m, Now: Start, t: t, operator: fed.Operator(name, Start)}
	r.Apply(fsm.EncodeGenesis(r.Now, fed.Document.Canonical()))
	return r
}

// Apply applies a Raft command.
func (r *Region) Apply(data []byte) fsm.Result {
	r.t.Helper()
	r.index++
	results, err := r.Machine.Apply([]fsm.Command{{Index: r.index, Term: 1, Data: data}})
	if err != nil {
		r.t.Fatal(err)
	}
	return results[0]
}

// Submit applies proofs.
func (r *Region) Submit(proofs ...*pci.Envelope) []fsm.Receipt {
	r.t.Helper()
	var canonical [][]byte
	for _, p := range proofs {
		canonical = append(canonical, p.Canonical())
	}
	return r.Apply(fsm.EncodeProofs(r.Now, canonical)).Receipts
}

// Accept applies one proof, which must be accepted.
func (r *Region) Accept(proof *pci.Envelope) fsm.Receipt {
	r.t.Helper()
	rec := r.Submit(proof)[0]
	if !rec.Accepted() {
		r.t.Fatalf("%s: %v (%s)", proof.Payload.Action, rec.Code, rec.Reason)
	}
	return rec
}

// Session registers an agent and has it open a session and make it active.
func (r *Region) Session(agent, id string) (*testfed.Signer, fsm.Receipt) {
	r.t.Helper()
	a := r.Fed.Agent(agent, r.Now)
	r.Accept(r.operator.Register(r.Name, a))
	opened := r.Accept(a.Sign("session.open", map[string]any{"region": r.Name, "session": id}, ""))
	return a, r.Accept(a.Sign("session.transition", testfed.Transition(id, "active"), opened.Head))
}

// Seal seals the ledger; something must have been appended since the last seal.
func (r *Region) Seal() *fsm.Seal {
	r.t.Helper()
	seal := r.Apply(fsm.EncodeSeal()).Seal
	if seal == nil {
		r.t.Fatal("nothing was sealed")
	}
	return seal
}

// View reads the state as it is now.
func (r *Region) View() *fsm.View {
	r.t.Helper()
	v, err := r.Machine.View()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = v.Close() })
	return v
}

// Certify has the region sign a seal and as many others cosign it as make a quorum.
func (r *Region) Certify(seal *fsm.Seal) []byte {
	r.t.Helper()
	return Certify(r.t, r.Fed, seal.Checkpoint())
}

// Certify makes the certificate of a checkpoint.
func Certify(t testing.TB, fed *testfed.Federation, c *checkpoint.Checkpoint) []byte {
	t.Helper()
	note, err := checkpoint.Sign(c, fed.LogKeys[c.Region()])
	if err != nil {
		t.Fatal(err)
	}
	cert, err := certificate.Assemble(note, Cosign(t, fed, c), fed.Document)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Cosign gives every other region's cosignature of a checkpoint.
func Cosign(t testing.TB, fed *testfed.Federation, c *checkpoint.Checkpoint) map[string][]byte {
	t.Helper()
	lines := make(map[string][]byte, len(fed.Document.Regions))
	for i := range fed.Document.Regions {
		name := fed.Document.Regions[i].Name
		if name == c.Region() {
			continue
		}
		line, err := certificate.Cosign(c.Body(), name, fed.Cosign[name], CosignSeconds)
		if err != nil {
			t.Fatal(err)
		}
		lines[name] = line
	}
	return lines
}

// Bundle makes the bundle of an entry, and of a session if one is named, under a seal,
// which must be the last for the session's state.
func (r *Region) Bundle(seal *fsm.Seal, index int64, session string) *certificate.Bundle {
	r.t.Helper()
	entry, err := certificate.Include(r.View().Ledger(), index, seal.Size)
	if err != nil {
		r.t.Fatal(err)
	}
	b := &certificate.Bundle{Certificate: r.Certify(seal), Entry: entry}
	if session != "" {
		proof, err := r.Machine.ProveState(fsm.SessionKey(session))
		if err != nil {
			r.t.Fatal(err)
		}
		b.State = certificate.Hold(session, proof)
	}
	return b
}

// Document is the federation document of the region.
func (r *Region) Document() *federation.Document { return r.Fed.Document }
