package follow

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/internal/testfed"
)

// abroad collects what a foreign follower tells.
type abroad struct {
	mu       sync.Mutex
	refused  []*Refused
	executed []string // bodies
}

func (a *abroad) config(c *Config) {
	c.Foreign = true
	c.OnRefused = func(r *Refused) error {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.refused = append(a.refused, r)
		return nil
	}
	c.OnExecuted = func(s *fsm.Seal) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.executed = append(a.executed, string(s.Body()))
	}
}

func (a *abroad) told() []*Refused {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]*Refused(nil), a.refused...)
}

// presentOrigin is an origin whose log time is the bubble's.
func presentOrigin(t testing.TB, fed *testfed.Federation) *origin {
	return newOriginAt(t, fed, "a", time.Now().UnixMilli())
}

// badlySigned puts an entry into the ledger whose envelope is not signed.
func (o *origin) badlySigned() *origin {
	o.t.Helper()
	forged := o.proof().Canonical()
	at := strings.Index(string(forged), `"value":"`) + len(`"value":"`)
	copy(forged[at:], strings.Repeat("0", 64))
	if rec := o.apply(fsm.EncodeProofs(o.now, [][]byte{forged})).Receipts[0]; !rec.HasEntry {
		o.t.Fatalf("the forged proof made no entry: %+v", rec)
	}
	return o
}

func sealsOf(o *origin) (bodies []string) {
	o.t.Helper()
	v, err := o.m.View()
	if err != nil {
		o.t.Fatal(err)
	}
	defer func() { _ = v.Close() }()
	for n := range v.Seals() {
		s, err := v.SealAt(n)
		if err != nil {
			o.t.Fatal(err)
		}
		bodies = append(bodies, string(s.Body()))
	}
	return bodies
}

func TestForeignLedgerIsReexecutedSealBySeal(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed, told := openFed(), &abroad{}
		o := presentOrigin(t, fed).grow(300).seal().grow(40).seal().grow(2)
		n.add("v1", serves(o.server()))
		r := start(t, fed, n, told.config)
		synctest.Wait()
		sameAs(t, o, r.replica)
		o.grow(1).seal()
		synctest.Wait()
		sameAs(t, o, r.replica)
		if got, want := fmt.Sprint(told.executed), fmt.Sprint(sealsOf(o)); got != want || len(told.executed) != 3 {
			t.Errorf("executed %s\nwant %s", got, want)
		}
		if s := r.f.Status(); len(told.told()) != 0 || s.Refused != "" || !s.EarlyUntil.IsZero() || s.Age > time.Second {
			t.Errorf("status %+v, refused %v", s, told.told())
		}
		_ = r.stop()
	})
}

// shift moves the log time of an entry.
func shift(t *testing.T, f *frame, index, by int64) bool {
	return remake(t, f, index, func(e *fsm.Entry) { e.TimeMillis += by })
}

// remake changes an entry, if the frame holds it.
func remake(t *testing.T, f *frame, index int64, change func(e *fsm.Entry)) bool {
	if f.Kind != frameEntries || index < f.First || index >= f.First+int64(len(f.Entries)) {
		return false
	}
	e, err := fsm.ParseEntry(f.Entries[index-f.First])
	if err != nil {
		t.Error(err)
		return false
	}
	change(e)
	f.Entries[index-f.First] = e.AppendCanonical(nil)
	return true
}

