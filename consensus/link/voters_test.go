package link

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"

	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm"
)

func TestVotersFollowTheWish(t *testing.T) {
	for name, test := range map[string]struct {
		config, wish []string
		down         []string
		want         []string // changes, in order
		voters       string
	}{
		"nothing to do": {config: []string{"A", "B", "C"}, wish: []string{"A", "B", "C"}, voters: "A B C"},
		"add":           {config: []string{"A", "B", "C"}, wish: []string{"A", "B", "C", "D"}, want: []string{"add D", "promote D"}, voters: "A B C D"},
		"add to one":    {config: []string{"A"}, wish: []string{"A", "B"}, want: []string{"add B", "promote B"}, voters: "A B"},
		"remove":        {config: []string{"A", "B", "C"}, wish: []string{"A", "B"}, want: []string{"remove C"}, voters: "A B"},
		"remove dead":   {config: []string{"A", "B", "C"}, wish: []string{"A", "B"}, down: []string{"C"}, want: []string{"remove C"}, voters: "A B"},
		"replace":       {config: []string{"A", "B", "C"}, wish: []string{"A", "B", "D"}, down: []string{"C"}, want: []string{"remove C", "add D", "promote D"}, voters: "A B D"},
		"replace while another is down": {config: []string{"A", "B", "C"}, wish: []string{"A", "B", "D"}, down: []string{"B"},
			want: []string{"add D", "promote D", "remove C"}, voters: "A B D"},
		"remove the leader":      {config: []string{"A", "B", "C"}, wish: []string{"B", "C"}, want: []string{"lead B", "remove A"}, voters: "B C"},
		"replace the leader":     {config: []string{"A", "B", "C"}, wish: []string{"B", "C", "D"}, want: []string{"lead B", "remove A", "add D", "promote D"}, voters: "B C D"},
		"leader, heir down":      {config: []string{"A", "B", "C"}, wish: []string{"B", "C"}, down: []string{"B"}, want: []string{"lead C"}, voters: "A B C"},
		"replace the only voter": {config: []string{"A"}, wish: []string{"B"}, want: []string{"add B", "promote B", "lead B", "remove A"}, voters: "B"},
		"not safe":               {config: []string{"A", "B", "C"}, wish: []string{"A", "B"}, down: []string{"B"}, voters: "A B C"},
		"a wish of nobody":       {config: []string{"A", "B", "C"}, voters: "A B C"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newRaftCluster(test.config...)
				c.wished(test.wish...)
				for _, d := range test.down {
					c.down[c.id(d)] = true
				}
				for _, n := range test.wish {
					c.applied[c.id(n)] = 5000
				}
				loops := c.run(t, "A", "B", "C", "D")
				defer end(loops)
				c.after(t.Context(), 2*time.Minute)
				if c.stuck != "" {
					t.Fatalf("%q was tried and blocks the region", c.stuck)
				}
				if !slices.Equal(c.log, test.want) || c.voters() != test.voters {
					t.Errorf("changes %q, want %q; voters %s, want %s", c.log, test.want, c.voters(), test.voters)
				}
			})
		})
	}
}

// Without the look at who answers, the change that is refused above would block the region.
func TestVotersUnsafeChangeWouldBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRaftCluster("A", "B", "C")
		c.down[c.id("B")] = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := (seat{c, c.id("A")}).RemoveServer(ctx, c.id("C")); err == nil || c.stuck == "" {
			t.Errorf("%v: this cluster does not have the fault that the test above is about", err)
		}
	})
}

// A new voter is promoted only when it is within CaughtUpEntries.
func TestVotersWaitUntilCaughtUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRaftCluster("A", "B", "C")
		c.wished("A", "B", "C", "D")
		loops := c.run(t, "A")
		defer end(loops)
		for _, applied := range []uint64{0, 1, 5000 - CaughtUpEntries - 1} {
			c.set(func() { c.applied[c.id("D")] = applied })
			c.after(t.Context(), 10*time.Second)
			if c.voters() != "A B C D?" {
				t.Fatalf("at %d of 5000: %s", applied, c.voters())
			}
		}
		p, err := loops["A"].Progress(t.Context())
		if err != nil || p.Settled || !p.Leading {
			t.Fatalf("%+v, %v", p, err)
		}
		i := slices.IndexFunc(p.Nodes, func(n VoterProgress) bool { return n.Name == "D" })
		if n := p.Nodes[i]; n.Stage != StageCatchingUp || n.AppliedIndex != 5000-CaughtUpEntries-1 || !strings.Contains(n.Detail, "3999 of 5000") {
			t.Errorf("%+v", n)
		}
		c.set(func() { c.applied[c.id("D")] = 5000 - CaughtUpEntries })
		c.after(t.Context(), 10*time.Second)
		if p, _ = loops["A"].Progress(t.Context()); c.voters() != "A B C D" || !p.Settled {
			t.Errorf("%s, %+v", c.voters(), p)
		}
	})
}

