package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/pci"
)

// seals are what a region sealed, by its leader.
func (w *World) seals(t *testing.T, region string) (seals []*fsm.Seal) {
	t.Helper()
	err := w.Leader(region).read(func(v *fsm.View) error {
		for n := range v.Seals() {
			s, err := v.SealAt(n)
			if err != nil {
				return err
			}
			seals = append(seals, s)
		}
		return nil
	})
	if err != nil || len(seals) == 0 {
		t.Fatalf("%s has %d seals: %v", region, len(seals), err)
	}
	return seals
}

// everyVoter says whether something holds of what each voter of the regions that do not lie knows of a region.
func (w *World) everyVoter(about string, holds func(st attest.RegionStatus, following client.RegionStatus) bool) bool {
	for _, n := range w.All() {
		if !n.Votes || n.lies.Load() != nil || n.Region == about || n.Running() == nil {
			continue
		}
		st, err := n.Running().Status()
		if err != nil {
			return false
		}
		rs := n.Attestation().Regions
		i := slices.IndexFunc(rs, func(r attest.RegionStatus) bool { return r.Region == about })
		j := slices.IndexFunc(st.Regions, func(r client.RegionStatus) bool { return r.Region == about })
		if i < 0 || j < 0 || !holds(rs[i], st.Regions[j]) {
			return false
		}
	}
	return true
}

// othersGoOn shows that regions that do not lie are attested, while the liar is there.
func (w *World) othersGoOn(t *testing.T) {
	t.Helper()
	for _, r := range w.Regions() {
		if w.Voters(r)[0].lies.Load() == nil {
			w.attested(t, 30*time.Second, r, w.submit(t, r, 1))
		}
	}
}

func tell(t *testing.T, l *Liar, messages ...[]byte) {
	t.Helper()
	for _, r := range l.world.Regions() {
		if r == l.Region {
			continue
		}
		if _, err := l.Tell(t.Context(), r, messages...); err != nil {
			t.Fatal(err)
		}
	}
}

func lied(t *testing.T, l *Liar) {
	t.Helper()
	if l.Told() == 0 {
		t.Fatal("no lie was told")
	}
}

// TestAnOriginThatEquivocates is convicted everywhere by two checkpoints of one size; it gets no
// votes any more, and its own still count.
func TestAnOriginThatEquivocates(t *testing.T) {
	bothWays(t, nil, func(t *testing.T, w *World) {
		w.attested(t, 20*time.Second, "d", w.submit(t, "d", 2))
		d := w.Liar("d")
		seals := w.seals(t, "d")
		other := *seals[len(seals)-1].Checkpoint()
		other.State[7] ^= 1
		message, err := d.Checkpoint(&other)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Tell(t.Context(), "a", message); err != nil { // one region is told, and tells the others
			t.Fatal(err)
		}
		lied(t, d)
		w.within(t, 30*time.Second, "evidence with every voter", func() bool {
			return w.everyVoter("d", func(st attest.RegionStatus, _ client.RegionStatus) bool { return st.Evidence })
		})
		if w.Auditor.Alarms(attest.AlarmEvidence, "d") == 0 {
			t.Fatal("nobody was told of the evidence")
		}
		last := w.submit(t, "d", 2)
		w.quiet(t, 30*time.Second)
		if w.Attested("d", last) {
			t.Fatal("a region in evidence was attested")
		}
		w.CutOff("c", true)
		w.othersOf(t, "a", "b") // needs the vote of the region in evidence
	})
}

func (w *World) othersOf(t *testing.T, regions ...string) {
	t.Helper()
	for _, r := range regions {
		w.attested(t, time.Minute, r, w.submit(t, r, 1))
	}
}