// TestARegionThatLiesIsReportedAndAskedAgain has every voter of the origin tell the same lie,
// and then the truth. The node goes on all the while.
func TestARegionThatLiesIsReportedAndAskedAgain(t *testing.T) {
	forging := func(index int64, text, instead string) func(*testing.T, *frame) bool {
		return func(t *testing.T, f *frame) bool { return rewrite(t, f, index, text, instead) }
	}
	for _, c := range []struct {
		name, code string
		index      int64
		tell       func(t *testing.T, f *frame) bool
	}{
		{"an outcome that the gates do not give", RefusedOutcome, 40, forging(40, `"code":0`, `"code":6`)},
		{"another head", RefusedOutcome, 40, func(t *testing.T, f *frame) bool {
			return remake(t, f, 40, func(e *fsm.Entry) { e.Outcome.Head = strings.Repeat("0", 64) })
		}},
		{"a signature that does not hold", RefusedSignature, 40, forging(40, `"session":"s40"`, `"session":"x40"`)},
		{"a log time that goes back", RefusedTime, 40, func(t *testing.T, f *frame) bool { return shift(t, f, 40, -1) }},
		{"a log time before the founding", RefusedTime, 1, func(t *testing.T, f *frame) bool { return shift(t, f, 1, -1000) }},
		{"no entry", RefusedForm, 40, forging(40, `"v":1}`, `"v":1 }`)},
		{"rules that this program does not know", RefusedGenesis, 0, forging(0, `"state_version":`, `"state_version":9`)},
		{"another document", RefusedGenesis, 0, func(t *testing.T, f *frame) bool {
			return remake(t, f, 0, func(e *fsm.Entry) { e.Outcome.DocumentDigest = strings.Repeat("0", 64) })
		}},
		{"another state sealed", RefusedSeal, 61, func(_ *testing.T, f *frame) bool {
			if f.Kind != frameSeal {
				return false
			}
			f.Seal.State[3] ^= 1
			return true
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *mesh) {
				fed, told := openFed(), &abroad{}
				o := presentOrigin(t, fed).grow(60).seal().grow(10)
				lied := map[peer.ID]int{}
				for _, p := range []peer.ID{"v1", "v2", "v3"} {
					n.add(p, relay(serves(o.server()), func(f *frame, _ io.Writer) bool {
						if c.tell(t, f) {
							lied[p]++
						}
						return true
					}))
				}
				r := start(t, fed, n, told.config)
				pass(time.Second)
				if len(lied) != 3 {
					t.Fatalf("lies were told by %d of 3 voters", len(lied))
				}
				claims := told.told()
				if len(claims) != 3 {
					t.Fatalf("%d refusals of 3 voters: %v", len(claims), claims)
				}
				for i, got := range claims {
					if got.Origin != "a" || got.Index != c.index || got.Code != c.code || got.Agreeing != i+1 || got.Peers != 3 || got.Most() != (i > 0) ||
						got.Err == nil || got.Detail == "" || len(got.Detail) > statusErrorMax {
						t.Errorf("refusal %d: %+v", i, got)
					}
				}
				if r.replica.Size() != c.index {
					t.Errorf("%d entries were taken, %d are honest", r.replica.Size(), c.index)
				}
				prefixOf(t, o, r.replica)
				if s := r.f.Status(); s.Diverged != "" || s.Refused == "" || r.diverged.Load() != nil {
					t.Fatalf("the replica was doubted, or nothing is shown: %+v", s)
				}
				pass(time.Hour)
				if opens := n.opened("v1"); opens < 12 || opens > 26 {
					t.Errorf("a voter was asked %d times in an hour", opens)
				}
				for _, p := range n.list() {
					n.add(p, serves(o.server()))
				}
				pass(6 * time.Minute)
				sameAs(t, o, r.replica)
				if s := r.f.Status(); s.Refused != "" || len(told.executed) != 1 {
					t.Errorf("after the truth: %+v, %d seals", s, len(told.executed))
				}
				if err := r.stop(); !strings.Contains(err.Error(), "canceled") {
					t.Errorf("Run ended with %v", err)
				}
			})
		})
	}
}

// One voter that lies costs a second of its region's liveness, and no blame.
func TestOneVoterThatLiesIsNotItsRegion(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed, told := openFed(), &abroad{}
		o := presentOrigin(t, fed).grow(60).seal()
		lied := 0
		n.add("v1", relay(serves(o.server()), func(f *frame, _ io.Writer) bool {
			if rewrite(t, f, 40, `"code":0`, `"code":6`) {
				lied++
			}
			return true
		}))
		n.add("v2", serves(o.server()))
		n.add("v3", nil)
		r := start(t, fed, n, told.config)
		pass(time.Second)
		sameAs(t, o, r.replica)
		if claims := told.told(); lied != 1 || len(claims) != 1 || claims[0].Most() || claims[0].Peer != "v1" {
			t.Errorf("%d lies, refusals %v", lied, claims)
		}
		_ = r.stop()
	})
}

func TestABadSignatureInALedgerIsRefusedByEveryCopy(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed, told := openFed(), &abroad{}
		o := presentOrigin(t, fed).grow(50).badlySigned().grow(5).seal()
		n.add("v1", serves(o.server()))
		r := start(t, fed, n, told.config)
		pass(time.Second)
		claims := told.told()
		if len(claims) != 1 || claims[0].Code != RefusedSignature || claims[0].Index != 51 || !claims[0].Most() || r.replica.Size() != 51 {
			t.Fatalf("%d entries taken; refusals %v", r.replica.Size(), claims)
		}
		_ = r.stop()
	})
}

