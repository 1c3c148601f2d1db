package region

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

// What the cache answers is what the store behind it holds, whatever was appended, cut off and written anew, and it keeps no
// more than it may.
func TestLogCache(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := &countedReads{fakeLog: newFakeLog()}
		c := newLogCache(store)
		c.ring, c.bytesMax = c.ring[:16], 16*(logOverheadBytes+40)
		next, first, kept, read := uint64(1), uint64(1), 0, 0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0: // the front is cut
				if next > first {
					last := rapid.Uint64Range(first, next-1).Draw(t, "last")
					must(t, c.DeleteRange(first, last))
					if first = last + 1; first == next { // an empty log may go on anywhere
						next += rapid.Uint64Range(0, 3).Draw(t, "gap")
						first = next
					}
				}
			case 1: // a conflict
				if next > first {
					at := rapid.Uint64Range(first, next-1).Draw(t, "from")
					must(t, c.DeleteRange(at, next-1))
					next = at
				}
			default:
				var logs []*raft.Log
				for range rapid.IntRange(1, 20).Draw(t, "entries") {
					logs = append(logs, &raft.Log{Index: next, Term: rapid.Uint64().Draw(t, "term"), Data: make([]byte, rapid.IntRange(0, 100).Draw(t, "bytes"))})
					next++
				}
				must(t, c.StoreLogs(logs))
			}
			if c.bytes > c.bytesMax || c.count > uint64(len(c.ring)) {
				t.Fatalf("%d entries of %d bytes are kept", c.count, c.bytes)
			}
			for i := max(first, 3) - 2; i < next+2; i++ {
				var got, want raft.Log
				before := store.reads
				err := c.GetLog(i, &got)
				if store.reads == before {
					kept++
				} else {
					read++
				}
				if wantErr := store.InmemStore.GetLog(i, &want); !errors.Is(err, wantErr) || got.Index != want.Index || got.Term != want.Term {
					t.Fatalf("entry %d is %v (%v), want %v (%v)", i, got.Term, err, want.Term, wantErr)
				}
			}
		}
		if kept == 0 && read > 50 {
			t.Fatalf("%d reads, none of them from memory", read)
		}
	})
}

func must(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

type countedReads struct {
	*fakeLog
	reads int
}

func (c *countedReads) GetLog(index uint64, log *raft.Log) error {
	c.reads++
	return c.fakeLog.GetLog(index, log)
}

// Large entries push small ones out of the cache, and one that is larger than all of it is not kept.
func TestLogCacheBytes(t *testing.T) {
	c := newLogCache(newFakeLog())
	entry := func(index uint64, bytes int) *raft.Log { return &raft.Log{Index: index, Data: make([]byte, bytes)} }
	for i := uint64(1); i <= 200; i++ {
		if err := c.StoreLog(entry(i, 512<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if c.bytes > logCacheBytes || c.count != logCacheBytes/(512<<10+logOverheadBytes) {
		t.Errorf("%d entries of %d bytes are kept", c.count, c.bytes)
	}
	if err := c.StoreLog(entry(201, logCacheBytes)); err != nil || c.count != 0 || c.bytes != 0 {
		t.Errorf("%d entries of %d bytes are kept: %v", c.count, c.bytes, err)
	}
	if err := c.StoreLog(entry(202, 1)); err != nil || c.count != 1 {
		t.Errorf("%d entries are kept after it: %v", c.count, err)
	}
}

// The log after a snapshot is what TrailingEntries and TrailingBytes both leave.
func TestLogIsCutByBytes(t *testing.T) {
	const entryBytes = 256<<10 - logOverheadBytes // four to a mark
	for name, c := range map[string]struct {
		trailing, bytes, needed uint64
		wantFirst               uint64
	}{
		"entries bind":                        {10, 100 << 20, 0, 91},
		"bytes bind":                          {90, 4 << 20, 0, 86}, // marks at 1, 5, 9 … 97
		"all is within both":                  {100, 100 << 20, 0, 1},
		"bytes bind, but a receiver needs it": {90, 4 << 20, 40, 40},
		"and more of it than is kept for one": {90, 1 << 20, 40, 98},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLogStore(&watched{backing: newFakeLog(), limit: time.Minute}, func() bool { return true }, func(bool) {})
			l.trailing, l.trailingBytes, l.neededMax = c.trailing, c.bytes, 100
			l.needed = func() uint64 { return c.needed }
			for i := uint64(1); i <= 100; i++ {
				if err := l.StoreLog(&raft.Log{Index: i, Term: 1, Data: make([]byte, entryBytes)}); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.DeleteRange(1, 99); err != nil {
				t.Fatal(err)
			}
			if first, last, err := span(l); err != nil || first != c.wantFirst || last != 100 {
				t.Errorf("entries %d to %d are left, want %d to 100: %v", first, last, c.wantFirst, err)
			}
		})
	}
}

// Few large entries make a snapshot due as many small ones do, and the log stays within its bytes.
func TestLargeEntriesMakeASnapshotDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const snapshotBytes, trailingBytes = 4 << 20, 2 << 20
		c := newCluster(t, 3, func(_ raft.ServerID, cfg *Config) {
			cfg.SnapshotBytes, cfg.TrailingBytes = snapshotBytes, trailingBytes
		})
		c.start()
		l := c.leader(10 * time.Second)
		text := strings.Repeat("x", 40<<10)
		for i := range 500 { // 20 MB
			if err := l.propose(5*time.Second, fmt.Sprint(i, text)); err != nil {
				t.Fatal(err)
			}
		}
		c.agree(10 * time.Second)
		for _, n := range c.nodes {
			until(t, 10*time.Second, "snapshots at "+string(n.id), func() bool { return n.current().Status().SnapshotIndex > 100 })
			first, err1 := n.log.FirstIndex()
			last, err2 := n.log.LastIndex()
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			bytes := 0
			for i := first; i <= last; i++ {
				var log raft.Log
				if err := n.log.GetLog(i, &log); err != nil {
					t.Fatal(err)
				}
				bytes += len(log.Data)
			}
			if bytes > snapshotBytes+trailingBytes+2*markBytes {
				t.Errorf("the log of %s takes %d bytes, entries %d to %d", n.id, bytes, first, last)
			}
		}
		c.stop()
	})
}
