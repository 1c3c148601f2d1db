package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

func codes(outcomes []Outcome) []pci.Code {
	var cs []pci.Code
	for _, o := range outcomes {
		if o.Reject != nil {
			cs = append(cs, o.Reject.Code)
		} else {
			cs = append(cs, o.Receipt.Code)
		}
	}
	return cs
}

// A leader and a follower say the same of a submission, in order; what is refused does
// not reach the region; and each signature is verified by the leader alone.
func TestSubmitVerifiesOnceAndKeepsOrder(t *testing.T) {
	for _, from := range []int{0, 1, 3} {
		t.Run(fmt.Sprintf("node %d", from), func(t *testing.T) {
			c := newCast(t, 3, 1, nil)
			c.lead(0)
			raw := c.proofs(5)
			raw[1] = forged(raw[1])
			raw[3] = []byte(`{"version":`)
			spaced := append([]byte(" \n"), raw[4]...) // not canonical: what arrives must be the same bytes
			raw[4] = spaced
			outcomes, err := c.intakes[from].Submit(t.Context(), raw)
			if err != nil {
				t.Fatal(err)
			}
			want := []pci.Code{pci.Success, pci.RejectSignature, pci.Success, pci.RejectSchema, pci.Success}
			if got := codes(outcomes); !slices.Equal(got, want) {
				t.Fatalf("outcomes %v, want %v", got, want)
			}
			for _, i := range []int{0, 2, 4} {
				if outcomes[i].Receipt.Digest != digestOf(t, raw[i]) {
					t.Errorf("receipt %d is another proof's", i)
				}
			}
			if calls := c.regions[0].calls(); len(calls) != 1 || len(calls[0]) != 3 {
				t.Errorf("the region was proposed %v", calls)
			}
			for i, in := range c.intakes {
				want := uint64(0)
				if i == 0 {
					want = 5
				}
				if got := in.Stats().Verified; got != want {
					t.Errorf("node %d looked at %d proofs, want %d", i, got, want)
				}
			}
		})
	}
}

// Two nodes that each take the other for the leader must not send a proof round in circles.
func TestSubmitIsForwardedOnce(t *testing.T) {
	c := newCast(t, 3, 0, func(cfg *IntakeConfig) { cfg.Patience = 100 * time.Millisecond })
	zero, one := c.nodes[0].raftID(), c.nodes[1].raftID()
	c.regions[0].knows.Store(&one)
	c.regions[1].knows.Store(&zero)
	_, err := c.intakes[0].Submit(t.Context(), c.proofs(1))
	mustBe(t, err, ErrUnavailable)
	mustNotBe(t, err, ErrUnknownOutcome)
	sent, received := c.intakes[0].Stats().Forwarded, c.intakes[1].Stats()
	if sent == 0 || received.Served.Served > sent || received.Forwarded != 0 {
		t.Errorf("node 0 sent %d, node 1 received %d and forwarded %d: it must forward none", sent, received.Served.Served, received.Forwarded)
	}

	request := submitRequest{Proofs: c.proofs(1), Hops: hopsMax + 1}
	var response submitResponse
	if err := p2p.Call(t.Context(), c.nodes[0].host, c.nodes[1].id(), p2p.ProtocolSubmit, &request, &response); err != nil {
		t.Fatal(err)
	}
	if response.Failure == nil || response.Failure.Code != failTooLarge {
		t.Errorf("a submission after %d hops was answered %+v", request.Hops, response)
	}
}

// A client that speaks the protocol itself takes no hop: the node forwards for it.
func TestSubmitByStreamFromClient(t *testing.T) {
	c := newCast(t, 3, 1, nil)
	c.lead(2)
	request := submitRequest{Proofs: c.proofs(2)}
	var response submitResponse
	if err := p2p.Call(t.Context(), c.nodes[3].host, c.nodes[1].id(), p2p.ProtocolSubmit, &request, &response); err != nil {
		t.Fatal(err)
	}
	if response.Failure != nil || len(response.Outcomes) != 2 {
		t.Fatalf("answered %+v", response)
	}
	if got := len(c.regions[2].calls()); got != 1 {
		t.Errorf("the leader was proposed to %d times", got)
	}
}

