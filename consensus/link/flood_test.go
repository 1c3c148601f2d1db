package link

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A client floods a node with bad signatures, a hundred times what it may owe, from several connections. What it costs is bounded by
// what it may owe, not by what it sends; and every proof of the others that send meanwhile is decided, none of them turned away.
func TestFloodOfBadSignaturesCostsAndStarvesNobody(t *testing.T) {
	const senders, rounds, each = 8, 50, 64
	c := newCast(t, 1, 0, nil)
	c.lead(0)
	in := c.intakes[0]
	bad := c.proofs(each)
	for i := range bad {
		bad[i] = forged(bad[i])
	}
	began := time.Now()
	var flood sync.WaitGroup
	var sent, turnedAway atomic.Int64
	evil := WithSource(t.Context(), "198.51.100.1")
	for range senders {
		flood.Go(func() {
			for range rounds {
				sent.Add(each)
				var over *OverloadedError
				outcomes, err := in.Submit(evil, bad)
				switch {
				case errors.As(err, &over):
					turnedAway.Add(each)
				case err != nil:
					t.Error(err)
				default:
					for _, o := range outcomes {
						if o.Reject == nil {
							t.Error("a bad signature was taken")
						}
					}
				}
			}
		})
	}
	honest := 0
	for _, ctx := range []context.Context{WithSource(t.Context(), "192.0.2.1"), t.Context()} {
		for range 50 {
			outcomes, err := in.Submit(ctx, c.proofs(1))
			if err != nil || outcomes[0].Reject != nil {
				t.Fatalf("an honest client: %+v, %v", outcomes, err)
			}
			honest++
		}
	}
	flood.Wait()
	// What was on its way when the debt came to its limit is looked at too: one submission of each sender. And the debt is
	// forgiven as time goes by.
	allowed := int64(badSignaturesBurst) + senders*each + int64(time.Since(began).Seconds()+1)*(badSignaturesPerSec+each)
	looked := sent.Load() - turnedAway.Load()
	t.Logf("%d bad signatures were sent, %d were looked at, at most %d; %d honest proofs were decided", sent.Load(), looked, allowed, honest)
	if looked > allowed || looked < badSignaturesBurst {
		t.Errorf("%d of %d bad signatures were looked at, want %d to %d", looked, sent.Load(), badSignaturesBurst, allowed)
	}
	if sent.Load() < 50*badSignaturesBurst {
		t.Errorf("only %d were sent: the test does not test", sent.Load())
	}
}
