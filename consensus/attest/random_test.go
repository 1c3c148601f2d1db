package attest_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
)

// chance plays a world by dice: a phase in which everything goes wrong, then one in which the
// network heals.
type chance struct {
	*world
	r     *rand.Rand
	liars []string // the first lies as an origin; all cosign whatever they see
	forks int
	split bool // each sees only the ledger that it is shown, and no certificate or evidence
}

func newChance(t *testing.T, seed uint64, regions, voters int, liars ...string) *chance {
	t.Helper()
	c := &chance{world: newWorld(t, regions, voters), r: rand.New(rand.NewPCG(seed, 1)), liars: liars}
	c.blind = liars
	return c
}

func (c *chance) node() *node {
	all := c.all()
	return all[c.r.IntN(len(all))]
}

func (c *chance) zone() *zone { return c.regions[c.names()[c.r.IntN(len(c.names()))]] }

func (c *chance) trouble(steps int) {
	c.t.Helper()
	for range steps {
		switch roll := c.r.IntN(100); {
		case roll < 12:
			c.growAndSeal(c.zone())
		case roll < 22:
			c.lieAbout(c.regions[c.liars[0]])
		case roll < 42:
			c.deliver(func(p packet) bool { return c.r.IntN(3) > 0 && !c.hidden(p) })
		case roll < 48:
			c.net = slices.DeleteFunc(c.net, func(packet) bool { return c.r.IntN(3) == 0 && !c.split })
		case roll < 66:
			c.node().follow(c.names()[c.r.IntN(len(c.names()))])
		case roll < 80:
			c.raft(c.zone())
		case roll < 86 && !c.split:
			c.crashOrStart(c.node())
		case roll < 90:
			if n := c.node(); n.up() {
				c.elect(n)
				c.stats["leader change"]++
			}
		case roll < 94:
			if a, b := c.node(), c.node(); a.zone != b.zone && !c.split {
				c.exchange(a, b)
			}
		case roll < 96 && len(c.sent) > 0 && !c.split:
			c.node().step(attest.Received{Data: c.sent[c.r.IntN(len(c.sent))].data})
		default:
			c.tick(int64(c.r.IntN(4000)))
		}
	}
}

func (c *chance) growAndSeal(z *zone) {
	if z.leader < 0 {
		return
	}
	z.grow(c.world, 1+c.r.IntN(3))
	z.log = append(z.log, fsm.EncodeSeal())
	c.applySome(z)
}

// applySome has some of the voters apply, always a majority: Raft commits no other way.
func (c *chance) applySome(z *zone) {
	up := slices.DeleteFunc(slices.Clone(z.nodes), func(n *node) bool { return !n.up() })
	c.r.Shuffle(len(up), func(i, j int) { up[i], up[j] = up[j], up[i] })
	for i, n := range up {
		if i <= len(z.nodes)/2 || c.r.IntN(2) == 0 {
			n.apply()
		}
	}
	for _, n := range up {
		n.agree()
	}
}

func (c *chance) raft(z *zone) {
	if c.r.IntN(4) == 0 && !c.split {
		z.offered = nil
		return
	}
	z.commit()
	c.applySome(z)
}

// hidden reports whether a split network keeps a message from its receiver: liars who want two
// certificates do not let those who follow one ledger see what is said of the other.
func (c *chance) hidden(p packet) bool {
	s, err := attest.Open(p.data, c.fed.Document)
	c.check(err)
	z := c.regions[c.liars[0]]
	if !c.split || s.Origin != z.name || p.to[:1] == z.name {
		return false
	}
	if s.Kind != attest.KindCheckpoint {
		return true
	}
	shown := c.nodes[p.to].copies[z.name]
	if shown == nil {
		return true
	}
	src := z.serves(c.world, shown.source)
	return src == nil || src.root(c.world, s.Checkpoint.Size) != s.Checkpoint.Root
}

// crashOrStart leaves a majority of each region up, so that its Raft can go on.
func (c *chance) crashOrStart(n *node) {
	if !n.up() {
		n.start()
		return
	}
	down := 0
	for _, o := range n.zone.nodes {
		if !o.up() {
			down++
		}
	}
	if 2*(down+1) < len(n.zone.nodes) || len(n.zone.nodes) == 1 {
		n.crash()
		c.stats["crash"]++
	}
}

// lieAbout makes a fork of a ledger, or goes on with one, and shows it to somebody.
func (c *chance) lieAbout(z *zone) {
	if c.r.IntN(2) == 0 && len(z.forks) < map[bool]int{false: 3, true: 1}[c.split] {
		src := z.serves(c.world, "")
		if src == nil || len(src.entries) < 2 {
			return
		}
		c.forks++
		c.fork(z, fmt.Sprint("x", c.forks), 1+c.r.Int64N(int64(len(src.entries)-1)))
		return
	}
	for name := range z.forks {
		if c.r.IntN(2) > 0 && len(z.forks) > 1 {
			continue
		}
		c.growFork(z, name, 1+c.r.IntN(3))
		said := c.sealFork(z, name).Checkpoint()
		if !c.split && c.r.IntN(2) == 0 {
			said.State[0]++ // nobody's execution gives that
		}
		c.lie(z, said)
		if n := c.node(); n.zone != z && n.up() && !(c.split && n.id != "b-1") && (n.copies[z.name] == nil || n.copies[z.name].source != name) {
			n.shown(z, name)
		}
		return
	}
}

