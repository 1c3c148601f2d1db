package fsm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/fsm/store/pebblestore"
	"github.com/bizra/bizra/internal/testfed"
)

// origin is a ledger of region b in two forks, whose entries differ from some index on.
type origin struct {
	t   *testing.T
	fed *testfed.Federation
	log ledger.View
}

func newOrigin(t *testing.T, fed *testfed.Federation, size, from int64, label string) *origin {
	t.Helper()
	return &origin{t, fed, testfed.Fork(size, from, label)}
}

func (o *origin) at(size int64, change ...func(*checkpoint.Checkpoint)) []byte {
	o.t.Helper()
	root, err := o.log.Root(size)
	if err != nil {
		o.t.Fatal(err)
	}
	c := &checkpoint.Checkpoint{Origin: "test/b", Size: size, Root: root, State: [32]byte{byte(size)}, TimeMillis: start + size,
		Document: o.fed.Document.Version, DocumentDigest: o.fed.Document.Digest()}
	for _, f := range change {
		f(c)
	}
	return o.sign(c, "b")
}

func (o *origin) sign(c *checkpoint.Checkpoint, key string) []byte {
	o.t.Helper()
	n, err := checkpoint.Sign(c, o.fed.LogKeys[key])
	if err != nil {
		o.t.Fatal(err)
	}
	return n
}

func (o *origin) proof(from, to int64) tlog.TreeProof {
	o.t.Helper()
	p, err := o.log.ConsistencyProof(from, to)
	if err != nil {
		o.t.Fatal(err)
	}
	return p
}

// evidence shows that this ledger's prefix of m entries is not the one of other.
func (o *origin) evidence(other *origin, m, n int64) []byte {
	o.t.Helper()
	root, err := other.log.Root(m)
	if err != nil {
		o.t.Fatal(err)
	}
	b, err := (&checkpoint.Evidence{First: o.at(m), Second: other.at(n), Root: root, Proof: other.proof(m, n)}).Marshal()
	if err != nil {
		o.t.Fatal(err)
	}
	return b
}

func (r *rig) attest(data []byte, want fsm.Refusal) fsm.Attested {
	r.t.Helper()
	res := r.apply(data).Attested
	if res == nil || res.Refusal != want || res.Accepted() != (want == "") {
		r.t.Fatalf("got %+v, want refusal %q", res, want)
	}
	return *res
}

func (r *rig) lock(origin string) *fsm.Lock {
	r.t.Helper()
	l, err := r.view().Lock(origin)
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}

