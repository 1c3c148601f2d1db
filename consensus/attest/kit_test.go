package attest_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
)

const (
	start       = int64(1_772_452_800_000) // 2026-03-02T12:00:00Z
	aheadMillis = 10_000                   // a copy waits for entries further ahead of its clock
)

// world is a federation whose network, Rafts and clocks obey the test. Every voter has a real
// state machine, a real copy of each other region's ledger, and the step machine under test.
type world struct {
	t       testing.TB
	fed     *testfed.Federation
	now     int64
	regions map[string]*zone
	nodes   map[string]*node
	net     []packet
	sent    []packet // everything ever published or exchanged, for replays
	out     strings.Builder
	certs   map[string][][]byte // certificates that anybody could ever make, by origin
	notes   map[string][]byte   // checkpoint notes by body
	lines   map[string]map[string][]byte
	votes   map[string][]byte // commands by region and origin
	blind   []string          // regions that cosign whatever they see
	worked  map[string]bool   // region and body: a copy there came to that body by executing
	stats   map[string]int
}

// packet is a gossip message on its way to one node.
type packet struct {
	to   string
	from string
	data []byte
}

// zone is a region: its Raft log, and what it serves.
type zone struct {
	name    string
	log     [][]byte // committed
	offered [][]byte // proposed, not committed
	nodes   []*node
	leader  int // -1: none
	agent   *testfed.Signer
	count   int
	skew    int64 // millis by which its stamps are ahead
	forks   map[string]*ledgerSource
}

// node is one voter.
type node struct {
	w       *world
	zone    *zone
	id      string
	st      store.Store
	m       *fsm.Machine
	att     *attest.Machine // nil while it is down
	applied int
	copies  map[string]*replica
}

// replica is a copy of another region's ledger.
type replica struct {
	m      *fsm.Machine
	source string // fork that it follows; "" is the region's own ledger
}

func newWorld(t testing.TB, regions, voters int) *world {
	t.Helper()
	fed := testfed.New(regions, voters, testfed.Open, func(d *federation.Document) { d.Version = 2 })
	w := &world{t: t, fed: fed, now: start, regions: map[string]*zone{}, nodes: map[string]*node{}, certs: map[string][][]byte{}, notes: map[string][]byte{},
		lines: map[string]map[string][]byte{}, votes: map[string][]byte{}, worked: map[string]bool{}, stats: map[string]int{}}
	for _, r := range fed.Document.Regions {
		z := &zone{name: r.Name, leader: -1, agent: fed.Agent("agent-"+r.Name, start), forks: map[string]*ledgerSource{}}
		w.regions[r.Name] = z
		for i := range voters {
			n := &node{w: w, zone: z, id: fmt.Sprintf("%s-%d", r.Name, i+1), st: store.NewMemory(), copies: map[string]*replica{}}
			w.nodes[n.id] = n
			z.nodes = append(z.nodes, n)
		}
		z.log = append(z.log, fsm.EncodeGenesis(w.now, fed.Document.Canonical()))
	}
	for _, n := range w.all() {
		n.start()
	}
	for _, r := range w.names() {
		w.elect(w.regions[r].nodes[0])
	}
	w.out.Reset()
	return w
}

func (w *world) names() []string {
	var names []string
	for _, r := range w.fed.Document.Regions {
		names = append(names, r.Name)
	}
	return names
}

func (w *world) all() []*node {
	var all []*node
	for _, r := range w.names() {
		all = append(all, w.regions[r].nodes...)
	}
	return all
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v\n%s", err, w.out.String())
	}
}

func (w *world) document([32]byte) ([]byte, bool) { return w.fed.Document.Canonical(), true }

// start opens what the node has stored and makes its step machine anew.
func (n *node) start() {
	w := n.w
	w.t.Helper()
	m, err := fsm.Open(n.st, fsm.Config{Region: n.zone.name, Document: w.document})
	w.check(err)
	w.t.Cleanup(func() { _ = m.Close() })
	n.m = m
	index, _ := m.AppliedIndex()
	n.applied = int(index)
	n.att = nil
	n.apply()
	n.att, err = attest.New(attest.Config{Region: n.zone.name, Document: w.fed.Document, Views: n,
		Signer: attest.NewKeys(n.zone.name, w.fed.LogKeys[n.zone.name], w.fed.Cosign[n.zone.name])}, w.now)
	w.check(err)
	n.agree()
}

func (n *node) crash() {
	n.att = nil
	if n.leads() {
		n.zone.leader = -1
	}
	n.w.net = slices.DeleteFunc(n.w.net, func(p packet) bool { return p.to == n.id })
}