func TestAnEarlyEntryIsWaitedFor(t *testing.T) {
	for _, c := range []struct {
		ahead, wait time.Duration
		opensMax    int
	}{
		{FutureMax - time.Second, 0, 1},
		{FutureMax, 0, 1},
		{FutureMax + time.Millisecond, time.Millisecond, 1},
		{FutureMax + earlyHereMax, earlyHereMax, 1}, // with the stream open
		{FutureMax + time.Minute, time.Minute, 4},
		{FutureMax + 10*time.Minute, 10 * time.Minute, 22},
	} {
		t.Run(c.ahead.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, n *mesh) {
				fed, told := openFed(), &abroad{}
				o := presentOrigin(t, fed).grow(20)
				o.now = time.Now().Add(c.ahead).UnixMilli() - 10 // grow adds 10
				o.grow(3).seal()
				n.add("v1", serves(o.server()))
				r := start(t, fed, n, told.config)
				synctest.Wait()
				if c.wait > 0 {
					if s := r.f.Status(); s.Size != 21 || time.Until(s.EarlyUntil) != c.wait {
						t.Fatalf("%+v, now %v", s, time.Now())
					}
					pass(c.wait - time.Millisecond)
					if r.f.Status().Size != 21 {
						t.Fatal("an entry was taken up too early")
					}
					pass(time.Millisecond + time.Second) // and a stream may have to be opened
				}
				sameAs(t, o, r.replica)
				waited := r.f.metrics.early.Value() > 0
				if s := r.f.Status(); !s.EarlyUntil.IsZero() || s.Refused != "" || len(told.told()) != 0 || waited != (c.wait > 0) {
					t.Errorf("after the wait: %+v, refusals %v, waited %v", s, told.told(), waited)
				}
				if got := n.opened("v1"); got > c.opensMax {
					t.Errorf("%d streams were opened", got)
				}
				_ = r.stop()
			})
		})
	}
}

// A region whose clock is fast by more than it may be goes on being followed, a little late.
func TestAFastRegionIsFollowedLate(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed, told := openFed(), &abroad{}
		o := presentOrigin(t, fed)
		n.add("v1", serves(o.server()))
		r := start(t, fed, n, told.config)
		for range 100 {
			pass(time.Second)
			o.now = time.Now().Add(FutureMax + 1500*time.Millisecond).UnixMilli()
			o.grow(1)
		}
		synctest.Wait()
		if lag := o.m.Size() - r.f.Status().Size; lag < 1 || lag > 2 {
			t.Errorf("%d entries behind", lag)
		}
		if n.opened("v1") != 1 || len(told.told()) != 0 {
			t.Errorf("%d streams, refusals %v", n.opened("v1"), told.told())
		}
		pass(2 * time.Second)
		sameAs(t, o, r.replica)
		_ = r.stop()
	})
}

// One voter stamps the far future; another does not.
func TestAnEarlyPeerDoesNotHoldUpTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed, told := openFed(), &abroad{}
		o := presentOrigin(t, fed).grow(20)
		shifted := 0
		n.add("v1", relay(serves(o.server()), func(f *frame, _ io.Writer) bool {
			if shift(t, f, 20, int64(time.Hour/time.Millisecond)) {
				shifted++
			}
			return true
		}))
		n.add("v2", serves(o.server()))
		r := start(t, fed, n, told.config)
		synctest.Wait()
		sameAs(t, o, r.replica)
		if shifted != 1 || len(told.told()) != 0 {
			t.Errorf("%d entries were early; refusals %v", shifted, told.told())
		}
		_ = r.stop()
	})
}

// fork makes another ledger of the same region that agrees in its first entries.
func (o *origin) fork(size int) *origin {
	o.t.Helper()
	other := newOriginAt(o.t, o.fed, o.region, o.now)
	if err := other.m.Close(); err != nil {
		o.t.Fatal(err)
	}
	m := replicaOf(o.t, o.fed, o.region)
	if err := m.ApplyEntries(o.entries()[:size]); err != nil {
		o.t.Fatal(err)
	}
	other.m, other.feed, other.raft = m, NewFeed(int64(size)), 0
	other.opened, other.now, other.agent = 1000, o.now, o.fed.Agent("mallory", o.now)
	return other
}

func TestACopySticksToWhatItHasExecuted(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed, told := openFed(), &abroad{}
		o := presentOrigin(t, fed).grow(50)
		other := o.fork(40).grow(30).seal()
		n.add("v1", serves(o.server()))
		r := start(t, fed, n, told.config)
		synctest.Wait()
		sameAs(t, o, r.replica)
		n.add("v2", serves(other.server()))
		n.add("v3", nil)
		cut := relay(serves(o.server()), func(*frame, io.Writer) bool { return false })
		n.add("v1", cut)
		r2 := startWith(t, r.replica, n, told.config)
		_ = r.stop()
		pass(time.Minute)
		if got := r2.f.metrics.left.With(leftFork).Value(); got < 1 {
			t.Fatal("the fork was not seen")
		}
		prefixOf(t, o, r.replica)
		if r.replica.Size() != 51 || len(told.told()) != 0 {
			t.Fatalf("%d entries; refusals %v", r.replica.Size(), told.told())
		}
		n.add("v1", serves(o.grow(5).seal().server()))
		pass(time.Minute)
		sameAs(t, o, r.replica)
		_ = r2.stop()
	})
}