// A node without Raft finds the leader by what voters tell, and remembers it.
func TestSubmitFromMemberFollowsHint(t *testing.T) {
	c := newCast(t, 3, 1, nil)
	c.lead(1)
	member := c.intakes[3]
	for range 4 {
		if _, err := member.Submit(t.Context(), c.proofs(1)); err != nil {
			t.Fatal(err)
		}
	}
	if s := member.Stats(); s.Retried > 1 || s.Forwarded > 5 {
		t.Errorf("%d tries and %d calls for 4 submissions: the leader was not remembered", s.Retried, s.Forwarded)
	}
	c.lead(2)
	if _, err := member.Submit(t.Context(), c.proofs(1)); err != nil {
		t.Fatalf("after a change of leader: %v", err)
	}
}

// A hint that names somebody who cannot lead is not followed.
func TestSubmitHintMustNameAVoter(t *testing.T) {
	c := newCast(t, 3, 2, nil)
	s := &submission{}
	in := c.intakes[3]
	for name, hint := range map[string]string{"a member": c.nodes[4].id().String(), "nobody": "", "garbage": "\x00\xff"} {
		if err := in.failure(s, &wireFailure{Code: failNotLeader, Leader: hint}); err == nil || s.hint != "" {
			t.Errorf("%s: hint %v was taken", name, s.hint)
		}
	}
	_ = in.failure(s, &wireFailure{Code: failNotLeader, Leader: c.nodes[1].id().String()})
	if s.hint != c.nodes[1].id() {
		t.Errorf("a voter named as the leader was not believed")
	}
}

func TestSubmitTriesAgain(t *testing.T) {
	notLeader := fmt.Errorf("%w: %w", region.ErrNotCommitted, region.ErrNotLeader)
	for _, from := range []int{0, 1} {
		for name, first := range map[string]error{"not leader": notLeader, "unknown": region.ErrUnknownOutcome,
			"clock off": fmt.Errorf("%w: %w", region.ErrNotCommitted, region.ErrClockOff)} {
			t.Run(fmt.Sprintf("%s, node %d", name, from), func(t *testing.T) {
				c := newCast(t, 3, 0, nil)
				c.lead(0)
				c.regions[0].on(func(context.Context, int) error {
					c.lead(2)
					return first
				})
				raw := c.proofs(2)
				outcomes, err := c.intakes[from].Submit(t.Context(), raw)
				if err != nil || len(outcomes) != 2 {
					t.Fatalf("%d outcomes, %v", len(outcomes), err)
				}
				again := c.regions[2].calls()
				if len(again) == 0 || !bytes.Equal(again[0][1].Canonical(), raw[1]) {
					t.Errorf("the second leader got %v, not the same bytes", again)
				}
				if c.intakes[from].Stats().Retried == 0 {
					t.Error("nothing was tried again")
				}
			})
		}
	}
}

func TestSubmitGivesUp(t *testing.T) {
	unavailable := fmt.Errorf("%w: %w", region.ErrNotCommitted, region.ErrNotFounded)
	for name, test := range map[string]struct {
		propose func(ctx context.Context, call int) error
		want    error
		not     error
	}{
		"never leads":    {func(context.Context, int) error { return unavailable }, ErrUnavailable, ErrUnknownOutcome},
		"always unknown": {func(context.Context, int) error { return region.ErrUnknownOutcome }, ErrUnknownOutcome, ErrUnavailable},
		"once unknown, then not": {func(_ context.Context, call int) error {
			if call == 1 {
				return region.ErrUnknownOutcome
			}
			return unavailable
		}, ErrUnknownOutcome, ErrUnavailable},
		"too large": {func(context.Context, int) error {
			return fmt.Errorf("%w: %w", region.ErrNotCommitted, region.ErrTooLarge)
		}, ErrTooLarge, ErrUnknownOutcome},
	} {
		for _, from := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s, node %d", name, from), func(t *testing.T) {
				c := newCast(t, 3, 0, func(cfg *IntakeConfig) { cfg.Patience = 150 * time.Millisecond })
				c.lead(0)
				c.regions[0].on(test.propose)
				start := time.Now()
				_, err := c.intakes[from].Submit(t.Context(), c.proofs(1))
				mustBe(t, err, test.want)
				mustNotBe(t, err, test.not)
				if test.want == ErrUnknownOutcome { //nolint:errorlint // which row of the table it is
					mustNotBe(t, err, region.ErrNotCommitted)
				}
				if took := time.Since(start); took > 2*time.Second {
					t.Errorf("gave up after %v", took)
				}
			})
		}
	}
}

func TestSubmitWithoutLeader(t *testing.T) {
	c := newCast(t, 3, 0, func(cfg *IntakeConfig) { cfg.Patience = 50 * time.Millisecond })
	_, err := c.intakes[0].Submit(t.Context(), c.proofs(1))
	mustBe(t, err, ErrUnavailable)
	if n := c.intakes[0].Stats().Forwarded; n != 0 {
		t.Errorf("a voter asked others %d times instead of waiting for its own Raft", n)
	}
}

