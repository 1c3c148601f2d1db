package attest_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/store"
)

var update = flag.Bool("update", false, "write what the dialogues give into testdata")

// TestDialogues plays the files of testdata: blocks of commands, a line ----, and what they give.
// Each file is one story; its first lines say which rule it shows.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.dialogue")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d dialogues: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".dialogue"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(text))
			switch {
			case got == string(text):
			case *update:
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			default:
				t.Errorf("the dialogue went another way (rewrite with -update, and read the difference):\n%s", got)
			}
		})
	}
}

// play runs the commands of a dialogue and gives it back with what they gave.
func play(t *testing.T, text string) string {
	t.Helper()
	var out strings.Builder
	d := &dialogue{t: t}
	for i, block := range strings.Split(strings.TrimRight(text, "\n"), "\n\n") {
		commands, _, _ := strings.Cut(block+"\n", "----\n")
		if i > 0 {
			out.WriteByte('\n')
		}
		out.WriteString(commands)
		ran := 0
		for line := range strings.Lines(commands) {
			if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
				continue
			}
			ran++
			d.run(strings.Fields(line))
		}
		if ran > 0 {
			fmt.Fprintf(&out, "----\n%s", d.w.out.String())
			d.w.out.Reset()
		}
	}
	return out.String()
}

type dialogue struct {
	t *testing.T
	w *world
}

func (d *dialogue) run(f []string) {
	d.t.Helper()
	if f[0] == "world" {
		d.w = newWorld(d.t, d.number(arg(f, "regions"), 4), d.number(arg(f, "voters"), 1))
		return
	}
	commands := map[string]func(f []string){"grow": d.grow, "seal": d.seal, "sync": d.sync, "follow": d.follow, "deliver": d.deliver, "drop": d.drop,
		"commit": d.commit, "lose": d.lose, "apply": d.apply, "crash": d.crash, "start": d.start, "leader": d.leader, "tick": d.tick,
		"exchange": d.exchange, "settle": d.settle, "fork": d.fork, "rewrite": d.rewrite, "lie": d.lie, "serve": d.serve, "restore": d.restore,
		"replay": d.replay, "retired": d.retired, "locks": d.locks, "status": d.status, "garbage": d.garbage, "offer": d.offer, "ahead": d.ahead,
		"repropose": d.repropose, "oldvote": d.oldVote, "colluders": d.colluders, "certificates": d.certificates}
	run, ok := commands[f[0]]
	if !ok {
		d.t.Fatalf("command %q is not known", f[0])
	}
	run(f[1:])
}

// arg finds the value of name=value.
func arg(f []string, name string) string {
	for _, a := range f {
		if v, ok := strings.CutPrefix(a, name+"="); ok {
			return v
		}
	}
	return ""
}