func (n *node) up() bool { return n.att != nil }

func (n *node) leads() bool {
	return n.zone.leader >= 0 && n.zone.nodes[n.zone.leader] == n
}

// Own implements attest.Views.
func (n *node) Own(fn func(*fsm.View) error) error { return lend(n.m, fn) }

// Copy implements attest.Views.
func (n *node) Copy(origin string, fn func(*fsm.View) error) error {
	c, ok := n.copies[origin]
	if !ok {
		return nil
	}
	return lend(c.m, fn)
}

func lend(m *fsm.Machine, fn func(*fsm.View) error) error {
	v, err := m.View()
	if err != nil {
		return err
	}
	return errors.Join(fn(v), v.Close())
}

// step hands an event to the node's machine and carries out what it says.
func (n *node) step(ev attest.Event) {
	n.w.t.Helper()
	if !n.up() {
		return
	}
	out, err := n.att.Step(n.w.now, ev)
	n.w.check(err)
	for _, o := range out {
		n.do(o)
	}
}

func (n *node) do(o attest.Output) {
	w := n.w
	w.t.Helper()
	switch o := o.(type) {
	case attest.Publish:
		w.say("%s: publish %s: %s", n.id, topicName(o.Topic), w.describe(o.Data))
		w.publish(n.id, o.Topic, o.Data)
	case attest.Propose:
		w.say("%s: propose %s %s %d", n.id, o.Statement, o.Origin, o.Size)
		w.stats["propose "+string(o.Statement)]++
		w.votes[n.zone.name+" "+o.Origin] = o.Command
		if n.leads() { // Raft takes proposals of the leader alone
			n.zone.offered = append(n.zone.offered, o.Command)
		}
	case attest.Offer:
		w.say("%s: offer %s", n.id, o.Region)
		w.stats["offer"]++
	case attest.Learned:
		w.say("%s: learned that %s is certified at %d", n.id, o.Origin, o.Size)
	case attest.Alarm:
		w.say("%s: ALARM %s %s: %s", n.id, o.Kind, o.Region, o.Detail)
		w.stats["alarm "+string(o.Kind)]++
	default:
		w.t.Fatalf("output %T is not known", o)
	}
}

func (w *world) say(format string, args ...any) { fmt.Fprintf(&w.out, format+"\n", args...) }

func topicName(t attest.Topic) string {
	if t.Region == "" {
		return t.Name
	}
	return t.Name + "/" + t.Region
}

// publish sends a message to those who listen to the topic: votes only to the origin's voters.
func (w *world) publish(from string, topic attest.Topic, data []byte) {
	w.note(from, data)
	for _, n := range w.all() {
		if n.id != from && n.up() && (topic.Region == "" || topic.Region == n.zone.name) {
			w.net = append(w.net, packet{to: n.id, from: from, data: data})
		}
	}
}

// describe says what a message states.
func (w *world) describe(data []byte) string {
	s, err := attest.Open(data, w.fed.Document)
	if err != nil {
		m, err2 := attest.DecodeMessage(data)
		if err2 != nil {
			return err2.Error()
		}
		return fmt.Sprintf("kind %d under document %d", m.Kind, m.Document)
	}
	switch s.Kind {
	case attest.KindCheckpoint:
		return fmt.Sprintf("checkpoint of %s at %d", s.Origin, s.Checkpoint.Size)
	case attest.KindCosignature:
		return fmt.Sprintf("cosignature by %s of %s at %d", s.Region, s.Origin, s.Checkpoint.Size)
	case attest.KindCertificate:
		return fmt.Sprintf("certificate of %s at %d", s.Origin, s.Checkpoint.Size)
	case attest.KindRefusal:
		return fmt.Sprintf("refusal by %s of %s at %d: %s", s.Region, s.Origin, s.Refusal.Size, s.Refusal.Code)
	default:
		if len(s.Evidence.Proof) > 0 {
			return fmt.Sprintf("evidence against %s: a proof that it rewrote its ledger", s.Origin)
		}
		return fmt.Sprintf("evidence against %s: two bodies of equal size", s.Origin)
	}
}

// elect makes a node the leader of its region.
func (w *world) elect(n *node) {
	w.t.Helper()
	z := n.zone
	old := z.leader
	z.leader = slices.Index(z.nodes, n)
	if old >= 0 && old != z.leader {
		z.nodes[old].step(attest.Leading{Leading: false})
	}
	z.offered = nil // what an old leader had not committed is lost
	n.apply()       // a leader's barrier
	n.step(attest.Leading{Leading: true})
}