func TestSubmitEndsWithItsContext(t *testing.T) {
	c := newCast(t, 1, 0, func(cfg *IntakeConfig) { cfg.Patience = time.Minute })
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errors.New("the caller went away"))
	defer cancel()
	start := time.Now()
	_, err := c.intakes[0].Submit(ctx, c.proofs(1))
	mustBe(t, err, ErrUnavailable, context.Cause(ctx))
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("ended after %v", took)
	}
}

// A leader that dies while it commits leaves an unknown outcome, which the next leader clears up.
func TestSubmitSurvivesLossOfLeader(t *testing.T) {
	c := newCast(t, 3, 0, nil)
	c.lead(0)
	entered := make(chan struct{})
	c.regions[0].on(func(ctx context.Context, _ int) error {
		close(entered)
		<-ctx.Done()
		return region.ErrUnknownOutcome
	})
	done := make(chan error, 1)
	raw := c.proofs(1)
	go func() {
		_, err := c.intakes[1].Submit(t.Context(), raw)
		done <- err
	}()
	<-entered
	c.lead(2)
	c.intakes[0].Close()
	if err := c.nodes[0].host.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(c.regions[2].calls()) != 1 {
		t.Errorf("the new leader was not asked")
	}
}

// A leader that is cut off, and so never answers, is left as soon as another is known.
func TestSubmitLeavesASilentLeader(t *testing.T) {
	c := newCast(t, 3, 0, func(cfg *IntakeConfig) { cfg.AttemptTimeout, cfg.Patience = time.Minute, time.Minute })
	c.lead(0)
	entered := make(chan struct{})
	c.regions[0].on(func(ctx context.Context, _ int) error {
		close(entered)
		<-ctx.Done()
		return region.ErrUnknownOutcome
	})
	go func() {
		<-entered
		c.lead(2)
	}()
	start := time.Now()
	if _, err := c.intakes[1].Submit(t.Context(), c.proofs(1)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the silent leader was waited for %v", took)
	}
}

func TestSubmitOverload(t *testing.T) {
	for try := range 4 {
		from, lowDisk := try%2, try >= 2
		c := newCast(t, 3, 0, nil)
		c.lead(0)
		answer := &region.OverloadedError{RetryAfter: 1234 * time.Millisecond}
		if lowDisk {
			answer.Cause = fmt.Errorf("%w: 7 MiB are free", region.ErrDiskLow)
		}
		c.regions[0].on(func(context.Context, int) error { return answer })
		_, err := c.intakes[from].Submit(t.Context(), c.proofs(1))
		mustBe(t, err, ErrOverloaded)
		var over *OverloadedError
		if !errors.As(err, &over) || over.RetryAfter != 1234*time.Millisecond || over.NoRoom != lowDisk {
			t.Errorf("node %d: %v does not say when to come back, or why", from, err)
		}
		if lowDisk && !strings.Contains(over.Reason, "7 MiB are free") {
			t.Errorf("node %d: the reason is %q", from, over.Reason)
		}
		if n := len(c.regions[0].calls()); n != 1 {
			t.Errorf("node %d: an overloaded leader was asked %d times", from, n)
		}
	}
}

func TestSubmitLimits(t *testing.T) {
	c := newCast(t, 3, 0, func(cfg *IntakeConfig) { cfg.AttemptTimeout = time.Minute })
	c.lead(0)
	full := c.proofs(SubmitProofsMax)
	for _, from := range []int{0, 1} {
		outcomes, err := c.intakes[from].Submit(t.Context(), full)
		if err != nil || len(outcomes) != SubmitProofsMax {
			t.Fatalf("node %d: %d outcomes, %v", from, len(outcomes), err)
		}
		_, err = c.intakes[from].Submit(t.Context(), append(slices.Clone(full), full[0]))
		mustBe(t, err, ErrTooLarge)
		big := make([][]byte, 8)
		for i := range big {
			big[i] = bytes.Repeat([]byte(" "), 1<<20)
		}
		if outcomes, err := c.intakes[from].Submit(t.Context(), big); err != nil || outcomes[0].Reject == nil {
			t.Fatalf("node %d: %d bytes of nothing: %v, %v", from, SubmitBytesMax, outcomes, err)
		}
		big[0] = append(big[0], ' ')
		_, err = c.intakes[from].Submit(t.Context(), big)
		mustBe(t, err, ErrTooLarge)
		if outcomes, err := c.intakes[from].Submit(t.Context(), nil); err != nil || len(outcomes) != 0 {
			t.Errorf("nothing gave %v, %v", outcomes, err)
		}
	}
	// The limits hold for a peer that does not keep them itself.
	for name, proofs := range map[string][][]byte{"none": nil, "too many": append(slices.Clone(full), full[0])} {
		f := call(t, c, &submitRequest{Proofs: proofs, Hops: 1})
		if f == nil || f.Code != failTooLarge {
			t.Errorf("%s: answered %+v", name, f)
		}
	}
}

