package link

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
)

// replica is a voter as [Seals] sees it: seals it has, and those who can reach it.
type replica struct {
	id      peer.ID
	region  *replicas
	seals   *Seals
	mu      sync.Mutex
	made    []*fsm.Seal
	down    bool
	stopped *Divergence
	asked   int
}

// replicas is a region of them, in virtual time.
type replicas struct {
	t    *testing.T
	all  []*replica
	vote []peer.ID
}

func newReplicas(t *testing.T, n int) *replicas {
	r := &replicas{t: t}
	for i := range n {
		id := peer.ID(fmt.Sprintf("voter-%d", i))
		r.all = append(r.all, &replica{id: id, region: r})
		r.vote = append(r.vote, id)
	}
	return r
}

// compare starts the comparison on every replica.
func (r *replicas) compare() {
	for _, x := range r.all {
		x.compare()
	}
}

func (x *replica) compare() {
	s, err := NewSeals(SealsConfig{Self: x.id, Voters: func() []peer.ID { return x.region.vote }, Read: x.read, Ask: x.ask,
		OnDiverged: func(d *Divergence) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.stopped, x.down = d, true
		}})
	if err != nil {
		x.region.t.Fatal(err)
	}
	x.seals = s
}

func (r *replicas) close() {
	for _, x := range r.all {
		if x.seals != nil {
			x.seals.Close()
		}
	}
}

// seal applies a seal on a replica; what is what it makes of it.
func (x *replica) seal(what string) {
	x.mu.Lock()
	number := int64(len(x.made))
	x.made = append(x.made, &fsm.Seal{Number: number, Origin: "test/a", Size: 10 * (number + 1), Root: sha256.Sum256([]byte(what))})
	x.mu.Unlock()
	if x.seals != nil {
		x.seals.Sealed()
	}
}

func (r *replicas) sealAll(what string) {
	for _, x := range r.all {
		if !x.isDown() {
			x.seal(what)
		}
	}
}

func (x *replica) isDown() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.down
}

func (x *replica) Seals() int64 {
	return int64(len(x.made))
}

func (x *replica) SealAt(n int64) (*fsm.Seal, error) {
	if n < 0 || n >= int64(len(x.made)) {
		return nil, fsm.ErrNotFound
	}
	return x.made[n], nil
}

func (*replica) Voters() ([]fsm.Voter, error)            { return nil, fsm.ErrNotFound }
func (*replica) Entry(int64) (*fsm.Entry, error)         { return nil, fsm.ErrNotFound }
func (*replica) Document() (*federation.Document, error) { return nil, fsm.ErrNotFound }
func (*replica) DocumentAt(int64) (*federation.Document, error) {
	return nil, fsm.ErrNotFound
}

func (x *replica) read(_ context.Context, fn func(StateView) error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return fn(x)
}

func (x *replica) ask(ctx context.Context, to peer.ID, numbers []int64) ([]SealSum, error) {
	i := slices.IndexFunc(x.region.all, func(y *replica) bool { return y.id == to })
	y := x.region.all[i]
	if len(numbers) > SealsAskedMax {
		x.region.t.Errorf("%d seals asked for at once", len(numbers))
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.asked++
	if y.down {
		y.mu.Unlock()
		sleep(ctx, time.Second)
		y.mu.Lock()
		return nil, errors.New("no answer")
	}
	return sums(y, numbers)
}

func (x *replica) agreed() int64 {
	if n, ok := x.seals.Agreed(); ok {
		return n
	}
	return -1
}

func (r *replicas) settle(d time.Duration) {
	sleep(r.t.Context(), d)
	synctest.Wait()
}

func TestSealsAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplicas(t, 3)
		r.compare()
		defer r.close()
		r.settle(time.Second)
		if _, ok := r.all[0].seals.Agreed(); ok {
			t.Error("agreed on a seal before there is one")
		}
		for i := range int64(20) {
			r.sealAll(fmt.Sprint(i))
			r.settle(time.Second)
			for j, x := range r.all {
				if x.agreed() != i || x.stopped != nil {
					t.Fatalf("voter %d: agreed on %d of %d, stopped %v", j, x.agreed(), i, x.stopped)
				}
			}
		}
		for j, x := range r.all {
			if x.asked > 20*2*3 {
				t.Errorf("voter %d was asked %d times about 20 seals", j, x.asked)
			}
		}
	})
}

