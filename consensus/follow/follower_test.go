package follow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
)

// bubble runs a test in virtual time, with a mesh whose peers are gone when it ends.
func bubble(t *testing.T, test func(t *testing.T, n *mesh)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		n := newMesh(ctx)
		defer n.wg.Wait()
		defer cancel()
		test(t, n)
	})
}

// pass lets time go by, and then everybody do what is to be done.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestFollowerCatchesUpAndThenFollowsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed := openFed()
		o := newOrigin(t, fed, "a").grow(1500).seal().grow(700).seal().grow(3)
		n.add("v1", serves(o.server()))
		r := start(t, fed, n)
		began := time.Now()
		synctest.Wait()
		sameAs(t, o, r.replica)
		for range 5 {
			o.grow(1)
			synctest.Wait()
			sameAs(t, o, r.replica)
		}
		o.seal()
		synctest.Wait()
		sameAs(t, o, r.replica)
		if d := time.Since(began); d != 0 {
			t.Fatalf("following took %v of virtual time: something waited", d)
		}
		s := r.f.Status()
		if s.Peer != "v1" || !s.Following || s.Size != o.m.Size() || s.Seals != 3 || s.LagEntries != 0 || s.LagMillis != 0 ||
			s.Age != 0 || !s.LastAdvance.Equal(began) || s.Diverged != "" || s.LastError != "" {
			t.Fatalf("status: %+v", s)
		}
		if got := r.advances.Load(); got < 8 {
			t.Fatalf("OnAdvance was called %d times", got)
		}
		if err := r.stop(); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		synctest.Wait()
		if n.opened("v1") != 1 {
			t.Fatalf("%d streams were opened", n.opened("v1"))
		}
	})
}

func TestFollowerResumesAfterTheServerAndAfterItself(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed := openFed()
		o := newOrigin(t, fed, "a").grow(100).seal()
		down := errors.New("the server goes down")
		life, kill := context.WithCancelCause(n.ctx)
		serve := func(life context.Context) handler {
			h := serves(o.server())
			return func(_ context.Context, s Stream) error { return h(life, s) }
		}
		n.add("v1", serve(life))
		r := start(t, fed, n)
		synctest.Wait()
		sameAs(t, o, r.replica)
		n.add("v1", nil)
		kill(down)
		synctest.Wait() // nothing goes out any more
		o.grow(10)
		pass(time.Minute)
		tries := n.opened("v1")
		if tries < 6 || tries > 60 {
			t.Fatalf("%d attempts within a minute of absence", tries)
		}
		if s := r.f.Status(); s.Following || s.Size != 101 || !strings.Contains(s.LastError, "no route") || s.Age < time.Minute {
			t.Fatalf("status without a peer: %+v", s)
		}
		o.seal().grow(10) // nobody tells the follower
		n.add("v1", serve(n.ctx))
		pass(10 * time.Second)
		sameAs(t, o, r.replica)
		_ = r.stop()
		o.grow(3).seal().grow(2)
		r = startWith(t, r.replica, n)
		synctest.Wait()
		sameAs(t, o, r.replica)
		_ = r.stop()
	})
}

