package fsm_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

// offer submits the adoption of a document, signed by an operator, with a text beside it.
func (r *rig) offer(proof *pci.Envelope, document []byte) fsm.Receipt {
	r.t.Helper()
	return r.apply(fsm.EncodeAdopt(r.now, proof.Canonical(), document)).Receipts[0]
}

func (r *rig) adoption(next *testfed.Federation) *pci.Envelope {
	return r.fed.Operator("a", r.now).Sign(fsm.ActionFederationAdopt, next.Adopts(), "", func(d *pci.Draft) {
		d.Nonce = testfed.Key(fmt.Sprintf("adopt %d %x", r.index, next.Document.Digest())).Seed()
	})
}

// adopt puts the federation's next document in force.
func (r *rig) adopt(next *testfed.Federation) fsm.Receipt {
	r.t.Helper()
	rec := r.offer(r.adoption(next), next.Document.Canonical())
	if !rec.Accepted() {
		r.t.Fatalf("adoption: %v %s", rec.Code, rec.Reason)
	}
	r.fed = next
	return rec
}

// checked re-derives the ledger and checks the store.
func (r *rig) checked() {
	r.t.Helper()
	quiet := func(string, int64, int64) {}
	if err := fsm.Check(context.Background(), r.st, fsm.Config{Region: "a", Own: r.fed.Document}, quiet); err != nil {
		r.t.Fatal(err)
	}
	if _, err := fsm.Rederive(context.Background(), r.st, store.NewMemory(), fsm.Config{Region: "a", Own: r.fed.Document}, quiet); err != nil {
		r.t.Fatal(err)
	}
}

func TestAdoption(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	a := r.registered("alice")
	old := r.fed
	opened := r.want(pci.Success, a.Sign("session.open", open("s1"), ""))
	next := old.Next(testfed.Stricter)
	proof := r.adoption(next)
	rec := r.offer(proof, next.Document.Canonical())
	if !rec.Accepted() || !rec.HasEntry || rec.Index != opened.Index+1 {
		t.Fatalf("adoption: %+v", rec)
	}
	if d := r.m.InForce(); d.Version != 2 || d.Digest() != next.Document.Digest() {
		t.Fatalf("version %d is in force", d.Version)
	}
	// From the entry on, the old hash is refused and the new one named; what is sent again
	// later names the one in force then.
	stale := a.Sign("session.open", open("s2"), "")
	refused := r.want(pci.RejectPolicyMismatch, stale)
	hash := next.Document.Constitution.PolicyHash()
	if refused.PolicyHash != hash || !strings.Contains(refused.Message(), hash) || refused.Reason != "policy-hash-differs" {
		t.Fatalf("refusal of the old hash: %+v: %s", refused, refused.Message())
	}
	if again := r.submit(stale)[0]; !again.Repeated || again.PolicyHash != hash {
		t.Fatalf("again: %+v", again)
	}
	if seen, err := r.view().Receipt(stale.Digest()); err != nil || seen.PolicyHash != hash {
		t.Fatalf("read again: %+v, %v", seen, err)
	}
	// The new thresholds hold.
	a.PolicyHash = hash
	r.want(pci.RejectIhsanBelowMin, a.Sign("session.open", open("s2"), "", func(d *pci.Draft) { d.IhsanScore = 0.955 }))
	r.want(pci.Success, a.Sign("session.open", open("s2"), ""))
	// The same proof again gives its first receipt, and changes nothing.
	if again := r.offer(proof, next.Document.Canonical()); !again.Repeated || again.Index != rec.Index || r.m.InForce().Version != 2 {
		t.Fatalf("adopted again: %+v", again)
	}
	r.fed = next
	third := next.Next(func(d *federation.Document) { d.Constitution.Thresholds.IhsanMin = 0.97 })
	r.adopt(third)
	r.checked()
	v := r.view()
	for index, version := range map[int64]int64{0: 1, 1: 1, rec.Index: 1, rec.Index + 1: 2, r.size() - 1: 2, r.size(): 3} {
		if d, err := v.DocumentAt(index); err != nil || d.Version != version {
			t.Errorf("entry %d was judged by version %v, want %d (%v)", index, d, version, err)
		}
	}
	for from, want := range map[int64]int64{0: 0, 1: rec.Index, rec.Index: rec.Index, rec.Index + 1: r.size() - 1, r.size(): -1} {
		index, digest, found, err := v.NextDocument(from)
		if err != nil || found != (want >= 0) || found && index != want {
			t.Errorf("from entry %d on, the next document comes with %d (%v, %v), want %d", from, index, found, err, want)
		}
		if _, err := v.DocumentText(digest); found && err != nil {
			t.Error(err)
		}
	}
	// A seal names the document.
	if s := r.apply(fsm.EncodeSeal()).Seal; s.Document != 3 || s.DocumentDigest != third.Document.Digest() {
		t.Errorf("seal names document %d", s.Document)
	}
	r.open() // after a restart it is in force as well
	if r.m.InForce().Version != 3 {
		t.Error("a restart lost the document")
	}
}

