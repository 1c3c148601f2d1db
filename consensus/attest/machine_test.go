package attest_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/internal/testfed"
)

// checkpointMessage is a message with a checkpoint of region a that its key signed.
func (w *world) checkpointMessage(c *checkpoint.Checkpoint) []byte {
	w.t.Helper()
	note, err := checkpoint.Sign(c, w.fed.LogKeys[c.Region()])
	w.check(err)
	return (&attest.Message{Kind: attest.KindCheckpoint, Document: w.fed.Document.Version, Payload: note}).Encode()
}

func (w *world) status(n *node, region string) attest.RegionStatus {
	w.t.Helper()
	for _, r := range n.att.Status().Regions {
		if r.Region == region {
			return r
		}
	}
	w.t.Fatalf("no status of region %s", region)
	return attest.RegionStatus{}
}

// TestFloodOfCheckpointsIsBounded: an origin that signs without end fills a few places, and does
// not push out the one whose turn it is.
func TestFloodOfCheckpointsIsBounded(t *testing.T) {
	w := newWorld(t, 4, 1)
	z, b := w.regions["a"], w.nodes["b-1"]
	z.sealed(w, 1)
	c := *z.serves(w, "").seals[0].Checkpoint()
	for i := range int64(2000) {
		far := c
		far.Size, far.Root = 1000+i, [32]byte{byte(i), byte(i >> 8)}
		b.step(attest.Received{Data: w.checkpointMessage(&far)})
	}
	if st := w.status(b, "a"); st.Waiting != attest.NotesMax {
		t.Fatalf("%d checkpoints are kept, want %d", st.Waiting, attest.NotesMax)
	}
	w.deliver(func(packet) bool { return true })
	b.follow("a")
	if w.stats["propose vote"] != 1 {
		t.Fatalf("the checkpoint whose turn it was got %d votes\n%s", w.stats["propose vote"], w.out.String())
	}
}

// TestFloodByExchangeIsBounded: of what one exchange brings as much is looked at as an honest node
// can have to say, since each checkpoint costs a signature and a look at the copy's roots.
func TestFloodByExchangeIsBounded(t *testing.T) {
	w := newWorld(t, 4, 1)
	z, b := w.regions["a"], w.nodes["b-1"]
	z.sealed(w, 1)
	c := *z.serves(w, "").seals[0].Checkpoint()
	x := &attest.Exchange{Version: 1, Document: w.fed.Document.Version}
	for i := range int64(attest.ExchangeMessagesMax) {
		far := c
		far.Size = 1000 + i
		x.Messages = append(x.Messages, w.checkpointMessage(&far))
	}
	b.step(attest.Exchanged{Region: "a", Exchange: x})
	if st := w.status(b, "a"); st.Waiting != fsm.UncertifiedSealsMax || b.att.Status().Counts.Received != fsm.UncertifiedSealsMax {
		t.Fatalf("of %d checkpoints %d wait: %+v", len(x.Messages), st.Waiting, b.att.Status().Counts)
	}
}

// TestVotesAreLimited: a region that seals after each entry, and waits for no certificate, does not
// have others commit as many votes.
func TestVotesAreLimited(t *testing.T) {
	w := newWorld(t, 4, 1)
	z, b := w.regions["a"], w.nodes["b-1"]
	w.fork(z, "fast", 1)
	b.shown(z, "fast")
	run := func(seals int) {
		for range seals {
			w.growFork(z, "fast", 1)
			w.lie(z, w.sealFork(z, "fast").Checkpoint())
			w.deliver(func(p packet) bool { return p.to == "b-1" })
			b.follow("a")
			b.zone.commit()
			b.apply()
		}
	}
	run(attest.VotesAtOnce)
	if n := w.stats["propose vote"]; n != attest.VotesAtOnce {
		t.Fatalf("%d votes for an honest region's seals", n)
	}
	run(10)
	if n := w.stats["propose vote"]; n != attest.VotesAtOnce {
		t.Fatalf("%d votes at once", n)
	}
	w.tick(5 * attest.VoteMillis)
	for range 10 {
		b.zone.commit()
		b.apply()
	}
	if n := w.stats["propose vote"]; n != attest.VotesAtOnce+5 {
		t.Fatalf("%d votes after a pause that is for five", n)
	}
}