func TestVoteFollowsFromTheLock(t *testing.T) {
	fed := testfed.New(4, 3)
	o := newOrigin(t, fed, 40, 40, "")
	fork := newOrigin(t, fed, 40, 5, "'")
	mend := func(f func(*checkpoint.Checkpoint)) []byte { return o.at(20, f) }
	for _, c := range []struct {
		name string
		data []byte
		want fsm.Refusal
	}{
		{"extension", fsm.EncodeVote("b", 1, o.at(20), o.proof(10, 20)), ""},
		{"no proof", fsm.EncodeVote("b", 1, o.at(20), nil), fsm.RefusedConsistency},
		{"proof from elsewhere", fsm.EncodeVote("b", 1, o.at(20), o.proof(9, 20)), fsm.RefusedConsistency},
		{"proof too long", fsm.EncodeVote("b", 1, o.at(20), make(tlog.TreeProof, checkpoint.ProofHashesMax+1)), fsm.RefusedConsistency},
		{"history rewritten", fsm.EncodeVote("b", 1, fork.at(20), fork.proof(10, 20)), fsm.RefusedConsistency},
		{"smaller", fsm.EncodeVote("b", 1, o.at(9), nil), fsm.RefusedSmaller},
		{"equal size, other root", fsm.EncodeVote("b", 1, fork.at(10), nil), fsm.RefusedOther},
		{"equal size, other state", fsm.EncodeVote("b", 1, o.at(10, func(c *checkpoint.Checkpoint) { c.State[0]++ }), nil), fsm.RefusedOther},
		{"equal size, other time", fsm.EncodeVote("b", 1, o.at(10, func(c *checkpoint.Checkpoint) { c.TimeMillis++ }), nil), fsm.RefusedOther},
		{"time goes back", fsm.EncodeVote("b", 1, mend(func(c *checkpoint.Checkpoint) { c.TimeMillis = start + 9 }), o.proof(10, 20)), fsm.RefusedTime},
		{"time stands still", fsm.EncodeVote("b", 1, mend(func(c *checkpoint.Checkpoint) { c.TimeMillis = start + 10 }), o.proof(10, 20)), ""},
		{"older document in the command", fsm.EncodeVote("b", 0, o.at(20), o.proof(10, 20)), fsm.RefusedDocument},
		{"newer document in the body", fsm.EncodeVote("b", 1, mend(func(c *checkpoint.Checkpoint) { c.Document++ }), o.proof(10, 20)), fsm.RefusedDocument},
		{"other document in the body", fsm.EncodeVote("b", 1, mend(func(c *checkpoint.Checkpoint) { c.DocumentDigest[0]++ }), o.proof(10, 20)), fsm.RefusedDocument},
		{"own region", fsm.EncodeVote("a", 1, o.at(20), o.proof(10, 20)), fsm.RefusedOrigin},
		{"unknown region", fsm.EncodeVote("z", 1, o.at(20), o.proof(10, 20)), fsm.RefusedOrigin},
		{"body of another region", fsm.EncodeVote("c", 1, o.at(20), o.proof(10, 20)), fsm.RefusedNote},
		{"signed by another", fsm.EncodeVote("b", 1, bytes.Replace(o.at(20), []byte("\n20\n"), []byte("\n21\n"), 1), o.proof(10, 20)), fsm.RefusedNote},
		{"no note", fsm.EncodeVote("b", 1, nil, nil), fsm.RefusedNote},
	} {
		r := newRig(t, fed)
		r.attest(fsm.EncodeVote("b", 1, o.at(10), nil), "")
		r.attest(c.data, c.want)
		size := int64(10)
		if c.want == "" {
			size = 20
		}
		if l := r.lock("b"); l.Last.Size != size {
			t.Errorf("%s: bound to %d entries, want %d", c.name, l.Last.Size, size)
		}
	}
}

func TestVoteOnNothing(t *testing.T) {
	fed := testfed.New(4, 3)
	o := newOrigin(t, fed, 20, 20, "")
	r := newRig(t, fed)
	r.attest(fsm.EncodeVote("b", 1, o.at(7), o.proof(3, 7)), fsm.RefusedConsistency) // there is nothing that a proof could lead from
	r.attest(fsm.EncodeVote("b", 1, o.at(7), nil), "")
	empty := &rig{t: t, fed: fed, st: store.NewMemory()}
	empty.open()
	empty.attest(fsm.EncodeVote("b", 1, o.at(7), nil), fsm.RefusedUnfounded)
	empty.attest(fsm.EncodeCertify(0, o.at(7)), fsm.RefusedUnfounded)
	empty.attest(fsm.EncodeEvidence("b", nil), fsm.RefusedUnfounded)
	if _, err := empty.view().Lock("b"); !errors.Is(err, fsm.ErrNotFound) {
		t.Fatal(err)
	}
}

func TestVoteRepeatedChangesNothing(t *testing.T) {
	fed := testfed.New(4, 3)
	o := newOrigin(t, fed, 20, 20, "")
	r := newRig(t, fed)
	if r.attest(fsm.EncodeVote("b", 1, o.at(7), nil), "").Repeated {
		t.Fatal("the first vote is called a repeat")
	}
	for range 3 {
		if !r.attest(fsm.EncodeVote("b", 1, o.at(7), nil), "").Repeated {
			t.Fatal("the repeat is called a first vote")
		}
	}
	if l := r.lock("b"); len(l.Notes) != 1 {
		t.Fatalf("%d notes are kept", len(l.Notes))
	}
}

func TestLockKeepsTheNewestNotes(t *testing.T) {
	fed := testfed.New(4, 3)
	o := newOrigin(t, fed, 20, 20, "")
	r := newRig(t, fed)
	from := int64(0)
	for size := int64(1); size <= fsm.LockNotesMax+1; size++ {
		r.attest(fsm.EncodeVote("b", 1, o.at(size), o.proof(from, size)), "")
		from = size
		l := r.lock("b")
		if want := min(size, fsm.LockNotesMax); int64(len(l.Notes)) != want || !bytes.Equal(l.Notes[want-1], o.at(size)) || l.Last.Size != size {
			t.Fatalf("after %d votes %d notes are kept, the last of size %d", size, len(l.Notes), l.Last.Size)
		}
	}
}