func TestACopyOfAForkThatMostHaveLeftSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed, told := openFed(), &abroad{}
		o := presentOrigin(t, fed).grow(50)
		other := o.fork(40).grow(30)
		n.add("v1", serves(o.server()))
		r := start(t, fed, n, told.config)
		synctest.Wait()
		_ = r.stop()
		n.add("v1", nil)
		n.add("v2", serves(other.server()))
		n.add("v3", serves(other.server()))
		r2 := startWith(t, r.replica, n, told.config)
		if err := <-r2.done; !errors.Is(err, ErrForked) || !strings.Contains(err.Error(), "2 of 3 peers") {
			t.Fatalf("ended with %v", err)
		}
		prefixOf(t, o, r.replica)
		r2.cancel()
	})
}

// A voter that leaves out seals, or makes more than there are, changes nothing that lasts.
func TestSealsLeftOutAndSealsInvented(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed, told := openFed(), &abroad{}
		o := presentOrigin(t, fed).grow(50).seal().grow(10)
		left := 0
		n.add("v1", relay(serves(o.server()), func(f *frame, _ io.Writer) bool {
			if f.Kind == frameSeal {
				left++
				return false
			}
			return true
		}))
		r := start(t, fed, n, told.config)
		synctest.Wait()
		if left != 1 || r.replica.Size() != 61 || r.f.Status().Seals != 0 {
			t.Fatalf("%d seals were left out; %+v", left, r.f.Status())
		}
		n.add("v2", serves(o.grow(5).seal().server()))
		n.add("v1", nil)
		_ = r.stop()
		r2 := startWith(t, r.replica, n, told.config)
		pass(time.Second)
		if s := r2.f.Status(); s.Size != 66 || s.Seals != 1 || s.Refused != "" {
			t.Fatalf("after an honest peer: %+v", s)
		}
		_ = r2.stop()
		o.grow(3)
		invented := o.fork(69).seal() // the same entries, sealed where o is not
		n.add("v2", nil)
		n.add("v3", serves(invented.server()))
		r2 = startWith(t, r.replica, n, told.config)
		pass(time.Minute)
		if s := r2.f.Status(); s.Size != 69 || s.Seals != 2 {
			t.Fatalf("with invented seals: %+v", s)
		}
		_ = r2.stop()
		n.add("v3", nil)
		n.add("v2", serves(o.grow(2).seal().server()))
		r2 = startWith(t, r.replica, n, told.config)
		pass(time.Minute)
		if s := r2.f.Status(); s.Size != 71 || s.Seals != 3 || s.Refused != "" || len(told.told()) != 0 {
			t.Fatalf("after an honest peer: %+v; refusals %v", s, told.told())
		}
		prefixLedger(t, o, r.replica)
		_ = r2.stop()
	})
}

// prefixLedger fails unless a replica has the origin's entries; seals may differ.
func prefixLedger(t testing.TB, o *origin, replica *fsm.Machine) {
	t.Helper()
	want, err1 := o.m.StateRoot()
	got, err2 := replica.StateRoot()
	if err := errors.Join(err1, err2); err != nil || want != got || o.m.Size() != replica.Size() {
		t.Fatalf("the replica has %d entries and state %x, the origin %d and %x: %v", replica.Size(), got, o.m.Size(), want, err)
	}
}

func TestRootsThatAreNotDueOrWrong(t *testing.T) {
	for _, c := range []struct {
		name, reason string
		change       func(first bool, f *frame)
	}{
		{"missing", leftFork, func(_ bool, f *frame) { f.Root = nil }},
		{"short", leftMalformed, func(first bool, f *frame) {
			if first {
				f.Root = f.Root[:31]
			}
		}},
		{"again", leftOrder, func(first bool, f *frame) { f.Root = make([]byte, 32) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *mesh) {
				fed, told := openFed(), &abroad{}
				o := presentOrigin(t, fed).grow(30).seal().grow(1)
				frames := 0
				n.add("v1", relay(serves(o.server()), func(f *frame, _ io.Writer) bool {
					frames++
					if frames > 1 || c.name != "again" {
						c.change(frames == 1, f)
					}
					return true
				}))
				n.add("v2", nil)
				r := start(t, fed, n, told.config)
				pass(time.Second)
				if got := r.f.metrics.left.With(c.reason).Value(); got != 1 {
					t.Errorf("left %v times for %q: %s", got, c.reason, r.f.Status().LastError)
				}
				_ = r.stop()
			})
		})
	}
}