func call(t *testing.T, c *cast, request *submitRequest) *wireFailure {
	t.Helper()
	var response submitResponse
	if err := p2p.CallLimit(t.Context(), c.nodes[1].host, c.nodes[0].id(), p2p.ProtocolSubmit, submitResponseBytesMax, request, &response); err != nil {
		t.Fatal(err)
	}
	return response.Failure
}

// Submissions that wait for a call go together in one, each gets its own part of the
// answer, and no call is above the limits.
func TestCourier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var calls [][][]byte
		gate := make(chan struct{})
		c := newCourier(2, func(_ peer.ID, raw [][]byte, _ []byte) (*submitResponse, error) {
			mu.Lock()
			calls = append(calls, raw)
			mu.Unlock()
			<-gate
			if slices.ContainsFunc(raw, func(b []byte) bool { return string(b) == "fail" }) {
				return nil, ErrUnknownOutcome
			}
			r := &submitResponse{}
			for _, b := range raw {
				r.Outcomes = append(r.Outcomes, wireOutcome{RejectCode: 1, Detail: string(b[:min(8, len(b))])})
			}
			return r, nil
		})
		var wg sync.WaitGroup
		send := func(to peer.ID, raw ...[]byte) {
			wg.Go(func() {
				r, err := c.carry(t.Context(), to, raw, nil)
				if err != nil {
					t.Errorf("%v", err)
					return
				}
				for i, o := range r.Outcomes {
					if o.Detail != string(raw[i][:min(8, len(raw[i]))]) {
						t.Errorf("%s got the answer for %s", raw[i], o.Detail)
					}
				}
			})
			synctest.Wait()
		}
		// Two go at once, alone.
		send("x", []byte("0"))
		send("x", []byte("1"))
		if len(calls) != 2 {
			t.Fatalf("%d calls: an idle courier must not wait", len(calls))
		}
		for i := range 700 {
			send("x", fmt.Append(nil, "many", i))
		}
		send("y", []byte("elsewhere"))
		big := make([]byte, SubmitBytesMax/2+1)
		send("z", big)
		send("z", big)
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			_, err := c.carry(ctx, "x", [][]byte{[]byte("taken back")}, nil)
			mustBe(t, err, ErrUnavailable, context.Canceled)
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(gate)
		wg.Wait()
		c.close()
		if len(calls) != 2+2+1+2 {
			t.Errorf("%d calls", len(calls))
		}
		for _, raw := range calls {
			if len(raw) > SubmitProofsMax || sizeOf(raw) > SubmitBytesMax {
				t.Errorf("a call of %d proofs and %d bytes", len(raw), sizeOf(raw))
			}
			if slices.ContainsFunc(raw, func(b []byte) bool { return string(b) == "taken back" }) {
				t.Error("what was taken back was sent")
			}
		}
		// Who leaves a call under way does not know what became of it; a failed one fails for all in it.
		gate = make(chan struct{})
		ctx, cancel = context.WithCancel(t.Context())
		wg.Go(func() {
			_, err := c.carry(ctx, "x", [][]byte{[]byte("left")}, nil)
			mustBe(t, err, ErrUnknownOutcome, context.Canceled)
		})
		wg.Go(func() {
			_, err := c.carry(t.Context(), "x", [][]byte{[]byte("fail")}, nil)
			mustBe(t, err, ErrUnknownOutcome)
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(gate)
		wg.Wait()
		c.close()
		if len(c.waiting) != 0 || c.calls != 0 {
			t.Errorf("%d wait, %d calls", len(c.waiting), c.calls)
		}
	})
}