// TestAnOriginThatRewrites begins its ledger anew, with its own keys: nothing of that is certified.
func TestAnOriginThatRewrites(t *testing.T) {
	bothWays(t, nil, func(t *testing.T, w *World) {
		w.attested(t, 20*time.Second, "d", w.submit(t, "d", 5))
		before := w.Auditor.Certified("d")
		w.Liar("d")
		for _, n := range w.Voters("d") {
			if err := n.Stop(); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range w.Voters("d") {
			n.disk = newDisk()
			for _, step := range []error{os.RemoveAll(n.dir), os.MkdirAll(n.dir, 0o700), os.WriteFile(filepath.Join(n.dir, foundingFile), nil, 0o600)} {
				if step != nil {
					t.Fatal(step)
				}
			}
			if err := n.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w.within(t, 30*time.Second, "the region to be founded again", func() bool { ok, err := w.ready(); return ok && err == nil })
		for range 10 {
			w.submit(t, "d", 3)
			w.quiet(t, 5*time.Second)
		}
		if size := w.seals(t, "d"); size[len(size)-1].Size <= 2 {
			t.Fatal("the region did not seal its other ledger")
		}
		if w.Auditor.Certified("d") != before {
			t.Fatal("a rewritten ledger was certified")
		}
		w.within(t, time.Minute, "every voter to hold it against the region and to keep what it has", func() bool {
			return w.everyVoter("d", func(st attest.RegionStatus, f client.RegionStatus) bool {
				return st.Diverged != "" && strings.HasPrefix(f.Blamed, "rewritten") && f.Rebuilt == 0
			})
		})
		w.othersGoOn(t)
	})
}

// TestAnOriginThatCertifiesARefusedEntry serves an entry with the outcome that the gates did not
// give, under its own seal.
func TestAnOriginThatCertifiesARefusedEntry(t *testing.T) {
	bothWays(t, nil, func(t *testing.T, w *World) {
		w.attested(t, 20*time.Second, "d", w.submit(t, "d", 2))
		before := w.Auditor.Certified("d")
		d := w.Liar("d")
		if err := d.Rewrite(`"code":6`, `"code":0`); err != nil {
			t.Fatal(err)
		}
		o, err := w.open(t.Context(), w.Leader("d"), "unfit", func(p *pci.Draft) { p.IhsanScore = 0.5 })
		if err != nil || o.Reject != nil || o.Receipt.Code != pci.RejectIhsanBelowMin || !o.Receipt.HasEntry {
			t.Fatalf("the gates did not refuse it: %v %+v", err, o)
		}
		w.within(t, 30*time.Second, "every voter to refuse it", func() bool {
			return w.everyVoter("d", func(st attest.RegionStatus, f client.RegionStatus) bool {
				return strings.HasPrefix(f.Blamed, "outcome") && st.Diverged != ""
			})
		})
		lied(t, d)
		w.submit(t, "d", 1)
		w.quiet(t, 30*time.Second)
		if w.Auditor.Certified("d") != before {
			t.Fatal("an entry that the gates refuse was certified as accepted")
		}
		w.othersGoOn(t)
	})
}

// TestAnOriginThatStampsAhead is waited for: no evidence, no refusal, and no certificate before
// others' clocks are within ten seconds of its own.
func TestAnOriginThatStampsAhead(t *testing.T) {
	bothWays(t, nil, func(t *testing.T, w *World) {
		w.attested(t, 20*time.Second, "d", w.submit(t, "d", 2))
		d := w.Liar("d")
		const ahead = 40 * time.Second
		d.Stamp(func(millis int64) int64 { return millis + ahead.Milliseconds() })
		last := w.submit(t, "d", 1)
		lied(t, d)
		d.Stamp(nil)
		w.within(t, 10*time.Second, "every copy to wait", func() bool {
			return w.everyVoter("d", func(_ attest.RegionStatus, f client.RegionStatus) bool { return f.EarlyUntil != "" })
		})
		took := w.attested(t, time.Minute, "d", last)
		if took < ahead-15*time.Second {
			t.Fatalf("what was stamped %v ahead was attested after %v", ahead, took)
		}
		if !w.everyVoter("d", func(st attest.RegionStatus, f client.RegionStatus) bool {
			return !st.Evidence && st.Refused == "" && st.Diverged == "" && f.Blamed == ""
		}) {
			t.Fatal("a clock that is ahead was held against the region")
		}
		w.othersGoOn(t)
	})
}

// TestAnOriginThatStampsBack is refused.
func TestAnOriginThatStampsBack(t *testing.T) {
	bothWays(t, nil, func(t *testing.T, w *World) {
		w.attested(t, 20*time.Second, "d", w.submit(t, "d", 2))
		before := w.Auditor.Certified("d")
		d := w.Liar("d")
		day := fmt.Sprint(time.Now().UnixMilli())[:5] // an hour and more
		if err := d.Rewrite(`"time":`+day, `"time":`+day[:4]+string(day[4]-1)); err != nil {
			t.Fatal(err)
		}
		w.submit(t, "d", 2)
		w.within(t, 30*time.Second, "every voter to refuse it", func() bool {
			return w.everyVoter("d", func(st attest.RegionStatus, f client.RegionStatus) bool {
				return strings.HasPrefix(f.Blamed, "time") || strings.HasPrefix(st.Diverged, "time")
			})
		})
		lied(t, d)
		w.quiet(t, 20*time.Second)
		if w.Auditor.Certified("d") != before {
			t.Fatal("a ledger whose time goes back was certified")
		}
		w.othersGoOn(t)
	})
}

// TestARegionThatVotesForEverything and one that says what never was, two of seven, get nothing certified.
func TestARegionThatVotesForEverything(t *testing.T) {
	bothWays(t, func(c *Config) { c.Regions = 7 }, func(t *testing.T, w *World) {
		w.attested(t, 20*time.Second, "f", w.submit(t, "f", 2))
		before := w.Auditor.Certified("f")
		f, g := w.Liar("f"), w.Liar("g")
		seals := w.seals(t, "f")
		false1 := *seals[len(seals)-1].Checkpoint()
		false1.Size += 5
		false1.Root[3] ^= 1
		message, err := f.Checkpoint(&false1)
		if err != nil {
			t.Fatal(err)
		}
		line, err := certificate.Cosign(false1.Body(), "g", w.Fed.Cosign["g"], time.Now().Unix())
		if err != nil {
			t.Fatal(err)
		}
		note, err := checkpoint.Sign(&false1, w.Fed.LogKeys["f"])
		if err != nil {
			t.Fatal(err)
		}
		half := g.message(attest.KindCertificate, append(slices.Clone(note), line...))
		for range 5 {
			tell(t, f, message)
			tell(t, g, attest.EncodeCosignature(w.Fed.Document.Version, "g", false1.Body(), line), half)
			w.quiet(t, 5*time.Second)
		}
		lied(t, f)
		lied(t, g)
		if got := w.Auditor.Certified("f"); got == false1.Size || got < before {
			t.Fatalf("certified: %d entries", got)
		}
		w.othersGoOn(t)
	})
}

// TestOldMessagesReplayed change nothing, and cost the region that hears them no Raft entries.
func TestOldMessagesReplayed(t *testing.T) {
	bothWays(t, nil, func(t *testing.T, w *World) {
		for range 4 {
			for _, r := range w.Regions() {
				w.attested(t, 20*time.Second, r, w.submit(t, r, 1))
			}
		}
		d := w.Liar("d")
		var old [][]byte
		for _, s := range w.seals(t, "d") {
			message, err := d.Checkpoint(s.Checkpoint())
			if err != nil {
				t.Fatal(err)
			}
			old = append(old, message)
		}
		for _, r := range []string{"a", "b", "c"} {
			for _, s := range w.seals(t, r) {
				line, err := certificate.Cosign(s.Body(), "d", w.Fed.Cosign["d"], s.TimeMillis/1000)
				if err != nil {
					t.Fatal(err)
				}
				old = append(old, attest.EncodeCosignature(w.Fed.Document.Version, "d", s.Body(), line))
				if cert, ok := w.Auditor.contradiction.of(r, s.Size); ok {
					old = append(old, d.message(attest.KindCertificate, cert.note))
				}
			}
		}
		w.quiet(t, 5*time.Second)
		before := w.Leader("a").Running().RaftStatus().LastIndex
		for range 20 {
			for part := range slices.Chunk(old, attest.ExchangeMessagesMax) {
				tell(t, d, part...)
				w.quiet(t, time.Second)
			}
		}
		lied(t, d)
		if grown := w.Leader("a").Running().RaftStatus().LastIndex - before; grown > 2 {
			t.Fatalf("%d replayed messages, 20 times, made %d Raft entries", len(old), grown)
		}
		w.othersGoOn(t)
		w.attested(t, 20*time.Second, "d", w.submit(t, "d", 1))
	})
}
