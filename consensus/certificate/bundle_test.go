package certificate_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/internal/testregion"
	"github.com/bizra/bizra/pci"
)

// kept is a region with two sessions and a bundle of one of its entries and one session's state.
type kept struct {
	*testregion.Region
	seal   *fsm.Seal
	last   fsm.Receipt // of the entry in the bundle
	bundle *certificate.Bundle
}

func newKept(t testing.TB) *kept {
	t.Helper()
	r := testregion.New(t, testfed.New(4, 1), "a")
	_, last := r.Session("alice", "s1")
	r.Session("bob", "s2")
	seal := r.Seal()
	return &kept{r, seal, last, r.Bundle(seal, last.Index, "s1")}
}

func (k *kept) text(t testing.TB, change func(*certificate.Bundle)) []byte {
	t.Helper()
	b, entry, state := *k.bundle, *k.bundle.Entry, *k.bundle.State
	b.Entry, b.State = &entry, &state
	b.Entry.Path = append([]ledger.Hash{}, entry.Path...)
	if change != nil {
		change(&b)
	}
	return must[[]byte](t)(b.Marshal())
}

func names(v *certificate.Verdict) string {
	var b strings.Builder
	for _, s := range v.Steps {
		fmt.Fprintf(&b, "%s %s, ", s.Name, s.Status)
	}
	return strings.TrimSuffix(b.String(), ", ")
}

func TestBundle(t *testing.T) {
	k := newKept(t)
	v := certificate.VerifyBundle(k.text(t, nil), k.Document())
	if !v.Valid() || names(v) != "form holds, document holds, certificate holds, inclusion holds, entry holds, signature holds, state holds" {
		t.Fatalf("%s: %v", names(v), v.Err())
	}
	if v.Checkpoint.Size != k.seal.Size || len(v.Cosigners) != 2 || v.Entry.Index != k.last.Index || v.Session.Tips[0].Hash.String() != k.last.Head {
		t.Errorf("verdict %+v", v)
	}
	for i, want := range []string{"read strictly", "the same: version 1", "signed by a, cosigned by b, c: 7 entries", "is entry 3 of 7", "session.transition by alice: accepted, session s1 is active",
		"is signed by key", "session s1, opened by alice, could be built on at " + k.last.Head + " (active)"} {
		if !strings.Contains(v.Steps[i].Result, want) {
			t.Errorf("step %s says %q, want %q", v.Steps[i].Name, v.Steps[i].Result, want)
		}
	}
}

// TestBundleForms: spacing and the order of members do not matter, and parts may be missing.
func TestBundleForms(t *testing.T) {
	k := newKept(t)
	var indented bytes.Buffer
	if err := json.Indent(&indented, k.text(t, nil), "", "  "); err != nil {
		t.Fatal(err)
	}
	absent := must[*fsm.StateProof](t)(k.Machine.ProveState(fsm.SessionKey("s9")))
	genesis := must[*certificate.Included](t)(certificate.Include(k.View().Ledger(), 0, k.seal.Size))
	for name, tt := range map[string]struct {
		text []byte
		want string // what the last step says
	}{
		"indented":          {indented.Bytes(), "session s1"},
		"an entry alone":    {k.text(t, func(b *certificate.Bundle) { b.State = nil }), "is signed by key"},
		"a state alone":     {k.text(t, func(b *certificate.Bundle) { b.Entry = nil }), "session s1"},
		"no such session":   {k.text(t, func(b *certificate.Bundle) { b.State = certificate.Hold("s9", absent) }), `there was no session "s9"`},
		"the genesis entry": {k.text(t, func(b *certificate.Bundle) { b.Entry, b.State = genesis, nil }), "records no proof"},
	} {
		v := certificate.VerifyBundle(tt.text, k.Document())
		if !v.Valid() || !strings.Contains(v.Steps[len(v.Steps)-1].Result, tt.want) {
			t.Errorf("%s: %+v", name, v.Steps)
		}
	}
}

func TestBundleOfRefusalAndEnd(t *testing.T) {
	r := testregion.New(t, testfed.New(4, 1), "a")
	a, active := r.Session("alice", "s1")
	r.Submit(a.Sign("session.transition", testfed.Transition("s1", "committed"), active.Head))
	r.Accept(a.Sign("session.transition", testfed.Transition("s1", "terminated"), active.Head))
	v := certificate.VerifyBundle(must[[]byte](t)(r.Bundle(r.Seal(), active.Index+1, "s1").Marshal()), r.Document())
	if !v.Valid() || !strings.Contains(v.Steps[4].Result, "refused, REJECT_INVARIANT_FAILED (step-not-allowed)") || !strings.Contains(v.Steps[6].Result, "session s1 was over") {
		t.Errorf("%+v", v.Steps)
	}
}