// What one leader began, the next finishes; what the new node forgot, it is told again.
func TestVotersResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRaftCluster("A", "B", "C")
		c.wished("A", "B", "D")
		loops := c.run(t, "A", "B", "D")
		defer end(loops)
		c.after(t.Context(), 5*time.Second)
		if c.voters() != "A B D?" || c.keys[c.id("D")] != 1 {
			t.Fatalf("%s, keys %v", c.voters(), c.keys)
		}
		c.set(func() {
			c.leader = c.id("B")
			c.keys[c.id("D")] = 0 // its Raft does not run any more
			c.applied[c.id("D")] = 4900
		})
		c.after(t.Context(), 10*time.Second)
		if c.voters() != "A B D" || c.keys[c.id("D")] != 1 {
			t.Errorf("%s, keys %v", c.voters(), c.keys)
		}
	})
}

// A leader whose own state lags must not undo what an earlier leader made of a newer wish.
func TestVotersReadTheWishAsOfNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRaftCluster("A", "B", "C")
		c.stale = slices.Clone(c.wish)
		c.config = append(c.config, raft.Server{Suffrage: raft.Voter, ID: c.id("D")})
		c.wished("A", "B", "C", "D")
		loops := c.run(t, "A")
		defer end(loops)
		c.after(t.Context(), 10*time.Second)
		if len(c.log) > 0 {
			t.Errorf("changes %q from a state that is behind", c.log)
		}
	})
}

// A node that is not reached is tried again with growing pauses, and does not keep others waiting.
func TestVotersBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRaftCluster("A", "B", "C")
		c.wished("A", "B", "C", "D", "E")
		c.down[c.id("D")] = true
		c.applied[c.id("E")] = 5000
		loops := c.run(t, "A")
		defer end(loops)
		c.after(t.Context(), 5*time.Minute)
		if c.voters() != "A B C E" {
			t.Fatalf("%s", c.voters())
		}
		p, _ := loops["A"].Progress(t.Context())
		i := slices.IndexFunc(p.Nodes, func(n VoterProgress) bool { return n.Name == "D" })
		if n := p.Nodes[i]; n.Stage != StageToAdd || n.Failures < 5 || n.Failures > 20 || !strings.Contains(n.Detail, "not reached") {
			t.Errorf("%+v", n)
		}
		c.set(func() { c.down[c.id("D")] = false; c.applied[c.id("D")] = 5000 })
		c.after(t.Context(), time.Minute)
		if c.voters() != "A B C D E" {
			t.Errorf("%s", c.voters())
		}
	})
}

// No keys, no place in the configuration.
func TestVotersNeedTheKeysFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRaftCluster("A", "B", "C")
		c.wished("A", "B", "C", "D")
		c.handOver = ErrKeysRefused
		loops := c.run(t, "A")
		defer end(loops)
		c.after(t.Context(), time.Minute)
		if len(c.log) > 0 {
			t.Errorf("changes %q", c.log)
		}
	})
}

func TestVotersTransfer(t *testing.T) {
	for name, test := range map[string]struct {
		to    string
		err   error
		lead  string
		tries int
		how   string
	}{
		"to a voter":     {to: "B", lead: "B", tries: 1, how: "handed"},
		"to itself":      {to: "A", lead: "A", how: "already"},
		"that fails":     {to: "B", err: errors.New("no luck"), lead: "A", tries: transferTriesMax, how: "no luck"},
		"to one stopped": {to: "C", lead: "A", tries: transferTriesMax, how: "does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newRaftCluster("A", "B", "C")
				c.down[c.id("C")] = true
				tries := 0
				c.transfer = func(raft.ServerID) error { tries++; return test.err }
				loops := c.run(t, "A", "B")
				defer end(loops)
				node := voterNamed(test.to).NodeKey
				loops["B"].Transfer(node) // does not lead: must not heed it
				c.after(t.Context(), time.Second)
				if tries > 0 {
					t.Fatal("a follower handed over leadership")
				}
				loops["A"].Transfer(node)
				c.after(t.Context(), time.Minute)
				p, err := loops["A"].Progress(t.Context())
				if c.leader != c.id(test.lead) || tries != test.tries || err != nil || !strings.Contains(p.Transfer, test.how) {
					t.Errorf("%s leads after %d tries; %q, %v", c.name(c.leader), tries, p.Transfer, err)
				}
			})
		})
	}
}