// Each way in which an adoption is refused, by entry or without one.
func TestAdoptionRefused(t *testing.T) {
	edited := func(change func(*federation.Document)) func(*testfed.Federation) *testfed.Federation {
		return func(f *testfed.Federation) *testfed.Federation { return f.Next(change) }
	}
	sound := edited(testfed.Stricter)
	for _, c := range []struct {
		name   string
		next   func(*testfed.Federation) *testfed.Federation
		text   func(d []byte) []byte // what comes beside the proof; nil: the document
		signer func(r *rig) *testfed.Signer
		code   pci.Code
		says   string
		entry  bool
	}{
		{"without the document", sound, func([]byte) []byte { return nil }, nil, pci.RejectSchema, "submit both together", false},
		{"with another text", sound, func([]byte) []byte { return []byte("{}") }, nil, pci.RejectSchema, "submit both together", false},
		{"in another form", sound, func(d []byte) []byte { return append(d, '\n') }, nil, pci.RejectSchema, "submit both together", false},
		{"an agent's proof", sound, nil, func(r *rig) *testfed.Signer { return r.fed.Agent("alice", r.now) }, pci.RejectRoleViolation, "operators-only", true},
		{"a stranger's proof", sound, nil, func(r *rig) *testfed.Signer { return r.fed.Agent("mallory", r.now) }, pci.RejectRoleViolation, "not registered", false},
		{"under another policy", sound, nil, func(r *rig) *testfed.Signer {
			s := r.fed.Operator("a", r.now)
			s.PolicyHash = strings.Repeat("0", 64)
			return s
		}, pci.RejectPolicyMismatch, "policy-hash-differs", true},
		{"the version in force", edited(func(d *federation.Document) { d.Version = 1 }), nil, nil, pci.RejectInvariantFailed, "version-not-next", true},
		{"a version too far", edited(func(d *federation.Document) { d.Version = 3 }), nil, nil, pci.RejectInvariantFailed, "version-not-next", true},
		{"another federation", edited(func(d *federation.Document) { d.Name = "other" }), nil, nil, pci.RejectSchema, "federation \"other\"", false},
		{"another log key", edited(func(d *federation.Document) { d.Regions[0].LogKey = testfed.Key("x").Public() }), nil, nil, pci.RejectSchema, "log_key and cosign_key", false},
		{"another cosign key", edited(func(d *federation.Document) { d.Regions[0].CosignKey = testfed.Key("x").Public() }), nil, nil, pci.RejectSchema, "log_key and cosign_key", false},
		{"other voters", edited(func(d *federation.Document) { d.Regions[0].Voters[0].NodeKey = testfed.Key("x").Public() }), nil, nil, pci.RejectSchema, "founding voters", false},
		{"another region", edited(func(d *federation.Document) { d.Regions[0].Name = "b" }), nil, nil, pci.RejectSchema, "cannot be added or removed", false},
		{"an operator key that an agent owns", edited(func(d *federation.Document) {
			d.Regions[0].Operators = []federation.Key{testfed.Key("agent-alice").Public()}
		}),
			nil, nil, pci.RejectSchema, "belongs to an agent", false},
		{"a voter's key of later", edited(func(d *federation.Document) { d.Regions[0].Operators = []federation.Key{testfed.Key("a-4").Public()} }),
			nil, nil, pci.RejectSchema, "belongs to an agent", false},
		{"a constitution that does not compile", edited(func(d *federation.Document) { d.Constitution.Limits.RefusalsPerMinute = 0 }),
			nil, nil, pci.RejectSchema, "cannot be read", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, testfed.New(1, 3))
			r.registered("alice")
			r.want(pci.Success, r.fed.Operator("a", r.now).Sign("region.voter", map[string]any{"region": "a", "op": "add", "name": "a-4",
				"node": federation.Key(testfed.Key("a-4").Public()).String()}, ""))
			next := c.next(r.fed)
			proof := r.adoption(next)
			if c.signer != nil {
				proof = c.signer(r).Sign(fsm.ActionFederationAdopt, next.Adopts(), "", func(d *pci.Draft) { d.Nonce = testfed.Key("n").Seed() })
			}
			text := next.Document.Canonical()
			if c.text != nil {
				text = c.text(text)
			}
			before := r.size()
			rec := r.offer(proof, text)
			if rec.Code != c.code || !strings.Contains(rec.Reason, c.says) || rec.HasEntry != c.entry {
				t.Fatalf("got %v %q, entry %v; want %v %q, entry %v", rec.Code, rec.Reason, rec.HasEntry, c.code, c.says, c.entry)
			}
			if r.m.InForce().Version != 1 || r.size() > before && !c.entry {
				t.Fatal("a refused document changed something")
			}
			// As an ordinary proof it fares the same, but for the document, which is missing then.
			if again := r.submit(proof)[0]; again.Accepted() || again.HasEntry != c.entry {
				t.Errorf("as an ordinary proof: %+v", again)
			}
			// The sound one is still taken, and what was refused re-executes without its document.
			r.adopt(sound(r.fed))
			r.checked()
		})
	}
}