func TestEvidenceStopsVotesForTheOriginOnly(t *testing.T) {
	fed := testfed.New(4, 3)
	o, fork := newOrigin(t, fed, 40, 40, ""), newOrigin(t, fed, 40, 5, "'")
	r := newRig(t, fed)
	r.attest(fsm.EncodeVote("b", 1, o.at(10), nil), "")
	for name, e := range map[string][]byte{"none": nil, "no lie": o.evidence(o, 10, 20), "of another region": fork.evidence(o, 20, 30)[1:]} {
		if res := r.attest(fsm.EncodeEvidence("b", e), fsm.RefusedNoEvidence); res.Origin != "b" {
			t.Fatalf("%s: %+v", name, res)
		}
	}
	r.attest(fsm.EncodeEvidence("c", o.evidence(fork, 10, 20)), fsm.RefusedNoEvidence)
	r.attest(fsm.EncodeEvidence("z", o.evidence(fork, 10, 20)), fsm.RefusedOrigin)
	r.attest(fsm.EncodeVote("b", 1, o.at(11), o.proof(10, 11)), "")

	if r.attest(fsm.EncodeEvidence("b", o.evidence(fork, 10, 20)), "").Repeated {
		t.Fatal("evidence is called known")
	}
	two, err := checkpoint.Contradiction(o.at(20), fork.at(20)).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if !r.attest(fsm.EncodeEvidence("b", two), "").Repeated {
		t.Fatal("one piece of evidence is enough")
	}
	r.attest(fsm.EncodeVote("b", 1, o.at(20), o.proof(11, 20)), fsm.RefusedEvidence)
	if l := r.lock("b"); l.Last.Size != 11 || len(l.Notes) != 2 {
		t.Fatalf("the lock did not survive: %+v", l)
	}
	v := r.view()
	if in, err := v.InEvidence(); err != nil || len(in) != 1 || in[0] != "b" {
		t.Fatalf("in evidence: %q, %v", in, err)
	}
	e, err := v.Evidence("b")
	if err != nil || e.Check("test/b", fed.LogKeys["b"].Public()) != nil {
		t.Fatalf("evidence does not read back: %v", err)
	}
	if _, err := v.Evidence("c"); !errors.Is(err, fsm.ErrNotFound) {
		t.Fatal(err)
	}
}

// seal makes an entry and seals it; nil where the region may not seal.
func (r *rig) seal(id string) *fsm.Seal {
	r.t.Helper()
	r.registered(id)
	return r.apply(fsm.EncodeSeal()).Seal
}