// A leader that answers nonsense leaves the outcome unknown: it may have committed.
func TestSubmitNonsenseFromLeader(t *testing.T) {
	in := &Intake{verifier: newVerifier(1)}
	s := &submission{raw: [][]byte{{1}, {2}}, source: &source{}}
	receipt := wireOutcome{Receipt: &wireReceipt{}}
	for name, r := range map[string]*submitResponse{
		"nothing":     {},
		"too few":     {Outcomes: []wireOutcome{receipt}},
		"neither":     {Outcomes: []wireOutcome{receipt, {}}},
		"both":        {Outcomes: []wireOutcome{receipt, {RejectCode: 1, Receipt: &wireReceipt{}}}},
		"unknown why": {Failure: &wireFailure{Code: "whatever"}},
	} {
		if _, err := in.answered(s, r); !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A client that sends bad signatures is turned away wherever it goes in; the node that
// forwards for it is not, and neither are the node's other clients.
func TestSubmitBadSignaturesAreBounded(t *testing.T) {
	for _, from := range []int{0, 1} {
		c := newCast(t, 3, 0, nil)
		c.lead(0)
		bad := c.proofs(badSignaturesBurst)
		for i := range bad {
			bad[i] = forged(bad[i])
		}
		evil, good := WithSource(t.Context(), "198.51.100.1"), WithSource(t.Context(), "192.0.2.1")
		for range 2 {
			if _, err := c.intakes[from].Submit(evil, bad); err != nil {
				t.Fatal(err)
			}
		}
		_, err := c.intakes[from].Submit(evil, c.proofs(1))
		var over *OverloadedError
		if !errors.As(err, &over) || over.RetryAfter <= 0 || over.RetryAfter > badSignaturesBurst/badSignaturesPerSec*time.Second {
			t.Fatalf("node %d: after %d bad signatures: %v", from, 2*len(bad), err)
		}
		for _, ctx := range []context.Context{good, t.Context()} {
			if outcomes, err := c.intakes[from].Submit(ctx, c.proofs(1)); err != nil || outcomes[0].Reject != nil {
				t.Fatalf("node %d: another client: %v, %v", from, outcomes, err)
			}
		}
	}
}

func TestSubmitCloseEndsEverything(t *testing.T) {
	c := newCast(t, 1, 0, func(cfg *IntakeConfig) { cfg.AttemptTimeout, cfg.Patience = time.Minute, time.Minute })
	c.lead(0)
	var inside atomic.Int32
	c.regions[0].on(func(ctx context.Context, _ int) error {
		inside.Add(1)
		<-ctx.Done()
		return region.ErrUnknownOutcome
	})
	done := make(chan error, 4)
	for range cap(done) {
		raw := c.proofs(1)
		go func() {
			_, err := c.intakes[0].Submit(context.WithoutCancel(t.Context()), raw)
			done <- err
		}()
	}
	until(t, "submissions under way", 5*time.Second, func() bool { return inside.Load() == 4 })
	if err := c.intakes[0].Close(); err != nil {
		t.Fatal(err)
	}
	for range cap(done) {
		mustBe(t, <-done, ErrUnknownOutcome, ErrClosed)
	}
	if n := c.intakes[0].Stats().InFlight; n != 0 {
		t.Errorf("%d proofs are still on their way", n)
	}
	_, err := c.intakes[0].Submit(t.Context(), c.proofs(1))
	mustBe(t, err, ErrClosed, ErrUnavailable)
}

// Only nodes of the region may submit by stream.
func TestSubmitRefusesStrangers(t *testing.T) {
	c := newCast(t, 1, 1, nil)
	c.lead(0)
	peers := p2p.NewRaftPeers(c.voterIDs(), nil)
	c.nodes[0].raft.Store(&peers) // the member is gone
	var response submitResponse
	err := p2p.Call(t.Context(), c.nodes[1].host, c.nodes[0].id(), p2p.ProtocolSubmit, &submitRequest{Proofs: c.proofs(1)}, &response)
	mustBe(t, err, p2p.ErrCallRefused)
}

func TestIntakeConfig(t *testing.T) {
	c := newCast(t, 1, 0, nil)
	ok := IntakeConfig{Host: c.nodes[0].host, Access: c.nodes[0].access}
	for name, change := range map[string]func(*IntakeConfig){
		"Host": func(c *IntakeConfig) { c.Host = nil }, "Access": func(c *IntakeConfig) { c.Access = nil },
		"Patience": func(c *IntakeConfig) { c.Patience = -1 }, "Workers": func(c *IntakeConfig) { c.Workers = -1 },
		"ForwardsMax": func(c *IntakeConfig) { c.ForwardsMax = -1 },
	} {
		cfg := ok
		change(&cfg)
		if _, err := NewIntake(cfg); err == nil || !bytes.Contains([]byte(err.Error()), []byte(name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

var _ Proposer = (*region.Region)(nil)