// A document is there for its own command only: else replicas that were restarted since, or
// were given other documents, would decide otherwise than the rest.
func TestADocumentIsThereForItsCommandOnly(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	next := r.fed.Next(testfed.Stricter)
	stale := r.fed.Operator("a", r.now)
	stale.PolicyHash = strings.Repeat("0", 64)
	if rec := r.offer(stale.Sign(fsm.ActionFederationAdopt, next.Adopts(), ""), next.Document.Canonical()); rec.Code != pci.RejectPolicyMismatch {
		t.Fatalf("got %+v", rec)
	}
	m, err := fsm.Open(r.st, fsm.Config{Region: "a", Own: r.fed.Document, Document: func([32]byte) ([]byte, bool) { return next.Document.Canonical(), true }})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.OfferDocument(next.Document.Canonical()); err != nil {
		t.Fatal(err)
	}
	r.m = m
	if rec := r.submit(r.adoption(next))[0]; rec.Code != pci.RejectSchema || rec.HasEntry {
		t.Errorf("without the document in the command: %+v", rec)
	}
	r.adopt(next)
}

// What the constitution and the operators become, and that voters' addresses may change.
func TestAdoptionChangesOperators(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	old, retired := r.fed, r.fed.Operator("a", r.now)
	fresh := testfed.Key("fresh-operator")
	next := old.Next(func(d *federation.Document) {
		d.Regions[0].Operators = []federation.Key{fresh.Public()}
		d.Regions[0].Voters[0].Addresses = []string{"/ip4/192.0.2.7/tcp/4001"}
	})
	r.adopt(next)
	register := func(id string, key *pci.PrivateKey) map[string]any {
		return map[string]any{"region": "a", "agent_id": id, "agent_type": "PAT", "public_key": fmt.Sprintf("%x", key.Public()), "owner": "acme"}
	}
	retired.NowMillis, retired.PolicyHash = r.now, next.Document.Constitution.PolicyHash()
	if rec := r.submit(retired.Sign("agent.register", register("bob", testfed.Key("agent-bob")), ""))[0]; rec.Code != pci.RejectRoleViolation || rec.HasEntry {
		t.Errorf("a retired operator: %+v", rec)
	}
	signer := next.Operator("a", r.now)
	signer.Key = fresh
	r.want(pci.Success, signer.Sign("agent.register", register("bob", testfed.Key("agent-bob")), ""))
	// The retired key is free again, the new one is not.
	r.want(pci.RejectInvariantFailed, signer.Sign("agent.register", register("eve", fresh), ""))
	r.want(pci.Success, signer.Sign("agent.register", register("carol", retired.Key), ""))
	r.checked()
}

