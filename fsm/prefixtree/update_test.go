package prefixtree

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm/store"
)

func TestUpdateMatchesTwin(t *testing.T) {
	var inserted, overwritten, deleted, idle int
	rapid.Check(t, func(t *rapid.T) {
		kv, set := newMemory(), pairs{}
		for range rapid.IntRange(1, 8).Draw(t, "batches") {
			batch := anyBatch().Draw(t, "batch")
			for _, c := range batch {
				old, there := set[c.Key]
				switch {
				case c.Value == nil && there:
					deleted++
				case c.Value == nil || there && old == *c.Value:
					idle++
				case there:
					overwritten++
				default:
					inserted++
				}
				set.apply([]Change{c})
			}
			before := maps.Clone(kv.records)
			kv.gets, kv.sets, kv.deletes = 0, 0, 0
			root := mustUpdate(t, kv, batch)
			if want := twinRoot(set); root != want {
				t.Fatalf("root %x, twin has %x", root, want)
			}
			checkStored(t, kv, set, root)
			if maps.EqualFunc(before, kv.records, bytes.Equal) && kv.sets+kv.deletes > 0 {
				t.Fatalf("%d sets and %d deletes changed nothing", kv.sets, kv.deletes)
			}
		}
	})
	if min(inserted, overwritten, deleted, idle) < 50 {
		t.Fatalf("too little was tried: %d inserted, %d overwritten, %d deleted, %d without effect", inserted, overwritten, deleted, idle)
	}
}

// checkStored checks that kv holds exactly the records of set's tree.
func checkStored(t fataler, kv *memory, set pairs, root [32]byte) {
	t.Helper()
	if stored, err := Root(kv); err != nil || stored != root {
		t.Fatalf("Root = %x, %v; want %x", stored, err, root)
	}
	if built := Build(maps.All(set)); built != root {
		t.Fatalf("Build = %x, want %x", built, root)
	}
	walked := pairs{}
	var last []byte
	err := Walk(kv, func(key, value [32]byte) error {
		if last != nil && bytes.Compare(last, key[:]) >= 0 {
			t.Fatalf("Walk visits %x after %x", key, last)
		}
		last = bytes.Clone(key[:])
		walked[key] = value
		return nil
	})
	if err != nil || !maps.Equal(walked, set) {
		t.Fatalf("Walk: %v, %d pairs of %d", err, len(walked), len(set))
	}
	if len(kv.records) != len(set) {
		t.Fatalf("%d records for %d pairs", len(kv.records), len(set))
	}
	for k := range kv.records {
		if k[0] != KeyPrefix {
			t.Fatalf("record under %x", k)
		}
	}
}

func TestCanonicalWhateverTheWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := pairs{}
		wandering := newMemory()
		for range rapid.IntRange(0, 4).Draw(t, "batches") {
			batch := anyBatch().Draw(t, "batch")
			set.apply(batch)
			mustUpdate(t, wandering, batch)
		}
		direct := newMemory()
		mustUpdate(t, direct, rapid.Permutation(set.changes()).Draw(t, "order"))
		single := newMemory()
		for _, c := range rapid.Permutation(set.changes()).Draw(t, "order one by one") {
			mustUpdate(t, single, []Change{c})
		}
		for _, other := range []*memory{direct, single} {
			if !maps.EqualFunc(wandering.records, other.records, bytes.Equal) {
				t.Fatalf("same set, different records: %d and %d", len(wandering.records), len(other.records))
			}
		}
	})
}

func TestDeletingEverythingLeavesNothing(t *testing.T) {
	for _, set := range []pairs{numbered(1), numbered(2), numbered(1000), ladder()} {
		for _, batchSize := range []int{1, 7, len(set)} {
			kv := newMemory()
			mustUpdate(t, kv, set.changes())
			if len(kv.records) != len(set) {
				t.Fatalf("%d records for %d pairs", len(kv.records), len(set))
			}
			deletes := set.changes()
			for i := range deletes {
				deletes[i].Value = nil
			}
			var root [32]byte
			for batch := range slices.Chunk(deletes, batchSize) {
				root = mustUpdate(t, kv, batch)
			}
			if len(kv.records) != 0 || root != EmptyRoot() {
				t.Fatalf("%d pairs deleted %d at a time: %d records left, root %x", len(set), batchSize, len(kv.records), root)
			}
		}
	}
}

func TestUpdateTakesTheLastChangeOfAKey(t *testing.T) {
	a, b := [32]byte{1}, [32]byte{2}
	key := [32]byte{9}
	for _, tc := range []struct {
		name    string
		changes []Change
		want    pairs
	}{
		{"set twice", []Change{{key, &a}, {key, &b}}, pairs{key: b}},
		{"set, delete", []Change{{key, &a}, {key, nil}}, pairs{}},
		{"delete, set", []Change{{key, nil}, {key, &a}}, pairs{key: a}},
		{"with others between", []Change{{key, &a}, {a, &a}, {key, nil}, {b, &b}, {key, &b}}, pairs{key: b, a: a, b: b}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			kv := newMemory()
			given := slices.Clone(tc.changes)
			if got := mustUpdate(t, kv, tc.changes); got != twinRoot(tc.want) {
				t.Fatalf("root %x", got)
			}
			if !slices.Equal(given, tc.changes) {
				t.Fatal("Update changed its argument")
			}
		})
	}
}

