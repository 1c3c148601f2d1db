package fsm_test

import (
	"fmt"
	"testing"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/fsm/store/pebblestore"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

// BenchmarkApply applies batches of 64 proofs under the default constitution, on either store, with a
// seal every 4,096 proofs: proofs that open sessions, and steps of 64 sessions by 8 agents, which go through every
// layer. ns/proof is what one costs; signatures are the leader's.
func BenchmarkApply(b *testing.B) {
	for _, on := range []struct {
		name string
		open func(b *testing.B) (store.Store, error)
	}{
		{"memory", func(*testing.B) (store.Store, error) { return store.NewMemory(), nil }},
		{"pebble", func(b *testing.B) (store.Store, error) { return pebblestore.Open(b.TempDir(), pebblestore.Options{}) }},
	} {
		b.Run(on.name+"/open", func(b *testing.B) {
			st, err := on.open(b)
			if err != nil {
				b.Fatal(err)
			}
			r := newApplyBench(b, st)
			r.run(func(i int) *pci.Envelope {
				return r.agents[i%len(r.agents)].Sign("session.open", open(fmt.Sprintf("s%d", r.proofs+i)), "")
			})
		})
		b.Run(on.name+"/transition", func(b *testing.B) {
			st, err := on.open(b)
			if err != nil {
				b.Fatal(err)
			}
			r := newApplyBench(b, st)
			heads := make([]string, applyBatch)
			r.apply(func(i int) *pci.Envelope {
				return r.agents[i%len(r.agents)].Sign("session.open", open(fmt.Sprintf("s%d", i)), "")
			}, func(i int, rec *fsm.Receipt) { heads[i] = rec.Head })
			steps := 0
			r.took = func(i int, rec *fsm.Receipt) {
				if heads[i] = rec.Head; i == applyBatch-1 {
					steps++
				}
			}
			r.run(func(i int) *pci.Envelope {
				return r.agents[i%len(r.agents)].Sign("session.transition", to(fmt.Sprintf("s%d", i), round[steps%len(round)]), heads[i])
			})
		})
	}
}

const applyBatch, applySealEvery = 64, 4096

// applyBench is a founded region and agents whose proofs are timed.
type applyBench struct {
	b      *testing.B
	m      *fsm.Machine
	st     store.Store
	agents []*testfed.Signer
	index  uint64
	proofs int
	took   func(i int, rec *fsm.Receipt)
}

func newApplyBench(b *testing.B, st store.Store) *applyBench {
	b.Helper()
	fed := testfed.New(1, 3, testfed.DefaultRules, testfed.Open)
	m, err := fsm.Open(st, fsm.Config{Region: "a"})
	if err != nil {
		b.Fatal(err)
	}
	r := &applyBench{b: b, m: m, st: st}
	for i := range 8 {
		r.agents = append(r.agents, fed.Agent(fmt.Sprintf("agent-%d", i), start))
	}
	r.command(fsm.EncodeGenesis(start, fed.Document.Canonical()))
	return r
}

func (r *applyBench) command(data []byte) []fsm.Receipt {
	r.index++
	results, err := r.m.Apply([]fsm.Command{{Index: r.index, Term: 1, Data: data}})
	if err != nil {
		r.b.Fatal(err)
	}
	return results[0].Receipts
}

// apply signs a batch with the clock stopped, and applies it with the clock running.
func (r *applyBench) apply(sign func(i int) *pci.Envelope, took func(i int, rec *fsm.Receipt)) {
	r.b.StopTimer()
	canonical := make([][]byte, applyBatch)
	for i := range canonical {
		canonical[i] = sign(i).Canonical()
	}
	data := fsm.EncodeProofs(start, canonical)
	r.b.StartTimer()
	receipts := r.command(data)
	r.b.StopTimer()
	for i := range receipts {
		if !receipts[i].Accepted() {
			r.b.Fatalf("%+v: %s", receipts[i], receipts[i].Message())
		}
		if took != nil {
			took(i, &receipts[i])
		}
	}
	r.b.StartTimer()
}

func (r *applyBench) run(sign func(i int) *pci.Envelope) {
	before := r.m.Size()
	r.b.ReportAllocs()
	for r.b.Loop() {
		r.apply(sign, r.took)
		if r.proofs += applyBatch; r.proofs%applySealEvery == 0 {
			r.command(fsm.EncodeSeal())
		}
	}
	r.b.ReportMetric(float64(r.b.Elapsed().Nanoseconds())/float64(r.proofs), "ns/proof")
	if got := r.m.Size() - before; got != int64(r.proofs) {
		r.b.Fatalf("%d entries of %d proofs", got, r.proofs)
	}
	if err := r.m.Close(); err != nil {
		r.b.Fatal(err)
	}
	if err := r.st.Close(); err != nil {
		r.b.Fatal(err)
	}
}