// TestBundleRefused: each step has a lie that only it sees.
func TestBundleRefused(t *testing.T) {
	k := newKept(t)
	other := testregion.New(t, k.Fed, "b")
	other.Session("alice", "s1")
	otherSeal := other.Seal()
	// The origin certifies what no honest region would: entries and states of its own making.
	forged := func(data []byte, change func(*fsm.Seal)) *certificate.Bundle {
		s := *k.seal
		s.Size, s.Root = 1, ledger.LeafHash(data)
		if change != nil {
			change(&s)
		}
		return &certificate.Bundle{Certificate: k.Certify(&s), Entry: &certificate.Included{Data: data, Index: 0}}
	}
	entry := func(change func(*fsm.Entry)) []byte {
		e := must[*fsm.Entry](t)(fsm.ParseEntry(k.bundle.Entry.Data))
		e.Index = 0
		change(e)
		return e.AppendCanonical(nil)
	}
	unsigned := bytes.Replace(k.bundle.Entry.Data, []byte(`"index":3`), []byte(`"index":0`), 1)
	at := bytes.Index(unsigned, []byte(`"value":"`)) + len(`"value":"`)
	copy(unsigned[at:], "00000000")
	for name, tt := range map[string]struct {
		text []byte
		want string // step that fails
	}{
		"not JSON":                   {[]byte("{"), "form"},
		"nothing":                    {nil, "form"},
		"another bundle's member":    {bytes.Replace(k.text(t, nil), []byte(`"format"`), []byte(`"formal"`), 1), "form"},
		"another certificate's body": {k.text(t, func(b *certificate.Bundle) { b.Certificate = []byte("hello\n\nx\n") }), "document"},
		"another federation": {k.text(t, func(b *certificate.Bundle) {
			b.Certificate = bytes.Replace(b.Certificate, []byte("test/a\n"), []byte("best/a\n"), 1)
		}), "document"},
		"a checkpoint, no quorum": {k.text(t, func(b *certificate.Bundle) { b.Certificate = sign(t, k.Fed, k.seal.Checkpoint()) }), "certificate"},
		"a body nobody signed": {k.text(t, func(b *certificate.Bundle) {
			b.Certificate = bytes.Replace(b.Certificate, []byte("\n7\n"), []byte("\n6\n"), 1)
		}), "certificate"},
		"another entry's place":       {k.text(t, func(b *certificate.Bundle) { b.Entry.Index++ }), "inclusion"},
		"a place outside":             {k.text(t, func(b *certificate.Bundle) { b.Entry.Index = 1 << 62 }), "inclusion"},
		"before the first":            {k.text(t, func(b *certificate.Bundle) { b.Entry.Index = -1 }), "inclusion"},
		"a path with another hash":    {k.text(t, func(b *certificate.Bundle) { b.Entry.Path[0][0]++ }), "inclusion"},
		"a path with a hash more":     {k.text(t, func(b *certificate.Bundle) { b.Entry.Path = append(b.Entry.Path, ledger.Hash{}) }), "inclusion"},
		"another region's certified":  {k.text(t, func(b *certificate.Bundle) { b.Certificate = other.Certify(otherSeal) }), "inclusion"},
		"an outcome changed":          {bytes.Replace(k.text(t, nil), []byte(`"code":0`), []byte(`"code":6`), 1), "inclusion"},
		"certified, but no entry":     {must[[]byte](t)(forged([]byte(`{"a":1}`), nil).Marshal()), "entry"},
		"certified, another index":    {must[[]byte](t)(forged(k.bundle.Entry.Data, nil).Marshal()), "entry"},
		"certified, another region":   {must[[]byte](t)(forged(entry(func(e *fsm.Entry) { e.Region = "b" }), nil).Marshal()), "entry"},
		"certified before it was":     {must[[]byte](t)(forged(entry(func(*fsm.Entry) {}), func(s *fsm.Seal) { s.TimeMillis-- }).Marshal()), "entry"},
		"certified, nobody signed it": {must[[]byte](t)(forged(unsigned, nil).Marshal()), "signature"},
		"a record changed":            {k.text(t, func(b *certificate.Bundle) { b.State.Record = append(bytes.Clone(b.State.Record), 0) }), "state"},
		"a record denied":             {k.text(t, func(b *certificate.Bundle) { b.State.Record = nil }), "state"},
		"another session's name":      {k.text(t, func(b *certificate.Bundle) { b.State.Session = "s2" }), "state"},
		"another state's proof": {k.text(t, func(b *certificate.Bundle) {
			b.State = certificate.Hold("s1", must[*fsm.StateProof](t)(other.Machine.ProveState(fsm.SessionKey("s1"))))
		}), "state"},
	} {
		v := certificate.VerifyBundle(tt.text, k.Document())
		if v.Valid() || !errors.Is(v.Err(), certificate.ErrNotValid) {
			t.Errorf("%s: it holds: %+v", name, v.Steps)
			continue
		}
		failed := false
		for _, s := range v.Steps {
			switch {
			case s.Name == tt.want:
				failed = s.Status == certificate.Fails
			case failed && s.Status != certificate.NotChecked, !failed && s.Status != certificate.Holds:
				t.Errorf("%s: step %s %s", name, s.Name, s.Status)
			}
		}
		if !failed {
			t.Errorf("%s: %s, want %s to fail: %v", name, names(v), tt.want, v.Err())
		}
	}
	if v := certificate.VerifyBundle(k.text(t, nil), raised(k.Document())); v.Valid() || v.Steps[1].Status != certificate.Fails {
		t.Errorf("under the next document: %s", names(v))
	}
	if v := certificate.VerifyBundle(must[[]byte](t)(forged(entry(func(*fsm.Entry) {}), nil).Marshal()), k.Document()); !v.Valid() {
		t.Errorf("the forgeries prove nothing, since what is not forged does not hold: %v", v.Err())
	}
}