func TestUpdateReadsAndWritesEachNodeOnce(t *testing.T) {
	kv := newMemory()
	set := numbered(4096)
	mustUpdate(t, kv, set.changes())
	kv.gets, kv.sets = 0, 0
	changes := set.changes()
	for i := range changes {
		changes[i].Value = &[32]byte{byte(i), 1}
	}
	mustUpdate(t, kv, changes)
	if kv.gets != 4096 || kv.sets != 4096 {
		t.Fatalf("overwriting all of 4096 pairs took %d reads and %d writes, want one a record", kv.gets, kv.sets)
	}
	kv.gets, kv.sets, kv.deletes = 0, 0, 0
	mustUpdate(t, kv, changes)
	mustUpdate(t, kv, nil)
	mustUpdate(t, kv, []Change{{Key: [32]byte{1, 2, 3}}})
	if kv.sets+kv.deletes != 0 {
		t.Fatalf("updates without effect wrote %d records and deleted %d", kv.sets, kv.deletes)
	}
}

func TestUpdateInSeveralPasses(t *testing.T) {
	set := numbered(changesPerPassMax + 5000)
	changes := set.changes()
	dropped := changes[0].Key
	changes = append(changes, Change{Key: dropped})
	delete(set, dropped)
	kv := newMemory()
	checkStored(t, kv, set, mustUpdate(t, kv, changes))
}

func TestUpdateOnTransaction(t *testing.T) {
	st := store.NewMemory()
	set := numbered(300)
	for batch := range slices.Chunk(set.changes(), 100) {
		txn := store.NewTxn(st)
		mustUpdate(t, txn, batch)
		if err := st.Commit(txn.Writes()); err != nil {
			t.Fatal(err)
		}
	}
	root, err := Root(st)
	if err != nil || root != twinRoot(set) {
		t.Fatalf("Root = %x, %v", root, err)
	}
	for key, value := range set {
		if err := mustProve(t, st, key).Verify(root, key, &value); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRecordSizeLimit(t *testing.T) {
	kv := newMemory()
	mustUpdate(t, kv, pairs{{}: {}, {31: 1}: {}}.changes())
	longest := 0
	for _, record := range kv.records {
		longest = max(longest, len(record))
	}
	if longest != NodeBytesMax {
		t.Fatalf("two neighbouring leaves make a record of %d bytes, NodeBytesMax is %d", longest, NodeBytesMax)
	}
}

func TestEveryDamagedByteIsNoticed(t *testing.T) {
	set := numbered(40)
	kv := newMemory()
	mustUpdate(t, kv, set.changes())
	overwrite := set.changes()
	for i := range overwrite {
		overwrite[i].Value = &[32]byte{0xee}
	}
	tried := 0
	check := func(what string, damaged *memory) {
		t.Helper()
		tried++
		if err := Walk(damaged, func(_, _ [32]byte) error { return nil }); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s: Walk: %v", what, err)
		}
		failed := 0
		for key := range set {
			if _, err := Prove(damaged, key); errors.Is(err, ErrCorrupt) {
				failed++
			} else if err != nil {
				t.Fatalf("%s: Prove: %v", what, err)
			}
		}
		if failed == 0 {
			t.Fatalf("%s: every Prove succeeded", what)
		}
		if _, err := Update(damaged, overwrite); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s: Update: %v", what, err)
		}
	}
	for key, record := range kv.records {
		for i := range record {
			damaged := kv.clone()
			damaged.records[key][i] ^= 1 << (i % 8)
			check(fmt.Sprintf("record %x, byte %d", key, i), damaged)
		}
		damaged := kv.clone()
		damaged.records[key] = record[:len(record)-1]
		check(fmt.Sprintf("record %x cut", key), damaged)
		damaged.records[key] = append(bytes.Clone(record), 0)
		check(fmt.Sprintf("record %x longer", key), damaged)
		damaged.records[key] = nil
		check(fmt.Sprintf("record %x empty", key), damaged)
		if key != string(topKey()) {
			delete(damaged.records, key)
			check(fmt.Sprintf("record %x missing", key), damaged)
		}
	}
	if tried < 40*60 {
		t.Fatalf("only %d damages tried", tried)
	}
}

func TestReadErrorsArePassedOn(t *testing.T) {
	set := numbered(16)
	whole := newMemory()
	mustUpdate(t, whole, set.changes())
	broken := errors.New("disk on fire")
	for name, run := range map[string]func(kv *memory) error{
		"Root":  func(kv *memory) error { _, err := Root(kv); return err },
		"Walk":  func(kv *memory) error { return Walk(kv, func(_, _ [32]byte) error { return nil }) },
		"Prove": func(kv *memory) error { _, err := Prove(kv, set.changes()[3].Key); return err },
		"Update": func(kv *memory) error {
			overwrite := set.changes()
			for i := range overwrite {
				overwrite[i].Value = &[32]byte{0xee}
			}
			_, err := Update(kv, overwrite)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			whole.gets = 0
			if err := run(whole.clone()); err != nil {
				t.Fatal(err)
			}
			for n := 0; ; n++ {
				kv := whole.clone()
				kv.failWith, kv.failGetAfter = broken, n
				err := run(kv)
				if err == nil {
					if n == 0 {
						t.Fatal("nothing was read")
					}
					return
				}
				if !errors.Is(err, broken) || errors.Is(err, ErrCorrupt) {
					t.Fatalf("read %d fails: %v", n, err)
				}
			}
		})
	}
	stop := errors.New("enough")
	if err := Walk(whole, func(_, _ [32]byte) error { return stop }); !errors.Is(err, stop) {
		t.Fatalf("Walk: %v", err)
	}
}