// A replica in another state than the majority stops, says what differs, and the others go on.
func TestSealsStopWhoDiffers(t *testing.T) {
	for _, compare := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			r := newReplicas(t, 3)
			if compare {
				r.compare()
			}
			defer r.close()
			r.sealAll("same")
			r.settle(time.Second)
			for i, x := range r.all {
				x.seal([]string{"right", "right", "wrong"}[i])
			}
			r.settle(5 * time.Second)
			d := r.all[2].stopped
			if !compare {
				// The fault is there; without the comparison nobody notices.
				if d != nil {
					t.Errorf("stopped without comparing: %v", d)
				}
				return
			}
			if d == nil || d.Number != 1 || d.Own != sumOf(1, r.all[2].made[1]) || d.Majority != sumOf(1, r.all[0].made[1]) || d.Confirmed != 2 {
				t.Fatalf("%+v", d)
			}
			for _, want := range []string{"seal 1", "20 entries", fmt.Sprintf("%x", d.Own.Body), fmt.Sprintf("%x", d.Majority.Body), r.all[0].id.String(), "voter replace"} {
				if !strings.Contains(d.Error(), want) {
					t.Errorf("%q is not in %q", want, d.Error())
				}
			}
			if r.all[2].agreed() != 0 {
				t.Errorf("the one that differs agrees up to %d", r.all[2].agreed())
			}
			for i, x := range r.all[:2] {
				if x.stopped != nil || x.agreed() != 1 {
					t.Errorf("voter %d: stopped %v, agreed %d", i, x.stopped, x.agreed())
				}
			}
			r.sealAll("next")
			r.settle(5 * time.Second)
			if r.all[0].agreed() != 2 || r.all[1].agreed() != 2 {
				t.Errorf("the majority did not go on: %d, %d", r.all[0].agreed(), r.all[1].agreed())
			}
		})
	}
}

// Two that differ cannot tell who is wrong: none stops, and none may sign.
func TestSealsWithoutMajority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplicas(t, 3)
		r.compare()
		defer r.close()
		r.all[2].down = true
		for i, x := range r.all {
			x.seal([]string{"one", "other", "one"}[i])
		}
		r.settle(10 * time.Second)
		for i, x := range r.all[:2] {
			if x.stopped != nil || x.agreed() != -1 {
				t.Errorf("voter %d: stopped %v, agreed %d", i, x.stopped, x.agreed())
			}
		}
		// The third decides it.
		r.all[2].mu.Lock()
		r.all[2].down = false
		r.all[2].mu.Unlock()
		r.settle(10 * time.Second)
		if r.all[1].stopped == nil || r.all[0].stopped != nil || r.all[0].agreed() != 0 {
			t.Errorf("stopped %v and %v, agreed %d", r.all[0].stopped, r.all[1].stopped, r.all[0].agreed())
		}
	})
}

// Voters that are down are not waited for, and not asked without end.
func TestSealsWithMissingPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplicas(t, 5)
		r.compare()
		defer r.close()
		r.all[3].down, r.all[4].down = true, true
		for i := range 30 {
			r.sealAll(fmt.Sprint(i))
			r.settle(time.Second)
		}
		for i, x := range r.all[:3] {
			if x.agreed() != 29 {
				t.Errorf("voter %d agreed up to %d", i, x.agreed())
			}
		}
		if n := r.all[3].asked; n > 3*31 {
			t.Errorf("a voter that is down was asked %d times in 30 s", n)
		}
		// With a third one down there is no majority any more.
		r.all[2].mu.Lock()
		r.all[2].down = true
		r.all[2].mu.Unlock()
		r.sealAll("alone")
		r.settle(10 * time.Second)
		if r.all[0].agreed() != 29 {
			t.Errorf("agreed on %d with 2 of 5", r.all[0].agreed())
		}
	})
}

// A replica that comes back, far behind the others' newest seals, is compared as it catches up.
func TestSealsFarBehind(t *testing.T) {
	for _, what := range []string{"same", "different"} {
		synctest.Test(t, func(t *testing.T) {
			r := newReplicas(t, 3)
			r.all[0].compare()
			r.all[1].compare()
			defer r.close()
			r.all[2].down = true
			for range 200 {
				r.sealAll("same")
			}
			r.settle(time.Second)
			r.all[2].mu.Lock()
			r.all[2].down = false
			r.all[2].mu.Unlock()
			for range 50 {
				r.all[2].seal(what)
			}
			r.all[2].compare()
			r.settle(5 * time.Second)
			if what == "same" && (r.all[2].stopped != nil || r.all[2].agreed() != 49) {
				t.Errorf("stopped %v, agreed %d", r.all[2].stopped, r.all[2].agreed())
			}
			if what == "different" && (r.all[2].stopped == nil || r.all[2].stopped.Number != 49) {
				t.Errorf("stopped %v", r.all[2].stopped)
			}
			for _, x := range r.all[:2] {
				if len(x.seals.own) > sealsKept || len(x.seals.reports) > sealsKept {
					t.Errorf("%d and %d seals are kept, at most %d", len(x.seals.own), len(x.seals.reports), sealsKept)
				}
			}
		})
	}
}