// TestRefusalsAreLimited: signing many bad checkpoints does not make others sign as many refusals.
func TestRefusalsAreLimited(t *testing.T) {
	w := newWorld(t, 4, 1)
	z, b := w.regions["a"], w.nodes["b-1"]
	z.sealed(w, 20)
	b.follow("a")
	c := *z.serves(w, "").seals[0].Checkpoint()
	w.net = nil
	bad := func(size int64) {
		bad := c
		bad.Size, bad.Root = size, z.serves(w, "").root(w, size)
		b.step(attest.Received{Data: w.checkpointMessage(&bad)})
	}
	for size := c.Size - 1; size > 2; size-- {
		bad(size)
	}
	if n := w.stats["alarm refuses"]; n != 1 {
		t.Fatalf("%d refusals within a second", n)
	}
	w.tick(attest.RefuseMillis)
	bad(2)
	if n := w.stats["alarm refuses"]; n != 2 {
		t.Fatalf("%d refusals after a second more", n)
	}
}

// TestProposalIsMadeAgain: Raft may lose a proposal without a word.
func TestProposalIsMadeAgain(t *testing.T) {
	w := newWorld(t, 4, 1)
	z, b := w.regions["a"], w.nodes["b-1"]
	z.sealed(w, 1)
	w.deliver(func(p packet) bool { return p.to == "b-1" })
	b.follow("a")
	b.zone.offered = nil
	w.tick(attest.RetryMillis - 1)
	if len(b.zone.offered) != 0 {
		t.Fatal("the vote was proposed again too early")
	}
	w.tick(1)
	if len(b.zone.offered) != 1 {
		t.Fatalf("%d proposals after %d ms", len(b.zone.offered), attest.RetryMillis)
	}
}

// TestClockSetBack: a clock that was a day ahead and is put right holds nothing up.
func TestClockSetBack(t *testing.T) {
	w := newWorld(t, 4, 1)
	z, b := w.regions["a"], w.nodes["b-1"]
	const day = 24 * 3600 * 1000
	w.now += day
	z.sealed(w, 1)
	w.deliver(func(p packet) bool { return p.to == "b-1" })
	b.follow("a")
	b.zone.offered = nil
	w.now -= day
	for range attest.RetryMillis/1000 + 1 { // the first finds out
		w.tick(1000)
	}
	if len(b.zone.offered) != 1 {
		t.Errorf("%d proposals of the vote that was lost", len(b.zone.offered))
	}
	if w.stats["offer"] == 0 {
		t.Error("no exchange was asked for")
	}
}

// TestVoterThatDoesNotLeadIsSilent: it listens, and answers when it is asked.
func TestVoterThatDoesNotLeadIsSilent(t *testing.T) {
	w := newWorld(t, 4, 3)
	z := w.regions["a"]
	z.sealed(w, 1)
	for range 5 {
		w.deliver(func(packet) bool { return true })
		for _, n := range w.all() {
			n.follow("a")
		}
		for _, name := range w.names() {
			w.regions[name].commit()
			w.regions[name].applyAll()
		}
		w.tick(3000)
	}
	for _, n := range w.all() {
		if st := n.att.Status(); n.id[2] != '1' && st.Leading {
			t.Errorf("%s leads", n.id)
		}
	}
	for _, p := range w.sent {
		if p.from != "" && p.from[2] != '1' {
			t.Errorf("%s spoke: %s", p.from, w.describe(p.data))
		}
	}
	if len(w.certs["a"]) == 0 {
		t.Fatal("nothing was certified, so nothing was shown")
	}
	// b-3 gives b's cosignature to whoever asks, once the certificate is not known to it.
	b := w.nodes["b-3"]
	b.crash()
	b.start()
	x, err := b.att.Exchange("a")
	if err != nil || len(x.Messages) != 1 {
		t.Fatalf("%d messages, %v", len(x.Messages), err)
	}
	if s, err := attest.Open(x.Messages[0], w.fed.Document); err != nil || s.Kind != attest.KindCosignature || s.Region != "b" {
		t.Fatalf("%+v, %v", s, err)
	}
}