// heal ends all trouble; what was shown to whom stays.
func (c *chance) heal() {
	c.t.Helper()
	for _, n := range c.all() {
		if !n.up() {
			n.start()
		}
	}
	for _, name := range c.names() {
		z := c.regions[name]
		if z.leader < 0 {
			c.elect(z.nodes[c.r.IntN(len(z.nodes))])
		}
		z.grow(c.world, 1)
		z.log = append(z.log, fsm.EncodeSeal())
	}
	for round := range 40 {
		for _, name := range c.names() {
			z := c.regions[name]
			z.commit()
			z.applyAll()
		}
		for _, n := range c.all() {
			for _, origin := range c.names() {
				if origin != n.zone.name {
					n.follow(origin)
				}
			}
		}
		c.deliver(func(packet) bool { return true })
		mark := c.out.Len()
		c.tick(1000)
		for from, to := range c.offers(mark) {
			z := c.regions[to]
			c.exchange(c.nodes[from], z.nodes[round%len(z.nodes)])
		}
	}
}

// signedTwice are pairs of bodies, cosigned by one honest region, that contradict.
func (c *chance) signedTwice() (found []string) {
	c.t.Helper()
	byRegion := map[string][]*checkpoint.Checkpoint{}
	for body, lines := range c.lines {
		at, err := checkpoint.ParseBody([]byte(body))
		c.check(err)
		for region := range lines {
			if slices.Contains(c.liars, region) {
				continue
			}
			for _, other := range byRegion[region] {
				if other.Origin == at.Origin && !c.world.agree(other, at) {
					found = append(found, fmt.Sprintf("%s signed %s at %d and at %d", region, at.Region(), other.Size, at.Size))
				}
			}
			byRegion[region] = append(byRegion[region], at)
		}
	}
	return found
}

// attested fails unless every honest region's last seal is certified.
func (c *chance) attested() {
	c.t.Helper()
	for _, name := range c.names() {
		if slices.Contains(c.liars, name) {
			continue
		}
		for _, n := range c.regions[name].nodes {
			st := n.att.Status()
			if seals := n.seals(); st.Certified != seals || seals < 1 {
				c.t.Fatalf("after the network healed %s has %d of its %d seals certified:\n%s", n.id, st.Certified, seals, c.out.String())
			}
		}
	}
}

// TestSafetyAndProgress: with fewer than a third of the regions lying, no two certificates
// contradict and no honest region signs two things, whatever is lost, replayed, restarted or shown
// to whom; and when the network heals, all is certified.
func TestSafetyAndProgress(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	total := map[string]int{}
	certificates := 0
	for run := range uint64(12) {
		shape := []struct {
			regions, voters int
			liars           []string
		}{{4, 1, []string{"a"}}, {4, 3, []string{"a"}}, {7, 1, []string{"a", "g"}}, {6, 1, []string{"b"}}}[run%4]
		c := newChance(t, seed+run, shape.regions, shape.voters, shape.liars...)
		c.trouble(300)
		c.heal()
		if found := append(c.contradictions(), c.signedTwice()...); len(found) > 0 {
			t.Fatalf("run %d of seed %d: %q\n%s", run, seed, found, c.out.String())
		}
		c.attested()
		for what, n := range c.stats {
			total[what] += n
		}
		for _, all := range c.certs {
			certificates += len(all)
		}
	}
	t.Logf("%d certificates, %v", certificates, total)
	for _, what := range []string{"crash", "leader change", "exchange", "alarm evidence", "alarm refuses", "propose vote", "propose certificate", "propose evidence"} {
		if total[what] < 5 {
			t.Errorf("%s happened %d times", what, total[what])
		}
	}
	if n := total["alarm certificate"]; n != 0 {
		t.Errorf("%d alarms of contradicting certificates, of which there were none", n)
	}
	if certificates < 100 {
		t.Errorf("only %d certificates were made", certificates)
	}
}

// TestMoreThanAThirdContradict: 2q−N liars can have two certificates that contradict, and the
// search of the test above finds them: it would notice.
func TestMoreThanAThirdContradict(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	const worlds = 100
	for run := range uint64(worlds) {
		c := newChance(t, seed+run, 4, 1, "a", "d")
		c.split = true
		c.trouble(300)
		if two := c.signedTwice(); len(two) > 0 {
			t.Fatalf("run %d of seed %d: honest regions %q", run, seed, two)
		}
		if found := c.contradictions(); len(found) > 0 {
			t.Logf("world %d: %q", run, found)
			return
		}
	}
	t.Errorf("in %d worlds two liars of four never got two certificates that contradict", worlds)
}