func (r *rig) certificate(s *fsm.Seal) []byte {
	r.t.Helper()
	b, err := checkpoint.Sign(s.Checkpoint(), r.fed.LogKeys["a"])
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

func TestAtMostFourSealsAreUncertified(t *testing.T) {
	r := newRig(t, testfed.New(4, 3))
	var seals []*fsm.Seal
	for i := range fsm.UncertifiedSealsMax {
		seals = append(seals, r.seal(fmt.Sprint("agent", i)))
	}
	for i, s := range seals {
		if s == nil || s.Number != int64(i) {
			t.Fatalf("seal %d: %+v", i, s)
		}
	}
	size := r.size()
	if s := r.seal("fifth"); s != nil || r.size() != size+1 {
		t.Fatalf("with four uncertified seals, %+v was made and the ledger grew by %d", s, r.size()-size)
	}
	r.attest(fsm.EncodeCertify(1, r.certificate(seals[1])), "") // covers 0 as well
	for i := range 2 {
		if s := r.seal(fmt.Sprint("later", i)); s == nil || s.Number != int64(4+i) {
			t.Fatalf("seal %d after the certificate: %+v", 4+i, s)
		}
	}
	if s := r.seal("seventh"); s != nil {
		t.Fatalf("seal %d was made while four are uncertified", s.Number)
	}
}

func TestCertifyCoversAllBefore(t *testing.T) {
	r := newRig(t, testfed.New(4, 3))
	var seals []*fsm.Seal
	for i := range 4 {
		seals = append(seals, r.seal(fmt.Sprint("agent", i)))
	}
	r.attest(fsm.EncodeCertify(4, r.certificate(seals[3])), fsm.RefusedSeal)
	r.attest(fsm.EncodeCertify(-1, r.certificate(seals[0])), fsm.RefusedSeal)
	r.attest(fsm.EncodeCertify(1, r.certificate(seals[0])), fsm.RefusedSeal)
	r.attest(fsm.EncodeCertify(1, seals[1].Body()), fsm.RefusedSeal)
	r.attest(fsm.EncodeCertify(1, append(r.certificate(seals[1]), make([]byte, fsm.CertificateBytesMax)...)), fsm.RefusedSeal)
	if res := r.attest(fsm.EncodeCertify(1, r.certificate(seals[1])), ""); res.Repeated || res.Size != seals[1].Size || res.Number != 1 {
		t.Fatalf("%+v", res)
	}
	for _, n := range []int64{0, 1} {
		if !r.attest(fsm.EncodeCertify(n, r.certificate(seals[n])), "").Repeated {
			t.Fatalf("seal %d was not covered", n)
		}
	}
	r.attest(fsm.EncodeCertify(3, r.certificate(seals[3])), "")
	v := r.view()
	if n, err := v.Certified(); err != nil || n != 4 {
		t.Fatalf("certified: %d, %v", n, err)
	}
	for n, want := range []bool{false, true, false, true} {
		if b, err := v.Certificate(int64(n)); (err == nil) != want || want && !bytes.Equal(b, r.certificate(seals[n])) {
			t.Errorf("certificate of seal %d: %v", n, err)
		}
	}
	if _, err := v.Certificate(-1); !errors.Is(err, fsm.ErrNotFound) {
		t.Error(err)
	}
	for _, c := range []struct{ index, number int64 }{{0, 1}, {seals[0].Size - 1, 1}, {seals[1].Size - 1, 1}, {seals[1].Size, 3}, {seals[3].Size - 1, 3}} {
		if n, b, err := v.CertificateCovering(c.index); err != nil || n != c.number || !bytes.Equal(b, r.certificate(seals[n])) {
			t.Errorf("entry %d is covered by the certificate of seal %d, %v; want %d", c.index, n, err, c.number)
		}
	}
	if _, _, err := v.CertificateCovering(seals[3].Size); !errors.Is(err, fsm.ErrNotFound) {
		t.Errorf("an entry beyond the last seal: %v", err)
	}
	r.seal("uncovered")
	if _, _, err := r.view().CertificateCovering(seals[3].Size); !errors.Is(err, fsm.ErrNotFound) {
		t.Errorf("an entry sealed but not certified: %v", err)
	}
}

// TestFollowerKeepsCertificates: a replica outside Raft takes them up by the same rules.
func TestFollowerKeepsCertificates(t *testing.T) {
	fed := testfed.New(4, 3)
	r := newRig(t, fed)
	s0, s1 := r.seal("one"), r.seal("two")
	doc := func([32]byte) ([]byte, bool) { return fed.Document.Canonical(), true }
	f, err := fsm.Open(store.NewMemory(), fsm.Config{Region: "a", Document: doc})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := r.view().Ledger().Entries(0, s0.Size, 1<<20)
	if err == nil {
		err = errors.Join(f.ApplyEntries(entries), f.ApplySeal(s0))
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		note []byte
		want fsm.Refusal
	}{"of a seal to come": {r.certificate(s1), fsm.RefusedSeal}, "garbage": {[]byte("x"), fsm.RefusedSeal}} {
		if res, err := f.ApplyCertificate(c.note); err != nil || res.Refusal != c.want {
			t.Fatalf("%s: %+v, %v", name, res, err)
		}
	}
	for _, repeated := range []bool{false, true} {
		if res, err := f.ApplyCertificate(r.certificate(s0)); err != nil || !res.Accepted() || res.Number != 0 || res.Repeated != repeated {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	v, err := f.View()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := v.Certified(); err != nil || n != 1 {
		t.Fatalf("certified on the follower: %d, %v", n, err)
	}
	if err := errors.Join(v.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// attested fills a rig with one of everything.
func attested(r *rig) {
	r.t.Helper()
	o, fork := newOrigin(r.t, r.fed, 40, 40, ""), newOrigin(r.t, r.fed, 40, 5, "'")
	s := r.seal("sealed")
	r.attest(fsm.EncodeVote("b", 1, o.at(10), nil), "")
	r.attest(fsm.EncodeCertify(s.Number, r.certificate(s)), "")
	r.attest(fsm.EncodeEvidence("b", o.evidence(fork, 10, 20)), "")
}

func TestAttestationStandsInSnapshots(t *testing.T) {
	fed := testfed.New(4, 3)
	st, err := pebblestore.Open(filepath.Join(t.TempDir(), "state"), pebblestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() }) // after the views and machines
	r := &rig{t: t, fed: fed, st: st, now: start}
	r.open()
	r.apply(fsm.EncodeGenesis(r.now, fed.Document.Canonical()))
	attested(r)
	dir := filepath.Join(t.TempDir(), "snapshot")
	if err := st.Checkpoint(dir); err != nil {
		t.Fatal(err)
	}
	copied, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = copied.Close() })
	if err := fsm.Check(context.Background(), copied, fsm.Config{Region: "a"}, quiet); err != nil {
		t.Fatal(err)
	}
	c := &rig{t: t, fed: fed, st: copied, index: r.index, now: start}
	c.open()
	o := newOrigin(t, fed, 40, 40, "")
	if l := c.lock("b"); l.Last.Size != 10 || !bytes.Equal(l.Notes[0], o.at(10)) {
		t.Fatalf("the lock that came with the snapshot is %+v", l)
	}
	c.attest(fsm.EncodeVote("b", 1, o.at(20), o.proof(10, 20)), fsm.RefusedEvidence)
	if n, err := c.view().Certified(); err != nil || n != 1 {
		t.Fatalf("certified: %d, %v", n, err)
	}
}

// TestAttestationIsNoEntry: what regions say to each other moves neither ledger nor commitment,
// and fsck, which goes by the entries alone, does not miss it.
func TestAttestationIsNoEntry(t *testing.T) {
	fed := testfed.New(4, 3)
	plain, r := newRig(t, fed), newRig(t, fed)
	plain.seal("sealed")
	attested(r)
	one, err1 := plain.m.StateRoot()
	two, err2 := r.m.StateRoot()
	if err := errors.Join(err1, err2); err != nil || one != two || plain.size() != r.size() {
		t.Fatalf("votes, certificates or evidence show in the ledger: %v", err)
	}
	if _, err := fsm.Rederive(context.Background(), r.st, store.NewMemory(), fsm.Config{Region: "a"}, quiet); err != nil {
		t.Fatal(err)
	}
	if err := fsm.Check(context.Background(), r.st, fsm.Config{Region: "a"}, quiet); err != nil {
		t.Fatal(err)
	}
}

// TestCheckTestsAttestation damages one record after the other.
func TestCheckTestsAttestation(t *testing.T) {
	fed := testfed.New(4, 3)
	o := newOrigin(t, fed, 40, 40, "")
	certificate := append([]byte{'C'}, make([]byte, 8)...)
	for name, damage := range map[string]store.Write{
		"certified further":           {Key: []byte("A"), Value: []byte{1, 0x81, 0x02}},
		"certified less":              {Key: []byte("A"), Delete: true},
		"no certificate":              {Key: certificate, Delete: true},
		"certificate of another body": {Key: certificate, Value: o.at(3)},
		"lock of an unknown version":  {Key: []byte("Vb"), Value: []byte{2, 0x81, 0x80}},
		"lock without a note":         {Key: []byte("Vb"), Value: []byte{1, 0x81, 0x80}},
		"lock of no region":           {Key: []byte("Vz"), Value: []byte{1, 0x81, 0x80}},
		"lock for another region":     {Key: []byte("Vc"), Value: lockRecord(o.at(10))},
		"lock for the own region":     {Key: []byte("Va"), Value: lockRecord(o.at(10))},
		"lock that goes back":         {Key: []byte("Vb"), Value: lockRecord(o.at(10), o.at(9))},
		"too many notes":              {Key: []byte("Vb"), Value: lockRecord(o.at(1), o.at(2), o.at(3), o.at(4), o.at(5), o.at(6), o.at(7), o.at(8), o.at(9))},
		"evidence that shows nothing": {Key: []byte("Qb"), Value: append([]byte{1}, o.evidence(o, 10, 20)...)},
		"evidence of no version":      {Key: []byte("Qb"), Value: []byte{}},
		"evidence against nobody":     {Key: []byte("Qz"), Value: append([]byte{1}, o.evidence(o, 10, 20)...)},
	} {
		r := newRig(t, fed)
		attested(r)
		if err := r.st.Commit([]store.Write{damage}); err != nil {
			t.Fatal(err)
		}
		if err := fsm.Check(context.Background(), r.st, fsm.Config{Region: "a"}, quiet); err == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
}

// lockRecord is a record of votes: version, array of one array of byte strings.
func lockRecord(notes ...[]byte) []byte {
	b := []byte{1, 0x81, 0x80 + byte(len(notes))}
	for _, n := range notes {
		b = append(append(b, 0x59, byte(len(n)>>8), byte(len(n))), n...)
	}
	return b
}

func TestAttestationOfAnotherVersionStops(t *testing.T) {
	for kind := byte(5); kind <= 7; kind++ {
		for name, payload := range map[string][]byte{"version": {2, 0x80}, "nothing": {}, "damaged": {1, 0x81}} {
			r := newRig(t, testfed.New(4, 3))
			data := append([]byte{1, 0x84, kind, 0x00, 0xf6, 0x40 + byte(len(payload))}, payload...)
			if _, err := r.m.Apply([]fsm.Command{{Index: 9, Term: 1, Data: data}}); !errors.Is(err, fsm.ErrStop) {
				t.Errorf("kind %d, %s: %v", kind, name, err)
			}
		}
	}
}

// FuzzAttestCommand: whatever a command carries, replicas go on alike.
func FuzzAttestCommand(f *testing.F) {
	fed := testfed.New(4, 1)
	f.Add(uint8(0), "b", int64(1), []byte("test/b\n"), []byte{})
	f.Add(uint8(1), "", int64(0), []byte("test/a\n1\n"), []byte{1, 2})
	f.Add(uint8(2), "b", int64(1), []byte{1, 0x84, 0x40, 0x40, 0x40, 0x80}, []byte{})
	f.Fuzz(func(t *testing.T, kind uint8, origin string, number int64, text, proof []byte) {
		if len(text)+len(origin)+len(proof) > 1<<16 || !utf8.ValidString(origin) { // a leader votes for regions of the document
			return
		}
		var p tlog.TreeProof
		for len(proof) >= tlog.HashSize {
			p = append(p, tlog.Hash(proof[:tlog.HashSize]))
			proof = proof[tlog.HashSize:]
		}
		r := newRig(t, fed)
		data := fsm.EncodeVote(origin, number, text, p)
		switch kind % 3 {
		case 1:
			data = fsm.EncodeCertify(number, text)
		case 2:
			data = fsm.EncodeEvidence(origin, text)
		}
		res, err := r.m.Apply([]fsm.Command{{Index: 9, Term: 1, Data: data}})
		if err != nil || res[0].Attested == nil || res[0].Attested.Accepted() {
			t.Fatalf("%+v, %v", res, err)
		}
	})
}

// TestSealsOfAnEarlierDocumentDoNotWait: nobody can certify them any more, and the next one's
// certificate covers them.
func TestSealsOfAnEarlierDocumentDoNotWait(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	for i := range fsm.UncertifiedSealsMax {
		if r.seal(fmt.Sprint("agent", i)) == nil {
			t.Fatalf("seal %d was not made", i)
		}
	}
	if r.seal("before") != nil {
		t.Fatal("a fifth seal was made")
	}
	r.adopt(r.fed.Next(testfed.Stricter))
	var seals []*fsm.Seal
	for i := range fsm.UncertifiedSealsMax {
		s := r.seal(fmt.Sprint("later", i))
		if s == nil || s.Document != 2 {
			t.Fatalf("seal %d under the next document: %+v", i, s)
		}
		seals = append(seals, s)
	}
	if r.seal("after") != nil {
		t.Fatal("more than four seals wait under the document in force")
	}
	r.attest(fsm.EncodeCertify(seals[0].Number, r.certificate(seals[0])), "")
	if n, _, err := r.view().CertificateCovering(0); err != nil || n != seals[0].Number {
		t.Fatalf("the first entry is covered by seal %d: %v", n, err)
	}
}