// TestVoterLearnsOfItsOwnRegionWhenItHears: a voter that does not lead applies the certificate some heartbeats
// of Raft after the others have heard of it, and need not be the last to know.
func TestVoterLearnsOfItsOwnRegionWhenItHears(t *testing.T) {
	w := newWorld(t, 4, 3)
	z := w.regions["a"]
	z.sealed(w, 1)
	for range 5 {
		w.deliver(func(packet) bool { return true })
		for _, n := range w.all() {
			n.follow("a")
		}
		for _, name := range w.names() {
			if name != "a" {
				w.regions[name].commit()
				w.regions[name].applyAll()
			}
		}
		w.tick(3000)
	}
	if len(w.certs["a"]) == 0 {
		t.Fatal("nothing was certified, so nothing was shown")
	}
	const learned = "a-2: learned that a is certified at 2"
	if n := strings.Count(w.out.String(), learned); n != 1 {
		t.Errorf("before Raft brought it, the certificate was learned %d times, want 1\n%s", n, w.out.String())
	}
	if certified := w.nodes["a-2"].att.Status().Certified; certified != 0 {
		t.Errorf("%d seals count as certified though the state has no certificate", certified)
	}
	z.commit()
	z.applyAll()
	if n := strings.Count(w.out.String(), learned); n != 2 || w.nodes["a-2"].att.Status().Certified != 1 {
		t.Errorf("once it is in the state it was learned %d times", n)
	}
}

// TestAlarmOfARefusalIsRaisedOnce for each checkpoint and region.
func TestAlarmOfARefusalIsRaisedOnce(t *testing.T) {
	w := newWorld(t, 4, 1)
	z, a := w.regions["a"], w.nodes["a-1"]
	z.sealed(w, 1)
	c := z.serves(w, "").seals[0].Checkpoint()
	keys := attest.NewKeys("b", w.fed.LogKeys["b"], w.fed.Cosign["b"])
	for i := range 10 {
		data, err := keys.Refuse(attest.Refusal{Checkpoint: c, Code: "entry", Detail: fmt.Sprintf("reason %d\n\x00", i)})
		w.check(err)
		a.step(attest.Received{Data: (&attest.Message{Kind: attest.KindRefusal, Document: w.fed.Document.Version, Payload: data}).Encode()})
	}
	if w.stats["alarm refused"] != 1 {
		t.Fatalf("%d alarms", w.stats["alarm refused"])
	}
	if st := w.status(a, "b"); st.Refuses != "entry: reason 0  " || st.Missing != 1 {
		t.Fatalf("%+v", st)
	}
}

// lostKey signs no refusals.
type lostKey struct{ attest.Signer }

var errLostKey = errors.New("the key is lost")

func (lostKey) Refuse(attest.Refusal) ([]byte, error) { return nil, errLostKey }

// TestKeyThatFailsIsNoFaultOfTheCopy that is read when it is needed.
func TestKeyThatFailsIsNoFaultOfTheCopy(t *testing.T) {
	w := newWorld(t, 4, 1)
	z, b := w.regions["a"], w.nodes["b-1"]
	z.sealed(w, 1)
	b.follow("a")
	var faults []error
	m, err := attest.New(attest.Config{Region: "b", Document: w.fed.Document, Views: watched{b, &faults},
		Signer: lostKey{attest.NewKeys("b", w.fed.LogKeys["b"], w.fed.Cosign["b"])}}, w.now)
	w.check(err)
	_, err = m.Step(w.now, attest.Leading{Leading: true})
	w.check(err)
	bad := *z.serves(w, "").seals[0].Checkpoint()
	bad.State[0]++
	if _, err := m.Step(w.now, attest.Received{Data: w.checkpointMessage(&bad)}); !errors.Is(err, errLostKey) {
		t.Errorf("error %v", err)
	}
	if len(faults) != 0 {
		t.Errorf("the copy was blamed: %v", faults)
	}
}

