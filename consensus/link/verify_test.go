package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

func testSigner() *testfed.Signer {
	return testfed.New(1, 1, testfed.Open).Agent("agent-1", startMillis)
}

// gated is a verifier whose batches wait at a gate, so that a test sees who shares one.
type gated struct {
	*verifier
	gate chan struct{}

	mu      sync.Mutex
	batches [][]string // agent ids
}

// newGated lets one batch through for each value in the gate; nil: all at once.
func newGated(workers int, gate chan struct{}) *gated {
	g := &gated{verifier: newVerifier(workers), gate: gate}
	g.verifyBatch = func(envs []*pci.Envelope) []error {
		var ids []string
		for _, e := range envs {
			ids = append(ids, e.Sender.AgentID)
		}
		g.mu.Lock()
		g.batches = append(g.batches, ids)
		g.mu.Unlock()
		if gate != nil {
			<-gate
		}
		return pci.VerifyBatch(envs)
	}
	return g
}

func (g *gated) seen() [][]string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.batches)
}

// submit verifies from a source of its own.
func (g *gated) submit(ctx context.Context, source string, raw ...[]byte) ([]verdict, error) {
	s, release, err := g.admit(sourceName{source, true}, raw)
	if err != nil {
		return nil, err
	}
	defer release()
	return g.verify(ctx, s, raw)
}

func proofsOf(id string, n int) [][]byte {
	agent := testfed.New(1, 1, testfed.Open).Agent(id, startMillis)
	raw := make([][]byte, n)
	for i := range raw {
		raw[i] = proof(agent)
	}
	return raw
}

// On an idle node nothing waits: one proof alone is verified on its caller's goroutine.
func TestVerifyAloneIsInline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(2, nil)
		verify := g.verifyBatch
		g.verifyBatch = func(envs []*pci.Envelope) []error {
			if !bytes.Contains(debug.Stack(), []byte("(*gated).submit")) {
				t.Error("verified on another goroutine")
			}
			return verify(envs)
		}
		for range 3 {
			if _, err := g.submit(t.Context(), "a", proofsOf("a", 1)...); err != nil {
				t.Fatal(err)
			}
		}
		if got := g.seen(); len(got) != 3 || g.busy != 0 {
			t.Errorf("batches %v, %d busy", got, g.busy)
		}
		g.close()
	})
}

// While many proofs are on their way through the node, one that comes waits for others, but not long.
func TestVerifyGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(2, nil)
		var releases []func()
		for i := range 2 * gatherShare * batchProofsMin { // on their way, past their verification
			_, release, err := g.admit(sourceName{fmt.Sprint("old ", i), true}, proofsOf("a", 1))
			if err != nil {
				t.Fatal(err)
			}
			releases = append(releases, release)
		}
		from := time.Now()
		if vs, err := g.submit(t.Context(), "alone", proofsOf("alone", 1)...); err != nil || vs[0].reject != nil {
			t.Fatalf("%+v, %v", vs, err)
		}
		if waited := time.Since(from); waited != gatherDelay {
			t.Errorf("one alone waited %v", waited)
		}
		const enough = 2 * batchProofsMin
		from = time.Now()
		var wg sync.WaitGroup
		for i := range enough {
			raw := proofsOf(fmt.Sprintf("agent-%d", i), 1)
			wg.Go(func() {
				if vs, err := g.submit(t.Context(), fmt.Sprint(i), raw...); err != nil || vs[0].reject != nil {
					t.Errorf("proof %d: %+v, %v", i, vs, err)
				}
			})
		}
		wg.Wait()
		if waited := time.Since(from); waited > gatherDelay {
			t.Errorf("%d together waited %v", enough, waited)
		}
		if got := len(g.seen()); got < 2 || got > 1+4 {
			t.Errorf("%d proofs in %d batches", 1+enough, got)
		}
		for _, release := range releases {
			release()
		}
		g.close()
	})
}

// While all cores are busy, what comes alone is put together.
func TestVerifyCoalescesUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(2, make(chan struct{}))
		var wg sync.WaitGroup
		const singles = 130
		for i := range singles {
			raw := proofsOf(fmt.Sprintf("agent-%d", i), 1)
			wg.Go(func() {
				vs, err := g.submit(t.Context(), fmt.Sprint(i), raw...)
				if err != nil || vs[0].reject != nil || string(vs[0].envelope.Canonical()) != string(raw[0]) {
					t.Errorf("proof %d: %+v, %v", i, vs, err)
				}
			})
			synctest.Wait()
		}
		close(g.gate)
		wg.Wait()
		g.close()
		// Two alone, for there were two free; of the others, each worker took half of what waited.
		got := g.seen()
		if len(got[0]) != 1 || len(got[1]) != 1 {
			t.Errorf("the first two batches are %v", got[:2])
		}
		if len(got) > 2+6 {
			t.Errorf("%d proofs took %d batches", singles, len(got))
		}
		for _, b := range got {
			if len(b) > batchProofsMax {
				t.Errorf("a batch of %d", len(b))
			}
		}
	})
}