// A node that does not vote yet compares itself, but does not count.
func TestSealsOfANonVoter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplicas(t, 5)
		r.vote = r.vote[:3]
		r.compare()
		defer r.close()
		for i, x := range r.all {
			x.seal([]string{"right", "right", "wrong", "wrong", "right"}[i])
		}
		r.settle(5 * time.Second)
		if r.all[2].stopped == nil || r.all[3].stopped == nil || r.all[0].stopped != nil {
			t.Errorf("stopped: %v, %v, %v", r.all[0].stopped, r.all[2].stopped, r.all[3].stopped)
		}
		for _, x := range r.all[3:] {
			if n := x.agreed(); n != -1 {
				t.Errorf("a node that does not vote agreed on %d", n)
			}
		}
		if r.all[4].stopped != nil || r.all[0].agreed() != 0 {
			t.Errorf("stopped %v, agreed %d", r.all[4].stopped, r.all[0].agreed())
		}
	})
}

// count agrees with the plainest way to say it: some sum is held by more than half.
func TestSealsCountMajority(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 7).Draw(t, "voters")
		s := &Seals{cfg: SealsConfig{Self: "0"}, own: map[int64]SealSum{}, reports: map[int64]map[peer.ID]SealSum{5: {}}}
		var voters []peer.ID
		tally := map[SealSum]int{}
		for i := range n {
			id := peer.ID(fmt.Sprint(i))
			voters = append(voters, id)
			if i > 0 && rapid.IntRange(0, 3).Draw(t, "missing") == 0 {
				continue
			}
			sum := sumFor(5, rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "body"))
			tally[sum]++
			if i == 0 {
				s.own[5] = sum
			} else {
				s.reports[5][id] = sum
			}
		}
		s.agreed.Store(-1)
		s.cfg.OnAgreed = func(int64) {}
		s.cfg.Voters = func() []peer.ID { return voters }
		s.cfg = s.cfg.withDefaults()
		d := s.judge()
		var majority *SealSum
		for sum, votes := range tally {
			if 2*votes > n {
				majority = &sum
			}
		}
		if wantStop := majority != nil && *majority != s.own[5]; wantStop != (d != nil) {
			t.Errorf("stopped %v, tally %v of %d", d, tally, n)
		}
		if wantAgree := majority != nil && *majority == s.own[5]; wantAgree != (s.agreed.Load() == 5) {
			t.Errorf("agreed %d, tally %v of %d", s.agreed.Load(), tally, n)
		}
	})
}

// The same over the network and with the real state machine: one replica has applied
// another proof than the others, and its next seal tells.
func TestSealsFindADivergedStateMachine(t *testing.T) {
	net := newNetwork(t, 3, 0)
	diverged := make(chan *Divergence, 3)
	var seals []*Seals
	for i, n := range net.nodes {
		m := newMachine(t, net.fed)
		session := "same"
		if i == 2 {
			session = "another"
		}
		agent := testfed.New(1, 3, testfed.Open).Agent("agent-1", startMillis)
		m.submit(t, agent.Sign(fsm.ActionSessionOpen, map[string]any{"region": "a", "session": session}, ""))
		m.apply(t, fsm.EncodeSeal())
		asker := serveStatus(t, n, StatusConfig{Read: m.read})
		s, err := NewSeals(SealsConfig{Self: n.id(), Voters: net.voterIDs, Read: m.read, Ask: asker.Seals, OnDiverged: func(d *Divergence) { diverged <- d }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		seals = append(seals, s)
	}
	select {
	case d := <-diverged:
		if d.Number != 0 || d.Own.Size != 2 || d.Own.Body == d.Majority.Body || slices.Contains(d.With, net.nodes[2].id()) {
			t.Errorf("%v", d)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nobody noticed")
	}
	until(t, "the majority agrees", 10*time.Second, func() bool {
		a, okA := seals[0].Agreed()
		b, okB := seals[1].Agreed()
		return okA && okB && a == 0 && b == 0
	})
	if _, ok := seals[2].Agreed(); ok || len(diverged) > 0 {
		t.Error("the one that differs agrees, or another stopped")
	}
}