func (d *dialogue) number(text string, none int) int {
	d.t.Helper()
	if text == "" {
		return none
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

// zone finds a region, and the fork of it that a name such as a/x means.
func (d *dialogue) zone(name string) (z *zone, fork string) {
	d.t.Helper()
	name, fork, _ = strings.Cut(name, "/")
	z, ok := d.w.regions[name]
	if !ok || fork != "" && z.forks[fork] == nil {
		d.t.Fatalf("no region %q, or no fork %q of it", name, fork)
	}
	return z, fork
}

func (d *dialogue) node(id string) *node {
	d.t.Helper()
	n, ok := d.w.nodes[id]
	if !ok {
		d.t.Fatalf("no node %q", id)
	}
	return n
}

// grow REGION[/FORK] [COUNT]: so many entries more, applied by all voters that are up.
func (d *dialogue) grow(f []string) {
	z, fork := d.zone(f[0])
	count := 1
	if len(f) > 1 {
		count = d.number(f[1], 1)
	}
	if fork != "" {
		d.w.growFork(z, fork, count)
		return
	}
	z.grow(d.w, count)
	z.applyAll()
}

// seal REGION[/FORK]: a seal, and for a fork the checkpoint that goes with it.
func (d *dialogue) seal(f []string) {
	z, fork := d.zone(f[0])
	if fork != "" {
		d.w.lie(z, d.w.sealFork(z, fork).Checkpoint())
		return
	}
	z.log = append(z.log, fsm.EncodeSeal())
	z.applyAll()
	d.w.say("%s has %d seals of %d entries", z.name, z.nodes[0].seals(), z.nodes[0].m.Size())
}

// sync [REGION…]: one entry and a seal of each.
func (d *dialogue) sync(f []string) {
	for _, r := range f {
		d.grow([]string{r})
		d.seal([]string{r})
	}
}

// follow [NODE] [REGION]: copies follow; without arguments all of all.
func (d *dialogue) follow(f []string) {
	for _, n := range d.w.all() {
		for _, origin := range d.w.names() {
			if origin != n.zone.name && (len(f) < 1 || f[0] == n.id) && (len(f) < 2 || f[1] == origin) {
				n.follow(origin)
			}
		}
	}
}

// pick makes the choice of messages: to=NODE, or of=REGION for those about it.
func (d *dialogue) pick(f []string) func(packet) bool {
	to, of, kind := arg(f, "to"), arg(f, "of"), d.number(arg(f, "kind"), 0)
	return func(p packet) bool {
		s, err := attest.Open(p.data, d.w.fed.Document)
		return (to == "" || p.to == to || d.w.nodes[p.to].zone.name == to) && (of == "" || err == nil && s.Origin == of) &&
			(kind == 0 || err == nil && int(s.Kind) == kind)
	}
}

func (d *dialogue) deliver(f []string) { d.w.deliver(d.pick(f)) }

func (d *dialogue) drop(f []string) {
	which := d.pick(f)
	before := len(d.w.net)
	d.w.net = slices.DeleteFunc(d.w.net, which)
	d.w.say("%d messages are lost", before-len(d.w.net))
}

// commit [REGION…] [at=NODE]: what was proposed is committed, and applied by all, or by one.
func (d *dialogue) commit(f []string) {
	at := arg(f, "at")
	for _, r := range d.w.names() {
		z := d.w.regions[r]
		if len(f) > 0 && f[0] != r {
			continue
		}
		z.commit()
		for _, n := range z.nodes {
			if n.up() && (at == "" || at == n.id) {
				n.apply()
			}
		}
	}
}

func (d *dialogue) lose(f []string) {
	z, _ := d.zone(f[0])
	d.w.say("%d proposals are lost", len(z.offered))
	z.offered = nil
}

func (d *dialogue) apply(f []string) { d.node(f[0]).apply() }

func (d *dialogue) crash(f []string) { d.node(f[0]).crash() }

func (d *dialogue) start(f []string) { d.node(f[0]).start() }

func (d *dialogue) leader(f []string) { d.w.elect(d.node(f[0])) }

func (d *dialogue) tick(f []string) {
	seconds := 1
	if len(f) > 0 {
		seconds = d.number(f[0], 1)
	}
	for range seconds {
		d.w.tick(1000)
	}
}

func (d *dialogue) exchange(f []string) { d.w.exchange(d.node(f[0]), d.node(f[1])) }

// settle: copies follow, messages arrive and proposals are committed until nothing moves.
func (d *dialogue) settle([]string) {
	for range 100 {
		size := d.w.out.Len()
		d.follow(nil)
		moved := d.w.deliver(func(packet) bool { return true })
		d.commit(nil)
		if moved == 0 && d.w.out.Len() == size {
			return
		}
	}
	d.t.Fatal("the world does not settle")
}

// fork REGION NAME at=SIZE: the region has another ledger besides, equal so far.
func (d *dialogue) fork(f []string) {
	z, _ := d.zone(f[0])
	d.w.fork(z, f[1], int64(d.number(arg(f, "at"), 0)))
}

// rewrite REGION NAME size=SIZE outcome|time: the last of so many entries is forged, and sealed.
func (d *dialogue) rewrite(f []string) {
	z, _ := d.zone(f[0])
	change := forgedCode
	if slices.Contains(f, "time") {
		change = forgedTime
	}
	d.w.lie(z, d.w.rewrite(z, f[1], int64(d.number(arg(f, "size"), 0)), change).Checkpoint())
}

// lie REGION size=SIZE state|time: a checkpoint that the region signs besides its own of that seal.
func (d *dialogue) lie(f []string) {
	z, fork := d.zone(f[0])
	src := z.serves(d.w, fork)
	size := int64(d.number(arg(f, "size"), 0))
	for _, s := range src.seals {
		if s.Size != size && !slices.Contains(f, "unsealed") {
			continue
		}
		c := s.Checkpoint()
		switch {
		case slices.Contains(f, "state"):
			c.State[0]++
		case slices.Contains(f, "time"):
			c.TimeMillis++
		case slices.Contains(f, "unsealed"):
			c.Size = size
		}
		d.w.lie(z, c)
		return
	}
	d.t.Fatalf("%s has no seal of %d entries", f[0], size)
}

// serve REGION/FORK NODE…: these nodes are shown the fork from the beginning.
func (d *dialogue) serve(f []string) {
	z, fork := d.zone(f[0])
	for _, id := range f[1:] {
		d.node(id).shown(z, fork)
	}
}

// restore FROM TO: the second node lost everything and gets a snapshot of the first.
func (d *dialogue) restore(f []string) {
	from, to := d.node(f[0]), d.node(f[1])
	dir := filepath.Join(d.t.TempDir(), "snapshot")
	d.w.check(from.st.Checkpoint(dir))
	st, err := store.OpenMemory(dir)
	d.w.check(err)
	d.w.check(fsm.Check(d.t.Context(), st, fsm.Config{Region: to.zone.name}, func(string, int64, int64) {}))
	to.crash()
	to.st, to.copies = st, map[string]*replica{}
	to.start()
}

// replay to=NODE of=REGION kind=KIND: everything ever sent comes again.
func (d *dialogue) replay(f []string) {
	which := d.pick(f)
	n := d.node(arg(f, "to"))
	seen := map[string]bool{}
	count := 0
	for _, p := range slices.Clone(d.w.sent) {
		p.to = n.id
		if !seen[string(p.data)] && which(p) {
			seen[string(p.data)] = true
			count++
			n.step(attest.Received{Data: p.data})
		}
	}
	d.w.say("%d messages came again", count)
}

// retired to=NODE: everything ever sent comes again, meant under the document before.
func (d *dialogue) retired(f []string) {
	n := d.node(arg(f, "to"))
	for _, p := range slices.Clone(d.w.sent) {
		m, err := attest.DecodeMessage(p.data)
		d.w.check(err)
		m.Document--
		n.step(attest.Received{Data: m.Encode()})
	}
	d.status([]string{n.id})
}

func (d *dialogue) garbage(f []string) {
	n := d.node(arg(f, "to"))
	for _, data := range [][]byte{nil, {1}, {9, 9}, []byte("hello"), bytes.Repeat([]byte{1}, attest.MessageBytesMax+1)} {
		n.step(attest.Received{Data: data})
	}
	for _, p := range slices.Clone(d.w.sent) {
		data := slices.Clone(p.data)
		data[len(data)/2] ^= 1
		n.step(attest.Received{Data: data})
	}
	d.status([]string{n.id})
}

// locks [NODE…]: what regions are bound to.
func (d *dialogue) locks(f []string) {
	for _, n := range d.w.all() {
		if len(f) > 0 && !slices.Contains(f, n.id) || !n.up() {
			continue
		}
		var parts []string
		for _, origin := range d.w.names() {
			if size := n.locked(origin); size > 0 {
				parts = append(parts, fmt.Sprintf("%s at %d", origin, size))
			}
		}
		if len(parts) == 0 {
			parts = []string{"nothing"}
		}
		d.w.say("%s is bound to %s", n.id, strings.Join(parts, ", "))
	}
}

func (d *dialogue) status(f []string) {
	n := d.node(f[0])
	st := n.att.Status()
	d.w.say("%s: leading %v, %d seals certified with %d entries, %d waiting; %d messages, %d invalid, %d of other documents, %d useless",
		n.id, st.Leading, st.Certified, st.Size, st.Waiting, st.Counts.Received, st.Counts.Invalid, st.Counts.Other, st.Counts.Useless)
	for _, r := range st.Regions {
		d.w.say("  %s: evidence %v, voted %d, certified %d, waiting %d, missing %d, refuses %q, refused %q, diverged %q",
			r.Region, r.Evidence, r.Voted, r.Certified, r.Waiting, r.Missing, r.Refuses, r.Refused, r.Diverged)
	}
}

// offer: all exchanges that the machines ask for on the next ticks take place with the first voter
// that is up, until nobody asks any more.
func (d *dialogue) offer(f []string) {
	for range d.number(arg(f, "seconds"), 10) {
		mark := d.w.out.Len()
		d.w.tick(1000)
		for from, region := range d.w.offers(mark) {
			z := d.w.regions[region]
			if i := slices.IndexFunc(z.nodes, (*node).up); i >= 0 {
				d.w.exchange(d.w.nodes[from], z.nodes[i])
			}
		}
	}
}

// ahead REGION SECONDS: its leader's clock is ahead from now on.
func (d *dialogue) ahead(f []string) {
	z, _ := d.zone(f[0])
	z.skew = int64(d.number(f[1], 0)) * 1000
}

// repropose REGION ORIGIN: the last command about the origin is committed once more.
func (d *dialogue) repropose(f []string) {
	z, _ := d.zone(f[0])
	z.offered = append(z.offered, d.w.votes[f[0]+" "+f[1]])
}

// oldvote REGION ORIGIN: a vote for the newest seal, under the document before.
func (d *dialogue) oldVote(f []string) {
	z, _ := d.zone(f[0])
	origin, _ := d.zone(f[1])
	src := origin.serves(d.w, "")
	note := d.w.notes[string(src.seals[len(src.seals)-1].Body())]
	z.offered = append(z.offered, fsm.EncodeVote(f[1], d.w.fed.Document.Version-1, note, nil))
}

// colluders REGION…: these cosign whatever they see from now on.
func (d *dialogue) colluders(f []string) { d.w.blind = f }

// certificates REGION: whoever has all cosignatures publishes every certificate that they make.
func (d *dialogue) certificates(f []string) {
	for _, note := range d.w.certs[f[0]] {
		data := (&attest.Message{Kind: attest.KindCertificate, Document: d.w.fed.Document.Version, Payload: note}).Encode()
		d.w.say("%s: publish certificates: %s", f[0], d.w.describe(data))
		d.w.publish(f[0], attest.Topic{Name: attest.TopicCertificates}, data)
	}
	d.w.say("contradicting: %q", d.w.contradictions())
}