// A large submission is spread over all cores, in batches of at most batchProofsMax.
func TestVerifySpreadsOverWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(4, make(chan struct{}))
		raw := proofsOf("a", 40)
		raw[17] = forged(raw[17])
		raw[33] = []byte("{")
		done := make(chan []verdict, 1)
		go func() {
			vs, _ := g.submit(t.Context(), "a", raw...)
			done <- vs
		}()
		synctest.Wait()
		if got := len(g.seen()); got != 4 {
			t.Errorf("%d batches run at once on 4 workers", got)
		}
		close(g.gate)
		vs := <-done
		for i, v := range vs {
			switch {
			case i == 17 && (v.reject == nil || v.reject.Code != pci.RejectSignature), i == 33 && (v.reject == nil || v.reject.Code != pci.RejectSchema):
				t.Errorf("proof %d: %+v", i, v)
			case i != 17 && i != 33 && (v.envelope == nil || string(v.envelope.Canonical()) != string(raw[i])):
				t.Errorf("proof %d: %+v", i, v)
			}
		}
		g.close()
	})
}

// A source that floods must not keep another's single proof waiting for all of its own.
func TestVerifySourcesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(1, make(chan struct{}))
		var wg sync.WaitGroup
		flood := proofsOf("flood", SubmitProofsMax)
		for range 4 {
			wg.Go(func() { _, _ = g.submit(t.Context(), "flood", flood...) })
		}
		synctest.Wait()
		quiet := proofsOf("quiet", 1)
		wg.Go(func() { _, _ = g.submit(t.Context(), "quiet", quiet...) })
		synctest.Wait()
		close(g.gate)
		wg.Wait()
		g.close()
		got := g.seen()
		at := slices.IndexFunc(got, func(b []string) bool { return slices.Contains(b, "quiet") })
		if at < 0 || at > 1 {
			t.Errorf("the quiet source's proof was in batch %d of %d", at, len(got))
		}
	})
}

// A source that was quiet for long has not saved up turns.
func TestVerifyTurnsAreNotSavedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(1, make(chan struct{}))
		old, release, err := g.admit(sourceName{name: "old"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		busy, releaseBusy, err := g.admit(sourceName{name: "busy"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer releaseBusy()
		var wg sync.WaitGroup
		verify := func(s *source, id string, n int) {
			wg.Go(func() { _, _ = g.verify(t.Context(), s, proofsOf(id, n)) })
			synctest.Wait()
		}
		verify(busy, "busy", SubmitProofsMax)
		for range SubmitProofsMax / batchProofsMax {
			g.gate <- struct{}{}
			synctest.Wait()
		}
		verify(busy, "first", 1)
		verify(old, "old", SubmitProofsMax)
		verify(busy, "second", 1)
		close(g.gate)
		wg.Wait()
		got := g.seen()
		first := slices.IndexFunc(got, func(b []string) bool { return slices.Contains(b, "old") })
		second := slices.IndexFunc(got, func(b []string) bool { return slices.Contains(b, "second") })
		if second > first+1 {
			t.Errorf("old's turn was batch %d, and the other's only batch %d of %d", first, second, len(got))
		}
	})
}

// While a source owes for bad signatures, nobody shares a batch with it, whether it is
// its turn or not.
func TestVerifySuspectsAreAlone(t *testing.T) {
	for _, evilFirst := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			g := newGated(1, make(chan struct{}, 10))
			g.gate <- struct{}{}
			if vs, err := g.submit(t.Context(), "evil", forged(proofsOf("evil", 1)[0])); err != nil || vs[0].reject == nil {
				t.Fatal(vs, err)
			}
			if evilFirst {
				// Others have used so much since that what evil has used is the least.
				s, release, err := g.admit(sourceName{name: "others"}, nil)
				if err != nil {
					t.Fatal(err)
				}
				for range 9 {
					g.gate <- struct{}{}
					if _, err := g.verify(t.Context(), s, proofsOf("others", batchProofsMin)); err != nil {
						t.Fatal(err)
					}
				}
				release()
			}
			var wg sync.WaitGroup
			// Something keeps the only worker busy until all are waiting.
			wg.Go(func() { _, _ = g.submit(t.Context(), "first", proofsOf("first", 1)...) })
			synctest.Wait()
			for i := range 20 {
				for _, who := range []string{"evil", "good", "fine"} {
					raw := proofsOf(who, i+1)[i]
					wg.Go(func() { _, _ = g.submit(t.Context(), who, raw) })
					synctest.Wait()
				}
			}
			close(g.gate)
			wg.Wait()
			g.close()
			mixed := 0
			for _, b := range g.seen() {
				if slices.Contains(b, "evil") && (len(b) > suspectProofsMax || slices.ContainsFunc(b, func(id string) bool { return id != "evil" })) {
					t.Errorf("batch %v", b)
				}
				if slices.Contains(b, "good") && slices.Contains(b, "fine") {
					mixed++
				}
			}
			if mixed == 0 {
				t.Error("sources in good standing did not share a batch either: this shows nothing")
			}
		})
	}
}

