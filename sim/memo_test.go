package sim

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/consensus/follow"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/node"
	"github.com/bizra/bizra/p2p"
)

// forge is a draw of ways to change bytes a little.
func forge(r *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	switch at := r.IntN(len(b)); r.IntN(4) {
	case 0:
		b[at] ^= 1 << r.IntN(8)
	case 1:
		b = slices.Delete(b, at, at+1)
	case 2:
		b = slices.Insert(b, at, byte(r.IntN(256)))
	default:
		other := r.IntN(len(b))
		b[at], b[other] = b[other], b[at]
	}
	return b
}

func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func parsed(t *testing.T, d *federation.Document) *federation.Document {
	t.Helper()
	p, err := federation.Parse(d.Canonical())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestForgedStatementsAreNotMemoised has messages that differ a little from one that was judged good
// be judged as each is.
func TestForgedStatementsAreNotMemoised(t *testing.T) {
	fed := testfed.New(4, 1)
	doc := parsed(t, fed.Document)
	c := &checkpoint.Checkpoint{Origin: checkpoint.Origin(doc.Name, "a"), Size: 7, Document: doc.Version, DocumentDigest: doc.Digest()}
	note, err := checkpoint.Sign(c, fed.LogKeys["a"])
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string][]byte{}
	for _, region := range []string{"b", "c", "d"} {
		if lines[region], err = certificate.Cosign(c.Body(), region, fed.Cosign[region], 1); err != nil {
			t.Fatal(err)
		}
	}
	made, err := certificate.Assemble(note, lines, doc)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind attest.Kind, payload []byte) []byte {
		return (&attest.Message{Kind: kind, Document: doc.Version, Payload: payload}).Encode()
	}
	next := *fed.Document
	next.Version++
	later := parsed(t, &next)
	dice, m := seeded(t), newMemo(false)
	for kind, message := range map[string][]byte{MemoCheckpoint: encode(attest.KindCheckpoint, note),
		MemoCosignature: attest.EncodeCosignature(doc.Version, "b", c.Body(), lines["b"]), MemoCertificate: encode(attest.KindCertificate, made)} {
		for range 2 {
			if _, err := m.statement(message, doc); err != nil {
				t.Fatal(err)
			}
		}
		if got := m.counts[kind]; got != (MemoCount{1, 1}) {
			t.Fatalf("%s: %+v", kind, got)
		}
		if _, err := m.statement(message, later); err == nil {
			t.Errorf("a %s under one document holds under another", kind)
		}
		refused := 0
		for range 300 {
			data := forge(dice, message)
			_, err := m.statement(data, doc)
			if _, want := attest.Open(data, doc); (err == nil) != (want == nil) {
				t.Fatalf("%s %q: memoised %v, worked out %v", kind, data, err, want)
			}
			if err != nil {
				refused++
			}
		}
		if refused < 200 {
			t.Errorf("%d of 300 forged ones of kind %s were refused", refused, kind)
		}
	}
}

// line is the ledger of a region: entries, each with the seal after it, if there is one.
type line struct {
	entries [][]byte
	seals   map[int]*fsm.Seal
}