// Whatever is wished and whoever is down, no step blocks the region, and once all are
// up the configuration is what is wished.
func TestVotersProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newRaftCluster("A", "B", "C")
			all := allNames()
			for _, name := range all {
				c.applied[c.id(name)] = 5000
			}
			loops := c.run(t, all...)
			defer end(loops)
			for range rapid.IntRange(1, 6).Draw(rt, "rounds") {
				wish := rapid.Permutation(all).Draw(rt, "wish")[:rapid.IntRange(1, 5).Draw(rt, "size")]
				c.set(func() {
					c.wished(wish...)
					clear(c.down)
					c.downAt = time.Now()
					// A minority of the present voters may be down, and any of the others.
					voters := votersAfter(c.config, "", "")
					for _, id := range voters[:rapid.IntRange(0, (len(voters)-1)/2).Draw(rt, "down")] {
						if id != c.leader {
							c.down[id] = true
						}
					}
				})
				c.after(t.Context(), rapid.SampledFrom([]time.Duration{time.Second, 3 * time.Second, time.Minute}).Draw(rt, "pause"))
				if c.stuck != "" {
					rt.Fatalf("%q blocks the region; changes %q", c.stuck, c.log)
				}
			}
			c.set(func() { clear(c.down) })
			c.after(t.Context(), 3*time.Minute)
			want := slices.Clone(c.wish)
			slices.SortFunc(want, func(a, b fsm.Voter) int { return strings.Compare(a.Name, b.Name) })
			var names []string
			for _, v := range want {
				names = append(names, v.Name)
			}
			if c.stuck != "" || c.voters() != strings.Join(names, " ") {
				rt.Fatalf("%s, want %v; stuck %q; changes %q", c.voters(), names, c.stuck, c.log)
			}
		})
	})
}

func TestVotersLearnAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRaftCluster("A", "B", "C")
		s := seat{c, c.id("B")} // a follower learns too: it may lead next
		learned := make(chan peer.ID, 100)
		v, err := NewVoters(VotersConfig{Region: s, Read: s.read, Stale: s.readStale, Ask: s.ask, HandOver: s.give,
			Learn: func(p peer.ID, addresses []string) {
				if len(addresses) != 1 || addresses[0] != "/ip4/192.0.2.1/tcp/4001" {
					t.Errorf("%v is at %v", p, addresses)
				}
				learned <- p
			}})
		if err != nil {
			t.Fatal(err)
		}
		c.after(t.Context(), 1500*time.Millisecond)
		v.Close()
		if len(learned) == 0 {
			t.Fatal("nothing was learned")
		}
		for len(learned) > 0 {
			if p := <-learned; raft.ServerID(p.String()) == s.self {
				t.Error("a node needs no address of its own")
			}
		}
	})
}

func TestVotersConfig(t *testing.T) {
	c := newRaftCluster("A")
	s := seat{c, c.id("A")}
	if _, err := NewVoters(VotersConfig{Region: s, Read: s.read, Stale: s.readStale, Ask: s.ask}); err == nil {
		t.Error("no HandOver was taken")
	}
	if _, err := NewVoters(VotersConfig{Region: s, Read: s.read, Stale: s.readStale, Ask: s.ask, HandOver: s.give, Every: -1}); err == nil {
		t.Error("a negative time was taken")
	}
}

var _ Membership = (*region.Region)(nil)

// A node that alone votes is not asked to go before another does: nobody could take over.
func TestPlanKeepsTheLastVoter(t *testing.T) {
	c := newRaftCluster("A")
	c.wished("B")
	ws, err := wish(c.wish)
	if err != nil {
		t.Fatal(err)
	}
	steps := func() (text []string) {
		for _, s := range plan(ws, c.config, c.id("A")) {
			text = append(text, s.op.String()+" "+c.name(s.id))
		}
		return text
	}
	if got := steps(); !slices.Equal(got, []string{"add B"}) {
		t.Errorf("%q", got)
	}
	c.config = append(c.config, raft.Server{Suffrage: raft.Voter, ID: c.id("B")})
	if got := steps(); !slices.Equal(got, []string{"hand over leadership A"}) {
		t.Errorf("%q", got)
	}
}

// Two voters of three that are replaced in a row go one after the other: what is
// acknowledged meanwhile lies on two disks at least.
func TestPlanKeepsAMajorityOfTheWish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRaftCluster("A", "B", "C")
		c.applied[c.id("D")], c.applied[c.id("E")] = 5000, 5000
		c.wished("A", "D", "E")
		c.down[c.id("D")], c.down[c.id("E")] = true, true
		loops := c.run(t, "A", "B", "C", "D", "E")
		defer end(loops)
		c.after(t.Context(), time.Minute)
		if got := votersAfter(c.config, "", ""); len(got) != 2 {
			t.Fatalf("%d vote while the new ones are down: %q", len(got), c.log)
		}
		c.set(func() { clear(c.down) })
		c.after(t.Context(), time.Minute)
		if got := c.voters(); got != "A D E" {
			t.Errorf("%s vote: %q", got, c.log)
		}
	})
}