func TestFollowerGoesToTheNextPeer(t *testing.T) {
	hang := func(ctx context.Context, s Stream) error {
		_, _ = readRequest(s)
		_, _ = s.Read(make([]byte, 1)) // until it is reset
		return nil
	}
	for _, c := range []struct {
		name   string
		first  func(o *origin) handler
		reason string
		after  time.Duration
	}{
		{"it cannot be reached", func(*origin) handler { return nil }, leftNetwork, 0},
		{"it hangs up", func(*origin) handler { return func(context.Context, Stream) error { return nil } }, leftNetwork, 0},
		{"it says nothing", func(*origin) handler { return hang }, leftSilent, 15 * time.Second},
		{"it falls silent", func(o *origin) handler {
			frames := 0
			return relay(serves(o.server()), func(*frame, io.Writer) bool {
				frames++
				return frames == 1
			})
		}, leftSilent, 15 * time.Second},
		{"it trickles", func(*origin) handler {
			return func(_ context.Context, s Stream) error {
				_, _ = readRequest(s)
				for _, err := s.Write([]byte{0}); err == nil; _, err = s.Write([]byte{0}) {
					<-time.After(14 * time.Second)
				}
				return nil
			}
		}, leftSilent, 15 * time.Second},
		{"it is behind", func(*origin) handler {
			return func(_ context.Context, s Stream) error {
				_, _ = readRequest(s)
				f := frame{Kind: frameRefusal, Code: refusedBeyond, Detail: "behind"}
				return (&Server{cfg: ServerConfig{}.withDefaults(), metrics: newServerMetrics("a")}).write(s, &f)
			}
		}, leftBehind, 0},
		{"it serves another region", func(o *origin) handler {
			return serves(newOrigin(o.t, o.fed, "b").server())
		}, leftRefused, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *mesh) {
				fed := openFed()
				o := newOrigin(t, fed, "a").grow(300).seal().grow(2)
				n.add("bad", c.first(o))
				n.add("good", serves(o.server()))
				r := start(t, fed, n)
				synctest.Wait()
				if c.after > 0 {
					pass(c.after - time.Millisecond)
					if n.opened("good") != 0 {
						t.Fatal("the first peer was left too early")
					}
					pass(time.Millisecond)
				}
				sameAs(t, o, r.replica)
				if n.opened("bad") != 1 || n.opened("good") != 1 {
					t.Fatalf("%d and %d streams were opened", n.opened("bad"), n.opened("good"))
				}
				if got := r.f.metrics.left.With(c.reason).Value(); got != 1 {
					t.Fatalf("left for %q: %v times; %s", c.reason, got, r.f.Status().LastError)
				}
				_ = r.stop()
			})
		})
	}
}

// TestAgeGrowsThroughAChain has two members follow each other while the region is gone:
// neither may believe that it is up to date, and both come back with the region.
func TestAgeGrowsThroughAChain(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed := openFed()
		o := newOrigin(t, fed, "a").grow(20)
		life, kill := context.WithCancel(n.ctx)
		voter := serves(o.server())
		meshes := [2]*mesh{newMesh(n.ctx), newMesh(n.ctx)}
		meshes[0].add("voter", func(_ context.Context, s Stream) error { return voter(life, s) })
		var members [2]*run
		for i := range members {
			feed := NewFeed(0)
			members[i] = start(t, fed, meshes[i], func(c *Config) {
				c.Host, c.OnAdvance = namedHost{id: peer.ID(fmt.Sprint("member", i))}, feed.Advance
			})
			cfg := o.serverConfig()
			cfg.View, cfg.Age, cfg.Feed = members[i].replica.View, members[i].f.Age, feed
			srv, err := newServer(cfg)
			if err != nil {
				t.Fatal(err)
			}
			meshes[1-i].add(peer.ID(fmt.Sprint("member", i)), serves(srv))
		}
		meshes[1].add("voter", nil) // it never reaches the voter
		for range 10 {
			pass(30 * time.Second)
			o.grow(1)
			synctest.Wait()
			for i, m := range members {
				sameAs(t, o, m.replica)
				if a := m.f.Age(); a > 10*time.Second {
					t.Fatalf("while the voter is there, member %d is %v old", i, a)
				}
			}
		}
		meshes[0].add("voter", nil)
		kill()
		synctest.Wait() // nothing goes out any more
		o.grow(5)
		for i := range 20 {
			pass(30 * time.Second)
			for j, m := range members {
				if a, least := m.f.Age(), time.Duration(i+1)*30*time.Second; a < least || a > least+15*time.Second {
					t.Fatalf("%v after the voter went, member %d is %v old", least, j, a)
				}
			}
		}
		if meshes[0].opened("member1") < 2 || meshes[1].opened("member0") < 2 {
			t.Fatal("the members did not try each other: nothing was shown")
		}
		if members[0].f.metrics.left.With(leftStale).Value() == 0 {
			t.Fatal("nobody was left for being stale")
		}
		meshes[0].add("voter", voter)
		pass(time.Minute)
		for i, m := range members {
			sameAs(t, o, m.replica)
			if a := m.f.Age(); a > 10*time.Second {
				t.Fatalf("after the voter came back, member %d is %v old", i, a)
			}
			_ = m.stop()
		}
		n.wg.Wait()
		meshes[0].wg.Wait()
		meshes[1].wg.Wait()
	})
}