func newLine(t *testing.T, fed *testfed.Federation, who string, proofs int) *line {
	t.Helper()
	m, err := fsm.Open(store.NewMemory(), fsm.Config{Region: "a"})
	if err != nil {
		t.Fatal(err)
	}
	index, now := uint64(0), int64(1_772_452_800_000)
	apply := func(command []byte) fsm.Result {
		index++
		res, err := m.Apply([]fsm.Command{{Index: index, Term: 1, Data: command}})
		if err != nil {
			t.Fatal(err)
		}
		return res[0]
	}
	l := &line{seals: map[int]*fsm.Seal{}}
	seal := func() {
		if s := apply(fsm.EncodeSeal()).Seal; s != nil {
			l.seals[int(s.Size)] = s
			if body := s.Body(); body != nil { // certified as far as seals wait for it
				apply(fsm.EncodeCertify(s.Number, append(body, '\n')))
			}
		}
	}
	apply(fsm.EncodeGenesis(now, fed.Document.Canonical()))
	seal()
	agent := fed.Agent(who, now)
	for i := range proofs {
		now += 100
		agent.NowMillis = now
		proof := agent.Sign("session.open", map[string]any{"region": "a", "session": fmt.Sprintf("s%d", i)}, "")
		if r := apply(fsm.EncodeProofs(now, [][]byte{proof.Canonical()})).Receipts[0]; !r.Accepted() {
			t.Fatalf("refused: %+v", r)
		}
		if i%5 == 2 {
			seal()
		}
	}
	v, err := m.View()
	if err != nil {
		t.Fatal(err)
	}
	if l.entries, err = v.Ledger().Entries(0, m.Size(), 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestForgedEntriesAreNotMemoised has entries that differ a little from good ones be judged as each is.
func TestForgedEntriesAreNotMemoised(t *testing.T) {
	entries := newLine(t, testfed.New(1, 1, testfed.Open, testfed.Lenient), "alice", 8).entries
	dice, m := seeded(t), newMemo(false)
	for range 2 {
		if _, good, err := m.parse(entries, true); err != nil || good != len(entries) {
			t.Fatal(good, err)
		}
	}
	if got := m.counts[MemoEntry]; got != (MemoCount{int64(len(entries)), int64(len(entries))}) {
		t.Fatalf("%+v", got)
	}
	refused := 0
	for range 500 {
		batch, at := slices.Clone(entries), dice.IntN(len(entries))
		batch[at] = forge(dice, batch[at])
		verify := dice.IntN(2) == 0
		if _, good, err := m.parse(batch, false); err == nil && good != len(batch) {
			t.Fatal("not all are good and nothing is the matter")
		}
		list, good, err := m.parse(batch, verify)
		wantList, wantGood, want := follow.ParseEntries(batch, verify)
		if good != wantGood || len(list) != len(wantList) || fmt.Sprint(err) != fmt.Sprint(want) {
			t.Fatalf("memoised: %d good of %d, %v; worked out: %d of %d, %v", good, len(list), err, wantGood, len(wantList), want)
		}
		if err != nil {
			refused++
		}
	}
	if refused < 300 {
		t.Errorf("%d of 500 batches were refused", refused)
	}
}

// fed takes entries and seals of a line up to a size, in batches as the dice fall.
func (l *line) feed(dice *rand.Rand, c follow.Replica, to int) error {
	for int(c.Size()) < to {
		from := int(c.Size())
		end := min(to, from+1+dice.IntN(4))
		for k := from + 1; k < end; k++ {
			if l.seals[k] != nil {
				end = k
			}
		}
		list, _, err := follow.ParseEntries(l.entries[from:end], true)
		if err != nil {
			return err
		}
		if err := c.ApplyParsed(list, l.entries[from:end]); err != nil {
			return err
		}
		if s := l.seals[end]; s != nil {
			if err := c.ApplySeal(s); err != nil {
				return err
			}
		}
	}
	return nil
}

func openBoth(t *testing.T, m *memo, fed *testfed.Federation, dirs ...string) (shared []follow.CopyReplica, plain follow.CopyReplica) {
	t.Helper()
	cfg := fsm.Config{Region: "a", Own: fed.Document}
	for _, dir := range dirs {
		c, err := m.openCopy(&mount{disk: newDisk()}, dir, cfg)
		if err != nil {
			t.Fatal(err)
		}
		shared = append(shared, c)
	}
	plain, err := follow.OpenCopy(store.NewMemory(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return shared, plain
}

// sameState holds two replicas against each other.
func sameState(t *testing.T, one, other follow.CopyReplica) {
	t.Helper()
	var roots, logs [2][32]byte
	for i, r := range []follow.CopyReplica{one, other} {
		v, err := r.View()
		if err != nil {
			t.Fatal(err)
		}
		size, err := v.Ledger().Size()
		if err != nil {
			t.Fatal(err)
		}
		h, err := v.Ledger().Root(size)
		if err != nil {
			t.Fatal(err)
		}
		s, err := v.SealAt(v.Seals() - 1)
		if err != nil {
			t.Fatal(err)
		}
		logs[i], roots[i] = h, s.State
		if err := r.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if roots[0] != roots[1] || logs[0] != logs[1] {
		t.Fatalf("state %x and ledger %x, and %x and %x", roots[0], logs[0], roots[1], logs[1])
	}
}

// TestCopiesThatShareAreTheSame has copies that share what they execute, each fed in other batches
// and some far behind, hold what one does that executes for itself.
func TestCopiesThatShareAreTheSame(t *testing.T) {
	fed := testfed.New(4, 1, testfed.Open, testfed.Lenient)
	fed.Document = parsed(t, fed.Document)
	l, dice, m := newLine(t, fed, "alice", 40), seeded(t), newMemo(false)
	copies, plain := openBoth(t, m, fed, "one", "two", "three", "late")
	for to := 3; to <= len(l.entries); to += 1 + dice.IntN(6) {
		for _, c := range append(copies[:3:3], plain) {
			if err := l.feed(dice, c, to); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range copies[:3] {
			sameState(t, c, plain)
		}
	}
	for _, c := range append(copies, plain) {
		if err := l.feed(dice, c, len(l.entries)); err != nil {
			t.Fatal(err)
		}
	}
	sameState(t, copies[3], plain)
	n := int64(len(l.entries))
	if got := m.counts[MemoReexecution]; got.Memoised < n || got.Real < n || got.Real+got.Memoised != 4*n {
		t.Errorf("of %d entries in 4 copies: %+v", n, got)
	}
	if err := m.close(); err != nil {
		t.Fatal(err)
	}
}

// TestMembersThatShareAreTheSame has members that hear of certificates at other moments share a state
// all the same, which is that of one that works for itself; what is refused changes nothing.
func TestMembersThatShareAreTheSame(t *testing.T) {
	fed := testfed.New(4, 1, testfed.Open, testfed.Lenient)
	fed.Document = parsed(t, fed.Document)
	l, dice, m := newLine(t, fed, "alice", 40), seeded(t), newMemo(false)
	cfg := fsm.Config{Region: "a", Own: fed.Document}
	alone, err := node.OpenFollowed(store.NewMemory(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	all := []node.Followed{alone}
	for range 3 {
		s, err := m.openFollowed(&mount{disk: newDisk()}, "state", cfg)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	certified := 0
	for _, at := range slices.Sorted(maps.Keys(l.seals)) {
		note, err := checkpoint.Sign(l.seals[at].Checkpoint(), fed.LogKeys["a"]) // whoever brings it has verified it
		if err != nil {
			t.Fatal(err)
		}
		certified++
		for i, s := range all {
			if err := s.Certify(note); err != nil { // too early
				t.Fatal(err)
			}
			to := min(len(l.entries), at+i) // each hears of it after another entry
			if err := errors.Join(l.feed(dice, s, at), l.feed(dice, s, to), s.Certify(note), s.Certify(note)); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range all {
			if err := l.feed(dice, s, min(len(l.entries), at+len(all)-1)); err != nil {
				t.Fatal(err)
			}
			v, err := s.View()
			if err != nil {
				t.Fatal(err)
			}
			size, err := v.CertifiedSize()
			if err := errors.Join(err, v.Close()); err != nil || size != int64(at) {
				t.Fatalf("certified %d, want %d: %v", size, at, err)
			}
		}
		first, ok := all[1].(*sharedState)
		for _, s := range all[2:] {
			if other, is := s.(*sharedState); !ok || !is || other.at != first.at {
				t.Fatal("members that know the same do not share it")
			}
		}
	}
	key := fsm.SessionKey("s")
	want, err := alone.ProveCertified(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all[1:] {
		got, err := s.ProveCertified(key)
		if errors.Is(err, fsm.ErrNoSeal) {
			continue // its machine stood elsewhere meanwhile, and is like one of a node that has just started
		}
		if err != nil || got.Seal.State != want.Seal.State {
			t.Fatalf("another proof: %v", err)
		}
	}
	if got := m.counts[MemoCertified]; certified < 2 || got.Memoised == 0 || got.Real+got.Memoised != 3*int64(certified) {
		t.Errorf("of %d certificates in 3 states: %+v", certified, got)
	}
	if err := m.close(); err != nil {
		t.Fatal(err)
	}
}

// TestForgedHistoriesAreNotMemoised has a copy that is fed forged entries and seals refuse what one
// refuses that executes for itself, whatever others that share with it have executed; and what it
// takes none of the others holds.
func TestForgedHistoriesAreNotMemoised(t *testing.T) {
	fed := testfed.New(4, 1, testfed.Open, testfed.Lenient)
	fed.Document = parsed(t, fed.Document)
	l, fork := newLine(t, fed, "alice", 20), newLine(t, fed, "bob", 20)
	dice, m := seeded(t), newMemo(false)
	copies, plain := openBoth(t, m, fed, "honest", "shown", "forked")
	refused := 0
	for to := 1; to <= len(l.entries); to++ {
		honest, shown := copies[0], copies[1]
		if err := l.feed(dice, honest, to); err != nil { // it is first
			t.Fatal(err)
		}
		from := to - 1
		for range 100 {
			entry := forge(dice, l.entries[from])
			list, good, err := follow.ParseEntries([][]byte{entry}, true)
			if err != nil || good == 0 || bytes.Equal(entry, l.entries[from]) {
				continue
			}
			tried, alone := openBoth(t, m, fed, "tried")
			if err := errors.Join(l.feed(dice, tried[0], from), l.feed(dice, alone, from)); err != nil {
				t.Fatal(err)
			}
			got, want := tried[0].ApplyParsed(list, [][]byte{entry}), alone.ApplyParsed(list, [][]byte{entry})
			if (got == nil) != (want == nil) || errors.Is(got, fsm.ErrDiverged) != errors.Is(want, fsm.ErrDiverged) {
				t.Fatalf("shared %v, alone %v: entry %s", got, want, entry)
			}
			if want != nil {
				refused++
			}
		}
		if from > 0 { // what comes later, or came before
			list, _, _ := follow.ParseEntries(l.entries[from-1:from], false)
			if err := shown.ApplyParsed(list, l.entries[from-1:from]); err == nil {
				t.Fatal("an entry was taken twice")
			}
		}
		for _, c := range []follow.CopyReplica{shown, plain} {
			list, _, _ := follow.ParseEntries(l.entries[from:to], true)
			if err := c.ApplyParsed(list, l.entries[from:to]); err != nil {
				t.Fatal(err)
			}
		}
		if s := l.seals[to]; s != nil {
			for k := range 4 {
				lie := *s
				switch k {
				case 0:
					lie.State[3] ^= 1
				case 1:
					lie.Root[30] ^= 1
				case 2:
					lie.TimeMillis++
				default:
					lie.Document++
				}
				if shown.ApplySeal(&lie) == nil || plain.ApplySeal(&lie) == nil {
					t.Fatalf("seal %+v was taken for %+v", lie, s)
				}
				refused++
			}
			for _, c := range []follow.CopyReplica{shown, plain} {
				if err := c.ApplySeal(s); err != nil {
					t.Fatal(err)
				}
			}
			sameState(t, shown, plain)
		}
	}
	if refused < 40 {
		t.Fatalf("only %d forged ones were tried", refused)
	}
	// Another ledger of that region is executed beside it, and leads to another state.
	if err := fork.feed(dice, copies[2], len(fork.entries)); err != nil {
		t.Fatal(err)
	}
	alone, err := follow.OpenCopy(store.NewMemory(), fsm.Config{Region: "a", Own: fed.Document})
	if err != nil {
		t.Fatal(err)
	}
	if err := fork.feed(dice, alone, len(fork.entries)); err != nil {
		t.Fatal(err)
	}
	sameState(t, copies[2], alone)
	sameState(t, copies[0], plain)
	if err := m.close(); err != nil {
		t.Fatal(err)
	}
}

// TestForgedInvitationsAndSignaturesAreNotMemoised has invitations and signatures that differ a little
// from ones that hold be judged as each is.
func TestForgedInvitationsAndSignaturesAreNotMemoised(t *testing.T) {
	fed := testfed.New(4, 1)
	doc := parsed(t, fed.Document)
	node := testfed.Key("member")
	inv, err := p2p.SignInvitation(p2p.Invitation{Federation: doc.Name, Region: "a", Node: node.Public(), ExpiresMillis: 1 << 40}, fed.Operators["a"])
	if err != nil {
		t.Fatal(err)
	}
	text := inv.Canonical()
	message := []byte("bizra-heartbeat: here")
	signature := node.Sign(message)
	dice, m := seeded(t), newMemo(false)
	refused := 0
	for range 2 {
		if c, err := m.credential(text, doc); err != nil || !bytes.Equal(c.Canonical(), text) {
			t.Fatalf("an invitation that holds: %v", err)
		}
		if !m.verify(node.Public(), message, signature[:]) {
			t.Fatal("a signature that holds was refused")
		}
	}
	for range 2000 {
		forged := forge(dice, text)
		want, wrong := p2p.NewCredential(forged, doc)
		got, err := m.credential(forged, doc)
		if (err == nil) != (wrong == nil) || err == nil && !bytes.Equal(got.Canonical(), want.Canonical()) {
			t.Fatalf("%s: %v, and anew %v", forged, err, wrong)
		}
		public, said, by := node.Public(), forge(dice, message), forge(dice, signature[:])
		switch dice.IntN(3) {
		case 0:
			said = message
		case 1:
			by = signature[:]
		default:
			public[dice.IntN(len(public))] ^= 1
		}
		if want := ed25519.Verify(public[:], said, by); m.verify(public, said, by) != want {
			t.Fatalf("a forged signature is judged otherwise than anew: %v", want)
		} else if !want {
			refused++
		}
	}
	if refused < 1000 {
		t.Errorf("%d of 2000 forgeries were any", refused)
	}
	if c := m.counts[MemoInvitation]; c.Real < 1 || c.Memoised < 1 {
		t.Errorf("invitations: %+v", c)
	}
	if c := m.counts[MemoSignature]; c.Real < 1 || c.Memoised < 1 {
		t.Errorf("signatures: %+v", c)
	}
	if d, err := m.directory(doc); err != nil {
		t.Error(err)
	} else if again, _ := m.directory(parsed(t, doc)); again != d {
		t.Error("equal documents have different directories")
	}
}