// commit puts everything proposed on a majority's disks; who applies it, apply says.
func (z *zone) commit() int {
	n := len(z.offered)
	z.log = append(z.log, z.offered...)
	z.offered = nil
	return n
}

// apply applies what the region committed.
func (n *node) apply() {
	n.w.t.Helper()
	for n.applied < len(n.zone.log) {
		n.applied++
		res, err := n.m.Apply([]fsm.Command{{Index: uint64(n.applied), Term: 1, Data: n.zone.log[n.applied-1]}})
		n.w.check(err)
		if a := res[0].Attested; a != nil {
			n.w.sayApplied(n, a)
			n.step(attest.Applied{Result: *a})
		}
	}
	n.agree()
}

func (w *world) sayApplied(n *node, a *fsm.Attested) {
	what := fmt.Sprintf("%s %s %d", a.Statement, a.Origin, a.Size)
	switch {
	case !a.Accepted():
		w.say("%s: refused %s: %s", n.id, what, a.Refusal)
	case a.Repeated:
		w.say("%s: repeated %s", n.id, what)
	default:
		w.say("%s: applied %s", n.id, what)
	}
}

// agree plays link.Seals: a seal that a majority has applied may be signed by those who have.
func (n *node) agree() {
	n.w.t.Helper()
	if !n.up() {
		return
	}
	var counts []int64
	for _, o := range n.zone.nodes {
		counts = append(counts, o.seals())
	}
	slices.Sort(counts)
	majority := counts[(len(counts)-1)/2] // so many that more than half have at least it
	if agreed := min(majority, n.seals()) - 1; agreed >= 0 {
		n.step(attest.Agreed{Number: agreed})
	}
}

func (n *node) seals() int64 {
	if n.m == nil {
		return 0 // the world is being made
	}
	v, err := n.m.View()
	n.w.check(err)
	s := v.Seals()
	n.w.check(v.Close())
	return s
}

// grow appends entries to a region's ledger.
func (z *zone) grow(w *world, entries int) {
	z.log = append(z.log, z.proofs(w, entries))
}

// sealed appends so many entries and a seal, which all voters apply.
func (z *zone) sealed(w *world, entries int) {
	z.grow(w, entries)
	z.log = append(z.log, fsm.EncodeSeal())
	z.applyAll()
}

func (z *zone) proofs(w *world, entries int) []byte {
	var canonical [][]byte
	z.agent.NowMillis = w.now + z.skew
	for range entries {
		z.count++
		canonical = append(canonical, z.agent.Sign("session.open", map[string]any{"region": z.name, "session": fmt.Sprintf("s%d", z.count)}, "").Canonical())
	}
	return fsm.EncodeProofs(w.now+z.skew, canonical)
}

func (z *zone) applyAll() {
	for _, n := range z.nodes {
		if n.up() {
			n.apply()
		}
	}
	for _, n := range z.nodes { // those who applied first know now that others have too
		n.agree()
	}
}

// ledgerSource is what a region serves: entries with the seals in their places.
type ledgerSource struct {
	entries [][]byte
	seals   []*fsm.Seal
	m       *fsm.Machine // of a fork that grows
	index   uint64
	log     store.Store // of the entries, for roots
	logged  int
}

func sourceOf(w *world, m *fsm.Machine) *ledgerSource {
	v, err := m.View()
	w.check(err)
	s := &ledgerSource{m: m}
	if m.Size() > 0 {
		s.entries, err = v.Ledger().Entries(0, m.Size(), 1<<30)
		w.check(err)
	}
	for n := range v.Seals() {
		seal, err := v.SealAt(n)
		w.check(err)
		s.seals = append(s.seals, seal)
	}
	w.check(v.Close())
	return s
}

// serves is what a region serves under the name of a fork; "" is what its voters have.
func (z *zone) serves(w *world, fork string) *ledgerSource {
	if fork != "" {
		f := z.forks[fork]
		if f.m != nil {
			now := sourceOf(w, f.m)
			f.entries, f.seals = now.entries, now.seals
		}
		return f
	}
	var best *fsm.Machine
	for _, n := range z.nodes {
		if n.up() && (best == nil || n.m.Size() > best.Size() || n.m.Size() == best.Size() && n.seals() > 0) {
			best = n.m
		}
	}
	if best == nil {
		return nil
	}
	return sourceOf(w, best)
}