func TestSeveralRegionsNeedAQuorum(t *testing.T) {
	r := newRig(t, testfed.New(2, 1))
	next := r.fed.Next(testfed.Stricter)
	if rec := r.offer(r.adoption(next), next.Document.Canonical()); rec.Code != pci.RejectQuorumFailed || rec.Reason != "needs-quorum" || !rec.HasEntry {
		t.Fatalf("got %+v", rec)
	}
	r.checked()
}

// A window that is made longer while a second of nonces is half forgotten leaves no half.
func TestAdoptionOfAnotherReplayWindow(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	a := r.registered("alice")
	for i := range 30 { // more than one entry makes the region forget
		a.NowMillis = r.now
		r.want(pci.Success, a.Sign("session.open", open(fmt.Sprintf("s%d", i)), ""))
	}
	r.now += r.fed.Document.Constitution.Thresholds.NonceWindowMillis + 2000
	a.NowMillis = r.now
	r.want(pci.Success, a.Sign("session.open", open("late"), ""))
	r.adopt(r.fed.Next(func(d *federation.Document) { d.Constitution.Thresholds.NonceWindowMillis *= 4 }))
	r.checked()
	a.PolicyHash = r.fed.Document.Constitution.PolicyHash()
	r.now += r.fed.Document.Constitution.Thresholds.NonceWindowMillis + 2000
	r.adopt(r.fed.Next(func(d *federation.Document) { d.Constitution.Thresholds.NonceWindowMillis /= 4 }))
	r.checked()
}

