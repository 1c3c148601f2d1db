package fsm_test

import (
	"fmt"
	"testing"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/fsm/store/pebblestore"
	"github.com/bizra/bizra/internal/testfed"
)

// BenchmarkApply applies batches of 64 proofs that open sessions, on either store,
// with a seal every 4,096 proofs. ns/proof is what one costs; signatures are the leader's.
func BenchmarkApply(b *testing.B) {
	const batch, sealEvery = 64, 4096
	for name, open := range map[string]func() (store.Store, error){
		"memory": func() (store.Store, error) { return store.NewMemory(), nil },
		"pebble": func() (store.Store, error) { return pebblestore.Open(b.TempDir(), pebblestore.Options{}) },
	} {
		b.Run(name, func(b *testing.B) {
			fed := testfed.New(1, 3, testfed.Open)
			st, err := open()
			if err != nil {
				b.Fatal(err)
			}
			m, err := fsm.Open(st, fsm.Config{Region: "a"})
			if err != nil {
				b.Fatal(err)
			}
			agent := fed.Agent("x", start)
			index, proofs := uint64(0), 0
			apply := func(data []byte) fsm.Result {
				index++
				res, err := m.Apply([]fsm.Command{{Index: index, Term: 1, Data: data}})
				if err != nil {
					b.Fatal(err)
				}
				return res[0]
			}
			apply(fsm.EncodeGenesis(start, fed.Document.Canonical()))
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				canonical := make([][]byte, batch)
				for i := range canonical {
					canonical[i] = agent.Sign("session.open", map[string]any{"region": "a", "session": fmt.Sprintf("s%d", proofs+i)}, "").Canonical()
				}
				data := fsm.EncodeProofs(start, canonical)
				b.StartTimer()
				apply(data)
				if proofs += batch; proofs%sealEvery == 0 {
					apply(fed.Certify(apply(fsm.EncodeSeal()).Seal))
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(proofs), "ns/proof")
			if got := m.Size(); got != int64(proofs)+1 {
				b.Fatalf("%d entries of %d proofs", got, proofs)
			}
			if err := m.Close(); err != nil {
				b.Fatal(err)
			}
			if err := st.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
