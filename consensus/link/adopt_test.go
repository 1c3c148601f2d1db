package link

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

// A document travels with its proof to the leader, from any node, whatever its size, and
// into the log only for an operator.
func TestAdoptTravels(t *testing.T) {
	for _, from := range []int{0, 1, 3} {
		t.Run(fmt.Sprintf("node %d", from), func(t *testing.T) {
			c := newCast(t, 3, 1, nil)
			c.lead(0)
			document := bytes.Repeat([]byte("d"), federation.DocumentBytesMax)
			proof := c.fed.Operator("a", startMillis).Sign(fsm.ActionFederationAdopt, c.fed.Next(testfed.Stricter).Adopts(), "")
			o, err := c.intakes[from].Adopt(t.Context(), proof.Canonical(), document)
			if err != nil || o.Reject != nil || o.Receipt.Digest != proof.Digest() {
				t.Fatalf("outcome %+v, %v", o, err)
			}
			leader := c.regions[0]
			if len(leader.documents) != 1 || !bytes.Equal(leader.documents[0], document) {
				t.Fatalf("%d documents came to the leader", len(leader.documents))
			}
			theirs := c.agent.Sign(fsm.ActionFederationAdopt, c.fed.Next(testfed.Stricter).Adopts(), "")
			if o, err := c.intakes[from].Adopt(t.Context(), theirs.Canonical(), document); err != nil || o.Reject != nil {
				t.Fatalf("an agent's: %+v, %v", o, err)
			}
			if calls := leader.calls(); len(leader.documents) != 1 || len(calls) != 2 || calls[1][0].Digest() != theirs.Digest() {
				t.Errorf("an agent's document was proposed: %d documents in %d calls", len(leader.documents), len(calls))
			}
			if o, err := c.intakes[from].Adopt(t.Context(), forged(proof.Canonical()), document); err != nil || o.Reject == nil || o.Reject.Code != pci.RejectSignature {
				t.Errorf("a forged one: %+v, %v", o, err)
			}
			for name, in := range c.intakes {
				if s := in.Stats(); s.InFlight != 0 {
					t.Errorf("node %d holds %d", name, s.InFlight)
				}
			}
		})
	}
}

func TestAdoptLimits(t *testing.T) {
	c := newCast(t, 3, 0, nil)
	c.lead(0)
	raw := c.proofs(2)
	for _, from := range []int{0, 1} {
		if _, err := c.intakes[from].Adopt(t.Context(), raw[0], make([]byte, federation.DocumentBytesMax+1)); err == nil {
			t.Error("a document of more than the limit was taken")
		} else {
			mustBe(t, err, ErrTooLarge)
		}
	}
	for hops, request := range []submitRequest{
		{Proofs: raw, Document: []byte("d")},
		{Proofs: raw[:1], Document: make([]byte, federation.DocumentBytesMax+1)},
		{Proofs: raw, Document: []byte("d"), Hops: 1},
		{Document: []byte("d"), Hops: 1},
	} {
		var response submitResponse
		if err := p2p.Call(t.Context(), c.nodes[1].host, c.nodes[0].id(), p2p.ProtocolSubmit, &request, &response); err != nil {
			t.Fatal(err)
		}
		if response.Failure == nil || response.Failure.Code != failTooLarge {
			t.Errorf("request %d was answered %+v", hops, response)
		}
	}
	// The largest submission with a document fits in a request.
	b, err := p2p.Marshal(&submitRequest{Proofs: [][]byte{make([]byte, pci.EnvelopeBytesMax)}, Document: make([]byte, federation.DocumentBytesMax), Hops: 1, TimeoutMillis: 1 << 60})
	if err != nil || len(b)+1 > submitRequestBytesMax {
		t.Errorf("%d bytes, at most %d: %v", len(b), submitRequestBytesMax, err)
	}
}

// The courier puts nothing beside a proof with its document.
func TestCourierCarriesADocumentAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var calls []int
		gate := make(chan struct{})
		c := newCourier(1, func(_ peer.ID, raw [][]byte, document []byte) (*submitResponse, error) {
			mu.Lock()
			defer mu.Unlock()
			if calls = append(calls, len(raw)); (document != nil) != (string(raw[0]) == "adopts") || document != nil && len(raw) != 1 {
				t.Errorf("%q went with a document of %d bytes", raw, len(document))
			}
			<-gate
			return &submitResponse{Outcomes: make([]wireOutcome, len(raw))}, nil
		})
		for _, text := range []string{"first", "a", "adopts", "b", "adopts", "c"} {
			var document []byte
			if text == "adopts" {
				document = []byte("document")
			}
			go func() { _, _ = c.carry(t.Context(), "x", [][]byte{[]byte(text)}, document) }()
			synctest.Wait()
		}
		close(gate)
		synctest.Wait()
		c.close()
		if want := []int{1, 3, 1, 1}; fmt.Sprint(calls) != fmt.Sprint(want) {
			t.Errorf("calls with %v proofs, want %v", calls, want)
		}
	})
}

// An operator's entry makes a voter also after other operators have come in force.
func TestKeysAreHandedOverAfterTheOperatorsChanged(t *testing.T) {
	fed := testfed.New(1, 1, testfed.Open)
	m, node := newMachine(t, fed), testfed.Key("new-node")
	op := fed.Operator("a", startMillis)
	index := m.submit(t, op.Sign(fsm.ActionRegionVoter, voterChange(fsm.VoterAdd, node.Public(), "a-2"), ""))
	next := fed.Next(func(d *federation.Document) { d.Regions[0].Operators = []federation.Key{testfed.Key("fresh").Public()} })
	if r := m.apply(t, fsm.EncodeAdopt(startMillis, op.Sign(fsm.ActionFederationAdopt, next.Adopts(), "").Canonical(), next.Document.Canonical()))[0].Receipts[0]; !r.Accepted() {
		t.Fatalf("refused: %s", r.Message())
	}
	err := m.read(t.Context(), func(v StateView) error { return namedBy(v, "a", node.Public(), index) })
	if err != nil {
		t.Errorf("an entry of the operator of then: %v", err)
	}
}