// Debts are forgiven with time.
func TestVerifyForgives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVerifier(1)
		raw := [][]byte{[]byte("x")}
		s, release, err := v.admit(sourceName{"a", true}, raw)
		if err != nil {
			t.Fatal(err)
		}
		v.charge(s, badSignaturesBurst+badSignaturesPerSec)
		release()
		_, _, err = v.admit(sourceName{"a", true}, raw)
		var over *OverloadedError
		if !errors.As(err, &over) || over.RetryAfter != time.Second {
			t.Fatalf("in debt: %v", err)
		}
		// A peer that forwards is never turned away for what others sent.
		peerSource, releasePeer, err := v.admit(sourceName{"a", false}, raw)
		if err != nil {
			t.Fatal(err)
		}
		v.charge(peerSource, 10*badSignaturesBurst)
		releasePeer()
		if _, releasePeer, err = v.admit(sourceName{"a", false}, raw); err != nil {
			t.Errorf("a peer was turned away: %v", err)
		}
		releasePeer()
		sleep(t.Context(), over.RetryAfter)
		if _, release, err = v.admit(sourceName{"a", true}, raw); err != nil {
			t.Fatalf("after the pause: %v", err)
		}
		release()
		v.close()
	})
}

func TestAdmitLimits(t *testing.T) {
	full := make([][]byte, SubmitProofsMax)
	heavy := [][]byte{make([]byte, SubmitBytesMax)}
	for name, test := range map[string]struct {
		raw      [][]byte
		ofSource int // submissions that one source may hold
		ofAll    int
	}{
		"proofs": {full, inFlightProofsMax / sourceShare / SubmitProofsMax, inFlightProofsMax / SubmitProofsMax},
		"bytes":  {heavy, inFlightBytesMax / sourceShare / SubmitBytesMax, inFlightBytesMax / SubmitBytesMax},
	} {
		v := newVerifier(1)
		var releases []func()
		take := func(source string) error {
			_, release, err := v.admit(sourceName{name: source}, test.raw)
			if err == nil {
				releases = append(releases, release)
			}
			return err
		}
		for s := range sourceShare {
			for i := range test.ofSource {
				if err := take(fmt.Sprint(s)); err != nil {
					t.Fatalf("%s: submission %d of source %d: %v", name, i, s, err)
				}
			}
			mustBe(t, take(fmt.Sprint(s)), ErrOverloaded)
		}
		mustBe(t, take("one more"), ErrOverloaded)
		if len(releases) != test.ofAll {
			t.Errorf("%s: %d submissions were admitted, want %d", name, len(releases), test.ofAll)
		}
		for _, release := range releases {
			release()
		}
		if err := take("0"); err != nil {
			t.Errorf("%s: after all were released: %v", name, err)
		}
		releases[len(releases)-1]()
		if len(v.sources) != 0 || v.proofs != 0 || v.bytes != 0 {
			t.Errorf("%s: %d sources, %d proofs, %d bytes are left", name, len(v.sources), v.proofs, v.bytes)
		}
		v.close()
	}
}

// However many names a flood makes up, the table of sources does not grow above its limit.
func TestSourcesAreBounded(t *testing.T) {
	v := newVerifier(1)
	raw := [][]byte{[]byte("x")}
	for i := range sourcesMax + 100 {
		s, release, err := v.admit(sourceName{fmt.Sprint(i), true}, raw)
		if err != nil {
			t.Fatal(err)
		}
		v.charge(s, 1)
		release()
	}
	if n := len(v.sources); n > sourcesMax+1 {
		t.Errorf("%d sources are remembered, at most %d and the common one", n, sourcesMax)
	}
}

// Who gives up waiting gets an answer at once, and his proofs are not verified.
func TestVerifyAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(1, make(chan struct{}))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = g.submit(t.Context(), "first", proofsOf("first", 1)...) })
		synctest.Wait()
		evil := forged(proofsOf("evil", 1)[0])
		s, release, _ := g.admit(sourceName{"gone", true}, [][]byte{evil})
		g.charge(s, 1) // a suspect whose whole batch is abandoned must not stop the worker
		wg.Go(func() {
			defer release()
			if _, err := g.verify(ctx, s, proofsOf("gone", 20)); !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() { _, _ = g.submit(t.Context(), "last", proofsOf("last", 1)...) })
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(g.gate)
		wg.Wait()
		g.close()
		for _, b := range g.seen() {
			if slices.Contains(b, "gone") {
				t.Errorf("batch %v has abandoned proofs", b)
			}
		}
	})
}