func TestReplicaThatDivergedStops(t *testing.T) {
	fed := openFed()
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, o *origin) *fsm.Machine
		wants string
	}{
		{"an entry gives another outcome", func(t *testing.T, o *origin) *fsm.Machine {
			m := replicaOf(t, fed, "a")
			other := newOrigin(t, fed, "a")
			other.opened = 2 // the sessions that the origin opens with its entries 3 and 4
			other.grow(2)
			if err := m.ApplyEntries(other.entries()); err != nil {
				t.Fatal(err)
			}
			return m
		}, "entry 3 is refused"},
		{"a seal says another state", func(t *testing.T, o *origin) *fsm.Machine {
			m := replicaOf(t, fed, "a")
			other := newOrigin(t, fed, "a").grow(2)
			other.agent = fed.Agent("bob", other.now)
			other.opened = 1000
			other.grow(49)
			if err := m.ApplyEntries(other.entries()[:51]); err != nil {
				t.Fatal(err)
			}
			return m
		}, "seal 0 is refused"},
		{"the founding document is another", func(t *testing.T, o *origin) *fsm.Machine {
			return replicaOf(t, testfed.New(2, 3), "a")
		}, "is not at hand"},
		{"a seal is missing", func(t *testing.T, o *origin) *fsm.Machine {
			m := replicaOf(t, fed, "a")
			if err := m.ApplyEntries(o.entries()); err != nil {
				t.Fatal(err)
			}
			return m
		}, "seal 0 was never received"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *mesh) {
				o := newOrigin(t, fed, "a").grow(50).seal().grow(10)
				m := c.spoil(t, o)
				before := m.Size()
				n.add("v1", serves(o.server()))
				n.add("v2", nil)
				n.add("v3", nil)
				r := startWith(t, m, n)
				pass(time.Minute)
				if s := r.f.Status(); s.Diverged != "" || !strings.Contains(s.Refused, c.wants) {
					t.Fatalf("one peer of three was enough: %+v", s)
				}
				n.add("v2", serves(o.server()))
				err := <-r.done
				if !errors.Is(err, ErrDiverged) || !strings.Contains(err.Error(), c.wants) || !strings.Contains(err.Error(), "2 of 3 peers") {
					t.Fatalf("stopped with %v", err)
				}
				if told := r.diverged.Load(); told == nil || !errors.Is(*told, ErrDiverged) || r.f.Status().Diverged != err.Error() {
					t.Fatalf("it was not said: %+v", r.f.Status())
				}
				if m.Size() != before {
					t.Fatalf("the replica went from %d to %d entries", before, m.Size())
				}
				r.cancel()
			})
		})
	}
}

// brokenStore fails its commits once it is told to.
type brokenStore struct {
	store.Store
	broken bool
}

var errDisk = errors.New("no space left on device")

func (s *brokenStore) Commit(writes []store.Write) error {
	if s.broken {
		return errDisk
	}
	return s.Store.Commit(writes)
}

func TestReplicaThatFailsIsNotTakenForALie(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed := openFed()
		o := newOrigin(t, fed, "a").grow(50)
		st := &brokenStore{Store: store.NewMemory()}
		m, err := fsm.Open(st, fsm.Config{Region: "a", Document: documentOf(fed.Document)})
		if err != nil {
			t.Fatal(err)
		}
		n.add("v1", serves(o.server()))
		r := startWith(t, m, n)
		synctest.Wait()
		sameAs(t, o, m)
		st.broken = true
		o.grow(1)
		if err := <-r.done; !errors.Is(err, ErrReplica) || !errors.Is(err, errDisk) || errors.Is(err, ErrDiverged) {
			t.Fatalf("stopped with %v", err)
		}
		if r.diverged.Load() != nil || r.f.Status().Diverged != "" {
			t.Fatal("a full disk was called a divergence")
		}
		if got := r.f.metrics.left.With(leftEntry).Value(); got != 0 {
			t.Fatal("the peer was blamed")
		}
	})
}

