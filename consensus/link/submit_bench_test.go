package link

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/pci"
)

func BenchmarkSubmitOne(b *testing.B) {
	in, agentProof := benchIntake(b)
	raw := [][]byte{agentProof}
	for b.Loop() {
		if _, err := in.lead(b.Context(), &submission{raw: raw, source: &source{place: -1}}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSubmitFull(b *testing.B) {
	in, agentProof := benchIntake(b)
	raw := slices.Repeat([][]byte{agentProof}, SubmitProofsMax)
	for b.Loop() {
		if _, err := in.lead(b.Context(), &submission{raw: raw, source: &source{place: -1}}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*SubmitProofsMax), "ns/proof")
}

func benchIntake(b *testing.B) (*Intake, []byte) {
	b.Helper()
	self := raft.ServerID("self")
	r := &fakeRegion{self: self, leader: &atomic.Pointer[raft.ServerID]{}}
	r.leader.Store(&self)
	cfg := IntakeConfig{Region: receiptless{r}}.withDefaults()
	return &Intake{cfg: cfg, verifier: newVerifier(cfg.Workers)}, proof(testSigner())
}

// receiptless proposes without remembering.
type receiptless struct{ *fakeRegion }

func (receiptless) Propose(_ context.Context, envelopes []*pci.Envelope) ([]fsm.Receipt, error) {
	return make([]fsm.Receipt, len(envelopes)), nil
}

// How fast single proofs of many clients go through a node that does not lead.
func BenchmarkForwardSingles(b *testing.B) {
	for _, from := range []int{0, 1} {
		b.Run(fmt.Sprintf("node %d", from), func(b *testing.B) {
			c := newCast(b, 3, 0, nil)
			c.lead(0)
			raw := c.proofs(1)
			b.SetParallelism(64)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := c.intakes[from].Submit(b.Context(), raw); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(c.intakes[from].Stats().Forwarded)/float64(b.N), "calls/op")
		})
	}
}
