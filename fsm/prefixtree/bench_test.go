package prefixtree

import (
	"encoding/binary"
	"testing"

	"github.com/bizra/bizra/fsm/store"
)

const (
	benchPairs   = 1_000_000
	benchChanges = 1000
)

func benchKey(n int) [32]byte { return KeyHash(binary.BigEndian.AppendUint64(nil, uint64(n))) }

func benchBatch(first, count, version int) []Change {
	batch := make([]Change, count)
	for i := range batch {
		key := benchKey(first + i)
		value := ValueHash(binary.BigEndian.AppendUint64(key[:], uint64(version)))
		batch[i] = Change{key, &value}
	}
	return batch
}

// BenchmarkUpdate overwrites benchChanges leaves a batch in a tree of benchPairs leaves; ns/leaf is what counts.
func BenchmarkUpdate(b *testing.B) {
	b.Run("map", func(b *testing.B) {
		kv := newMemory()
		mustUpdateB(b, kv, benchBatch(0, benchPairs, 0))
		kv.gets, kv.sets = 0, 0
		leaves := batches(b, func(batch []Change) { mustUpdateB(b, kv, batch) })
		b.ReportMetric(float64(kv.gets)/float64(leaves), "reads/leaf")
		b.ReportMetric(float64(kv.sets)/float64(leaves), "writes/leaf")
	})
	b.Run("memory store", func(b *testing.B) {
		st := store.NewMemory()
		update := func(batch []Change) {
			txn := store.NewTxn(st)
			mustUpdateB(b, txn, batch)
			if err := st.Commit(txn.Writes()); err != nil {
				b.Fatal(err)
			}
		}
		update(benchBatch(0, benchPairs, 0))
		batches(b, update)
	})
}

// batches times update on one batch after another and returns how many leaves it changed.
func batches(b *testing.B, update func([]Change)) int {
	n := 0
	for b.Loop() {
		b.StopTimer()
		batch := benchBatch(n*benchChanges%benchPairs, benchChanges, n+1)
		n++
		b.StartTimer()
		update(batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n*benchChanges), "ns/leaf")
	return n * benchChanges
}

func mustUpdateB(b *testing.B, kv KV, changes []Change) {
	b.Helper()
	if _, err := Update(kv, changes); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkProve(b *testing.B) {
	kv := newMemory()
	mustUpdateB(b, kv, benchBatch(0, benchPairs, 0))
	root, err := Root(kv)
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for b.Loop() {
		key := benchKey(n % (2 * benchPairs))
		p, err := Prove(kv, key)
		if err != nil || p.Member() != (n%(2*benchPairs) < benchPairs) {
			b.Fatal(n, err)
		}
		if !p.Member() {
			if err := p.Verify(root, key, nil); err != nil {
				b.Fatal(err)
			}
		}
		n++
	}
}