// Followers re-execute across an adoption only with the document, and only where it is a
// version of their own.
func TestEntriesAcrossAnAdoption(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	first := r.fed
	a := r.registered("alice")
	r.want(pci.Success, a.Sign("session.open", open("s1"), ""))
	adopted := r.adopt(first.Next(testfed.Stricter))
	second := r.fed
	a.PolicyHash = second.Document.Constitution.PolicyHash()
	r.want(pci.Success, a.Sign("session.open", open("s2"), ""))
	third := r.fed.Next(func(d *federation.Document) { d.Constitution.Thresholds.IhsanMin = 0.97 })
	r.adopt(third)
	entries, err := r.view().Ledger().Entries(0, r.size(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	other := first.Next(func(d *federation.Document) { d.Constitution.Thresholds.IhsanMin = 0.5 })
	unreached := &testfed.Federation{Document: &federation.Document{Version: 1, Name: "test", Constitution: other.Document.Constitution, Regions: other.Document.Regions}}
	foreign := testfed.New(1, 3, func(d *federation.Document) { d.Name = "elsewhere" })
	for _, c := range []struct {
		name    string
		own     *federation.Document
		offered []*testfed.Federation // before the entries that name them
		takes   int64                 // entries
	}{
		{"own is the first", first.Document, []*testfed.Federation{first, second, third}, r.size()},
		{"own is a later one", third.Document, []*testfed.Federation{first, second, third}, r.size()},
		{"nobody vouches for what is offered", nil, []*testfed.Federation{first, second, third}, 0},
		{"without the second", first.Document, []*testfed.Federation{first}, adopted.Index},
		{"another instead of the second", first.Document, []*testfed.Federation{first, other}, adopted.Index},
		{"own is another second", other.Document, []*testfed.Federation{first, second, third}, adopted.Index},
		{"own is another first", unreached.Document, []*testfed.Federation{first, second, third}, 0},
		{"own is of another federation", foreign.Document, []*testfed.Federation{first, second, third}, 0},
		{"nothing at hand", second.Document, nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := store.NewMemory()
			m, err := fsm.Open(st, fsm.Config{Region: "a", Own: c.own})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			offered := slices.Clone(c.offered)
			for i, e := range entries {
				if i == 0 || int64(i) == adopted.Index || i == len(entries)-1 {
					if len(offered) > 0 {
						if err := m.OfferDocument(offered[0].Document.Canonical()); err != nil {
							t.Fatal(err)
						}
						offered = offered[1:]
					}
				}
				if err = m.ApplyEntries([][]byte{e}); err != nil {
					break
				}
			}
			if m.Size() != c.takes || (err != nil) != (c.takes < r.size()) || err != nil && !errors.Is(err, fsm.ErrDocument) {
				t.Fatalf("took %d of %d entries, want %d: %v", m.Size(), r.size(), c.takes, err)
			}
			if c.takes < r.size() {
				return
			}
			if root, err := m.StateRoot(); err != nil || m.InForce().Version != 3 {
				t.Fatal(err)
			} else if own, err := r.m.StateRoot(); err != nil || own != root {
				t.Fatalf("another state: %x and %x, %v", own, root, err)
			}
			// A node that was given any of the three can open that state later.
			for _, own := range []*testfed.Federation{first, second, third} {
				again, err := fsm.Open(st, fsm.Config{Region: "a", Own: own.Document})
				if err != nil {
					t.Errorf("own document of version %d: %v", own.Document.Version, err)
				} else if err := again.Close(); err != nil {
					t.Error(err)
				}
			}
			if _, err := fsm.Open(st, fsm.Config{Region: "a", Own: other.Document}); !errors.Is(err, fsm.ErrStop) {
				t.Errorf("a node with another second version opened the state: %v", err)
			}
		})
	}
	// All at once, an adoption in the middle of what is applied together.
	m, err := fsm.Open(store.NewMemory(), fsm.Config{Region: "a", Document: func(digest [32]byte) ([]byte, bool) {
		text, err := r.view().DocumentText(digest)
		return text, err == nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.ApplyEntries(entries); err != nil || m.InForce().Version != 3 {
		t.Fatal(err)
	}
	if err := m.OfferDocument(make([]byte, federation.DocumentBytesMax+1)); !errors.Is(err, fsm.ErrDocument) {
		t.Errorf("a document of more than the limit was taken: %v", err)
	}
	if err := m.OfferDocument(make([]byte, federation.DocumentBytesMax)); err != nil {
		t.Errorf("at the limit: %v", err)
	}
}

// A store whose documents were touched does not pass.
func TestCheckFindsATouchedDocument(t *testing.T) {
	for _, prefix := range []byte{'B', 'F'} {
		r := newRig(t, testfed.New(1, 3))
		r.adopt(r.fed.Next(testfed.Stricter))
		it, err := r.st.Iter([]byte{prefix}, []byte{prefix + 1})
		if err != nil || !it.First() {
			t.Fatal(err)
		}
		key, value := slices.Clone(it.Key()), slices.Clone(it.Value())
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
		value[len(value)/2] ^= 1
		if err := r.st.Commit([]store.Write{{Key: key, Value: value}}); err != nil {
			t.Fatal(err)
		}
		if err := fsm.Check(t.Context(), r.st, fsm.Config{Region: "a"}, func(string, int64, int64) {}); err == nil {
			t.Errorf("a touched record under %q passed", prefix)
		}
	}
}