// watched notes what reading a copy failed with.
type watched struct {
	attest.Views
	faults *[]error
}

func (v watched) Copy(origin string, fn func(*fsm.View) error) error {
	return v.Views.Copy(origin, func(view *fsm.View) error {
		err := fn(view)
		if err != nil {
			*v.faults = append(*v.faults, err)
		}
		return err
	})
}

// TestUnknownRegionsInEvents do no harm.
func TestUnknownRegionsInEvents(t *testing.T) {
	w := newWorld(t, 4, 1)
	b := w.nodes["b-1"]
	for _, ev := range []attest.Event{attest.Executed{Origin: "z"}, attest.Executed{Origin: "b"}, attest.Diverged{Origin: "z"}, attest.Diverged{Origin: "b"},
		attest.Exchanged{Region: "z", Exchange: &attest.Exchange{Version: 1}}, attest.Exchanged{Region: "a"}, attest.Applied{Result: fsm.Attested{Origin: "z"}}} {
		if out, err := b.att.Step(w.now, ev); err != nil || len(out) != 0 {
			t.Errorf("%T: %v, %v", ev, out, err)
		}
	}
	if x, err := b.att.Exchange("z"); err != nil || len(x.Messages) != 0 {
		t.Fatalf("%+v, %v", x, err)
	}
}

// TestDivergenceOfAnUnknownKind is still a refusal that others can read.
func TestDivergenceOfAnUnknownKind(t *testing.T) {
	w := newWorld(t, 4, 1)
	z, b := w.regions["a"], w.nodes["b-1"]
	z.sealed(w, 1)
	w.deliver(func(packet) bool { return true })
	b.shown(z, "")
	b.step(attest.Diverged{Origin: "a", Code: "No such code", Detail: string(slices.Repeat([]byte("é\n"), 1000))})
	if w.stats["alarm refuses"] != 1 || w.stats[fmt.Sprintf("sent kind %d", attest.KindRefusal)] != 1 {
		t.Fatalf("%v", w.stats)
	}
}

func TestConfigIsChecked(t *testing.T) {
	fed := testfed.New(4, 1)
	w := newWorld(t, 4, 1)
	good := attest.Config{Region: "a", Document: fed.Document, Views: w.nodes["a-1"], Signer: attest.NewKeys("a", fed.LogKeys["a"], fed.Cosign["a"])}
	for name, change := range map[string]func(*attest.Config){
		"no document": func(c *attest.Config) { c.Document = nil }, "no views": func(c *attest.Config) { c.Views = nil },
		"no signer": func(c *attest.Config) { c.Signer = nil }, "a region of no document": func(c *attest.Config) { c.Region = "z" },
	} {
		c := good
		change(&c)
		if _, err := attest.New(c, start); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := attest.New(good, start); err != nil {
		t.Fatal(err)
	}
}

// TestOneRegionGoesOnUnderTheNextDocument: what waited under the earlier one is covered.
func TestOneRegionGoesOnUnderTheNextDocument(t *testing.T) {
	w := newWorld(t, 1, 1)
	z, a := w.regions["a"], w.nodes["a-1"]
	z.sealed(w, 1)
	z.offered = nil // its certificate is lost
	next := w.fed.Next(testfed.Stricter)
	proof := w.fed.Operator("a", w.now).Sign(fsm.ActionFederationAdopt, next.Adopts(), "")
	z.log = append(z.log, fsm.EncodeAdopt(w.now, proof.Canonical(), next.Document.Canonical()))
	z.applyAll()
	w.fed = next
	z.agent.PolicyHash = next.Document.Constitution.PolicyHash()
	z.sealed(w, 1)
	z.commit()
	z.applyAll()
	if st := a.att.Status(); st.Certified != 2 || st.Waiting != 0 || st.Size != a.m.Size() {
		t.Fatalf("%+v\n%s", st, w.out.String())
	}
	a.crash()
	a.start()
	if st := a.att.Status(); st.Certified != 2 {
		t.Fatalf("after a restart: %+v", st)
	}
}