func TestSignaturesAreVerifiedWhereAsked(t *testing.T) {
	for _, verify := range []bool{true, false} {
		t.Run(fmt.Sprint(verify), func(t *testing.T) {
			bubble(t, func(t *testing.T, n *mesh) {
				fed := openFed()
				o := newOrigin(t, fed, "a").grow(50)
				honest := len(o.entries())
				// A region whose leader lets an unsigned proof pass.
				forged := o.proof().Canonical()
				at := strings.Index(string(forged), `"value":"`) + len(`"value":"`)
				copy(forged[at:], strings.Repeat("0", 64))
				o.now += 10
				if rec := o.apply(fsm.EncodeProofs(o.now, [][]byte{forged})).Receipts[0]; !rec.HasEntry {
					t.Fatalf("the forged proof made no entry: %+v", rec)
				}
				o.grow(5).seal()
				n.add("v1", serves(o.server()))
				n.add("v2", nil)
				r := start(t, fed, n, func(c *Config) { c.VerifySignatures = verify })
				synctest.Wait()
				if !verify {
					sameAs(t, o, r.replica)
					_ = r.stop()
					return
				}
				if int(r.replica.Size()) != honest || !strings.Contains(r.f.Status().Refused, errSignature.Error()) {
					t.Fatalf("%d entries were taken, %d are honest: %s", r.replica.Size(), honest, r.f.Status().LastError)
				}
				prefixOf(t, o, r.replica)
				_ = r.stop()
			})
		})
	}
}

func TestFollowerConfig(t *testing.T) {
	fed := openFed()
	good := Config{Host: namedHost{id: "x"}, Region: "a", Replica: replicaOf(t, fed, "a"), Peers: func() []peer.ID { return nil }}
	for name, change := range map[string]func(*Config){
		"Region":      func(c *Config) { c.Region = strings.Repeat("a", 64) },
		"Replica":     func(c *Config) { c.Replica = nil },
		"Peers":       func(c *Config) { c.Peers = nil },
		"Host":        func(c *Config) { c.Host = nil },
		"OpenTimeout": func(c *Config) { c.OpenTimeout = -1 },
		"SilenceMax":  func(c *Config) { c.SilenceMax = -1 },
		"StaleAfter":  func(c *Config) { c.StaleAfter = -1 },
		"RetryMin":    func(c *Config) { c.RetryMin = -1 },
		"RetryMax":    func(c *Config) { c.RetryMin, c.RetryMax = time.Minute, time.Second },
		"AsideFor":    func(c *Config) { c.AsideFor = -1 },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
}

func TestRunRunsOnceAndTakesItsMetricsOut(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed := openFed()
		reg := prometheus.NewPedanticRegistry()
		n.add("v1", serves(newOrigin(t, fed, "a").grow(3).server()))
		r := start(t, fed, n, func(c *Config) { c.Metrics = reg })
		synctest.Wait()
		families, err := reg.Gather()
		if err != nil || len(families) < 8 {
			t.Fatalf("%d metrics: %v", len(families), err)
		}
		if err := r.f.Run(t.Context()); !errors.Is(err, errNotIdle) {
			t.Fatalf("a second Run: %v", err)
		}
		_ = r.stop()
		if families, err := reg.Gather(); err != nil || len(families) != 0 {
			t.Fatalf("%d metrics stayed: %v", len(families), err)
		}
	})
}

func TestNobodyToFollow(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed := openFed()
		n.add("follower", nil) // itself
		r := start(t, fed, n)
		pass(time.Minute)
		if n.opened("follower") != 0 {
			t.Fatal("a follower followed itself")
		}
		if a := r.f.Age(); a != ageUnknown {
			t.Fatalf("age %v of a replica that never heard of its region", a)
		}
		o := newOrigin(t, fed, "a").grow(3)
		n.add("v1", serves(o.server()))
		pass(time.Second)
		sameAs(t, o, r.replica)
		_ = r.stop()
	})
}