func TestParseBundleRefuses(t *testing.T) {
	k := newKept(t)
	good := string(k.text(t, nil))
	replace := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %q in the bundle", old)
		}
		return strings.Replace(good, old, with, 1)
	}
	hash := fmt.Sprintf("%x", k.bundle.Entry.Path[0][:])
	for name, text := range map[string]string{
		"format 2":               replace(`"format":1`, `"format":2`),
		"a document":             replace(`"documents":[]`, `"documents":[{}]`),
		"a member more":          replace(`"format":1`, `"format":1,"more":1`),
		"a member twice":         replace(`"format":1`, `"format":1,"format":1`),
		"no certificate":         replace(`"certificate"`, `"certificates"`),
		"an entry that is text":  replace(`"entry":{`, `"entry":"","e":{`),
		"an entry alone":         replace(`"inclusion":`, `"exclusion":`),
		"an inclusion alone":     replace(`"entry":`, `"gentry":`),
		"a hash in capitals":     replace(hash, strings.ToUpper(hash)),
		"a hash too short":       replace(hash, hash[2:]),
		"no hash":                replace(hash, strings.Repeat("x", 64)),
		"an index with a point":  replace(`"index":3,"path"`, `"index":3.0,"path"`),
		"a record that is empty": replace(`"record":"`, `"record":"","rest":"`),
		"a record of a number":   replace(`"record":"`, `"record":1,"rest":"`),
		"a proof that is none":   replace(`"proof":"`, `"proof":"A`),
		"a long session":         replace(`"session":"s1"}`, `"session":"`+strings.Repeat("s", 200)+`"}`),
		"neither":                `{"certificate":"","documents":[],"format":1}`,
		"an array":               `[]`,
		"more after it":          good + "x",
		"too long":               good + strings.Repeat(" ", certificate.BundleBytesMax),
		"too many hashes":        replace(hash, strings.Repeat(hash+`","`, certificate.PathHashesMax)+hash),
	} {
		if _, err := certificate.ParseBundle([]byte(text)); !errors.Is(err, certificate.ErrBundle) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	long := *k.bundle
	long.Entry = &certificate.Included{Data: []byte(`{"a":"` + strings.Repeat("x", ledger.EntryBytesMax) + `"}`)}
	if _, err := long.Marshal(); !errors.Is(err, certificate.ErrBundle) {
		t.Errorf("an entry beyond the ledger's limit: error %v", err)
	}
	long.Entry, long.State = k.bundle.Entry, &certificate.Held{Session: "s1", Record: make([]byte, certificate.RecordBytesMax+1), Proof: k.bundle.State.Proof}
	if _, err := long.Marshal(); !errors.Is(err, certificate.ErrBundle) {
		t.Errorf("a record beyond the limit: error %v", err)
	}
	if _, err := (&certificate.Bundle{}).Marshal(); !errors.Is(err, certificate.ErrBundle) {
		t.Errorf("an empty bundle: error %v", err)
	}
}

// TestLargestBundle: the longest envelope, a record and a certificate of 149 regions fit together.
func TestLargestBundle(t *testing.T) {
	r := testregion.New(t, testfed.New(149, 1), "r007")
	a, active := r.Session("alice", "s1")
	for n := pci.EnvelopeBytesMax; ; n -= 8 {
		env := func() (e *pci.Envelope) {
			defer func() { _ = recover() }() // the signer panics for one that is too long
			return a.Sign("session.transition", testfed.Transition("s1", "computing", "input", strings.Repeat("x", n)), active.Head)
		}()
		if env != nil {
			active = r.Accept(env)
			break
		}
	}
	text := must[[]byte](t)(r.Bundle(r.Seal(), active.Index, "s1").Marshal())
	if v := certificate.VerifyBundle(text, r.Document()); !v.Valid() {
		t.Errorf("%d bytes: %v", len(text), v.Err())
	}
}

func FuzzBundle(f *testing.F) {
	k := newKept(f)
	good := k.text(f, nil)
	f.Add(good)
	f.Add(k.text(f, func(b *certificate.Bundle) { b.Entry = nil }))
	f.Add([]byte(`{"certificate":"","documents":[],"format":1,"state":{"session":"","record":null,"proof":""}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		v := certificate.VerifyBundle(text, k.Document())
		if len(v.Steps) == 0 {
			t.Fatal("nothing was checked")
		}
		if !v.Valid() {
			return
		}
		b, err := certificate.ParseBundle(text)
		if err != nil || !bytes.Equal(b.Certificate, k.bundle.Certificate) {
			t.Fatalf("%q is valid and was never certified: %v", text, err)
		}
		if _, err := b.Marshal(); err != nil {
			t.Fatal(err)
		}
	})
}
