package follow

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/store/pebblestore"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

// BenchmarkCatchUp commits proofs as a leader does, but for Raft and its disk, and then has a
// copy in another region catch up with all of them: decoding, signatures in batches and Apply
// in one, frames, signatures and re-execution in the other, both on Pebble. The copy keeps
// up as long as followed/s is not below committed/s.
func BenchmarkCatchUp(b *testing.B) {
	const proofs, batch, sealEvery = 16384, 64, 4096
	fed := testfed.New(2, 3, testfed.Open)
	agent := fed.Agent("x", logStart)
	raw := make([][]byte, proofs)
	for i := range raw {
		raw[i] = agent.Sign("session.open", map[string]any{"region": "a", "session": fmt.Sprintf("s%d", i)}, "").Canonical()
	}
	var committing, following time.Duration
	rounds := 0
	for b.Loop() {
		rounds++
		o := pebbleOrigin(b, fed)
		began := time.Now()
		for from := 0; from < proofs; from += batch {
			commit(b, o, raw[from:from+batch])
			if (from+batch)%sealEvery == 0 {
				o.seal()
			}
		}
		committing += time.Since(began)
		began = time.Now()
		catchUp(b, fed, o)
		following += time.Since(began)
	}
	total := float64(rounds * proofs)
	b.ReportMetric(total/committing.Seconds(), "committed/s")
	b.ReportMetric(total/following.Seconds(), "followed/s")
	b.ReportMetric(committing.Seconds()/following.Seconds(), "followed/committed")
}

// commit decodes and verifies proofs and applies them.
func commit(b *testing.B, o *origin, raw [][]byte) {
	envelopes := make([]*pci.Envelope, len(raw))
	canonical := make([][]byte, len(raw))
	for i, r := range raw {
		e, err := pci.Decode(r)
		if err != nil {
			b.Fatal(err)
		}
		envelopes[i], canonical[i] = e, e.Canonical()
	}
	if err := errors.Join(pci.VerifyBatch(envelopes)...); err != nil {
		b.Fatal(err)
	}
	o.apply(fsm.EncodeProofs(o.now, canonical))
}

func pebbleOrigin(b *testing.B, fed *testfed.Federation) *origin {
	st, err := pebblestore.Open(b.TempDir(), pebblestore.Options{Logger: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	o := &origin{t: b, fed: fed, region: "a", st: st, feed: NewFeed(0), now: logStart}
	if o.m, err = fsm.Open(st, fsm.Config{Region: "a"}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := errors.Join(o.m.Close(), st.Close()); err != nil {
			b.Error(err)
		}
	})
	o.apply(fsm.EncodeGenesis(o.now, fed.Document.Canonical()))
	return o
}

// catchUp follows an origin with an empty copy until that has all of it.
func catchUp(b *testing.B, fed *testfed.Federation, o *origin) {
	dir := b.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	n := newMesh(ctx)
	n.add("v1", serves(o.server()))
	s, err := NewCopies(CopiesConfig{Host: namedHost{id: "follower"}, Regions: []string{"a"}, Peers: func(string) []peer.ID { return n.list() }, Logger: quiet(),
		Open: func(region string) (CopyReplica, error) {
			st, err := pebblestore.Open(dir, pebblestore.Options{Logger: quiet()})
			if err != nil {
				return nil, err
			}
			return OpenCopy(st, fsm.Config{Region: region, Document: documentOf(fed.Document)})
		},
		Discard: func(string) error { return errors.New("not here") },
		Follow:  Config{open: n.open}})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := s.Of("a").AwaitBody(ctx, o.m.Size()); err != nil {
		b.Fatal(err)
	}
	cancel()
	if err := s.Close(); err != nil {
		b.Error(err)
	}
	n.wg.Wait()
}