// follow brings the node's copy of a region forward, as package follow does.
func (n *node) follow(origin string) {
	w := n.w
	w.t.Helper()
	if !n.up() || origin == n.zone.name {
		return
	}
	c := n.copies[origin]
	if c == nil {
		n.shown(w.regions[origin], "")
		c = n.copies[origin]
	}
	src := w.regions[origin].serves(w, c.source)
	if src == nil {
		return
	}
	before := c.m.Size()
	seals, err := take(c.m, src, w.now)
	for _, s := range sourceOf(w, c.m).seals {
		w.worked[n.zone.name+" "+string(s.Body())] = true
	}
	if seals > 0 || c.m.Size() > before {
		n.step(attest.Executed{Origin: origin})
	}
	if err != nil {
		code := "diverged"
		if strings.Contains(err.Error(), "log time goes back") {
			code = "time"
		}
		n.step(attest.Diverged{Origin: origin, Code: code, Detail: "re-execution differs"})
	}
}

// shown has the node follow a fork of a region from the beginning; "" is the region's own ledger.
func (n *node) shown(z *zone, fork string) {
	n.w.t.Helper()
	m, err := fsm.Open(store.NewMemory(), fsm.Config{Region: z.name, Document: n.w.document})
	n.w.check(err)
	n.w.t.Cleanup(func() { _ = m.Close() })
	n.copies[z.name] = &replica{m: m, source: fork}
}

// take re-executes what a source has and the machine lacks. An entry too far ahead of the clock
// is waited for.
func take(m *fsm.Machine, src *ledgerSource, now int64) (seals int, err error) {
	v, err := m.View()
	if err != nil {
		return 0, err
	}
	next := int(v.Seals())
	if err := v.Close(); err != nil {
		return 0, err
	}
	for {
		to := int64(len(src.entries))
		if next < len(src.seals) {
			to = src.seals[next].Size
		}
		for m.Size() < to {
			e, err := fsm.ParseEntry(src.entries[m.Size()])
			if err != nil {
				return seals, err
			}
			if e.TimeMillis > now+aheadMillis {
				return seals, nil
			}
			if err := m.ApplyEntries(src.entries[m.Size() : m.Size()+1]); err != nil {
				return seals, err
			}
		}
		if next == len(src.seals) {
			return seals, nil
		}
		if err := m.ApplySeal(src.seals[next]); err != nil {
			return seals, err
		}
		next++
		seals++
	}
}

// deliver hands over messages that are on their way; which says which.
func (w *world) deliver(which func(packet) bool) (count int) {
	w.t.Helper()
	queue := w.net
	w.net = nil
	var kept []packet
	for _, p := range queue {
		if !which(p) {
			kept = append(kept, p)
			continue
		}
		w.nodes[p.to].step(attest.Received{Data: p.data})
		count++
	}
	w.net = append(kept, w.net...)
	return count
}

// exchange has two nodes of different regions speak over a stream.
func (w *world) exchange(from, to *node) {
	w.t.Helper()
	if !from.up() || !to.up() {
		return
	}
	w.stats["exchange"]++
	request, err := from.att.Exchange(to.zone.name)
	w.check(err)
	w.sayExchange(from, to, request)
	to.step(attest.Exchanged{Region: from.zone.name, Exchange: request})
	response, err := to.att.Exchange(from.zone.name)
	w.check(err)
	w.sayExchange(to, from, response)
	from.step(attest.Exchanged{Region: to.zone.name, Exchange: response})
}

func (w *world) sayExchange(from, to *node, x *attest.Exchange) {
	w.check(x.Check())
	for _, m := range x.Messages {
		w.say("%s > %s: %s", from.id, to.id, w.describe(m))
		w.note(from.id, m)
	}
}

// offers are the exchanges asked for since a mark in the output, in order.
func (w *world) offers(mark int) func(yield func(from, region string) bool) {
	return func(yield func(from, region string) bool) {
		for line := range strings.Lines(w.out.String()[mark:]) {
			if from, region, ok := strings.Cut(strings.TrimSpace(line), ": offer "); ok && !yield(from, region) {
				return
			}
		}
	}
}

// tick moves the clock and tells everybody.
func (w *world) tick(millis int64) {
	w.now += millis
	for _, n := range w.all() {
		n.step(attest.Tick{})
	}
}

// locked is how many entries of an origin a node's region is bound to, as the node has applied.
func (n *node) locked(origin string) int64 {
	v, err := n.m.View()
	n.w.check(err)
	l, err := v.Lock(origin)
	n.w.check(v.Close())
	if errors.Is(err, fsm.ErrNotFound) {
		return 0
	}
	n.w.check(err)
	return l.Last.Size
}
