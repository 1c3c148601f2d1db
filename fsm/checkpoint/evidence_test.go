package checkpoint_test

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/internal/testfed"
)

// signedAt is the checkpoint note of a ledger at a size.
func signedAt(t testing.TB, v ledger.View, size int64) []byte {
	t.Helper()
	root, err := v.Root(size)
	if err != nil {
		t.Fatal(err)
	}
	c := example()
	c.Size, c.Root = size, root
	return signed(t, c)
}

func signed(t testing.TB, c *checkpoint.Checkpoint) []byte {
	t.Helper()
	b, err := checkpoint.Sign(c, testfed.Key("a-log"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rewritten is the evidence that the ledger behind the first note is no prefix of the second's.
func rewritten(t testing.TB, first, second ledger.View, m, n int64) *checkpoint.Evidence {
	t.Helper()
	proof, err := second.ConsistencyProof(m, n)
	if err != nil {
		t.Fatal(err)
	}
	root, err := second.Root(m)
	if err != nil {
		t.Fatal(err)
	}
	return &checkpoint.Evidence{First: signedAt(t, first, m), Second: signedAt(t, second, n), Root: root, Proof: proof}
}

func check(e *checkpoint.Evidence) error { return e.Check("test/a", testfed.Key("a-log").Public()) }

// TestEvidenceHolds: a rewritten prefix is evidence exactly if it differs, whatever the sizes.
func TestEvidenceHolds(t *testing.T) {
	lies := 0
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.Int64Range(2, 40).Draw(rt, "n")
		m := rapid.Int64Range(1, n-1).Draw(rt, "m")
		from := rapid.Int64Range(0, n-1).Draw(rt, "from")
		honest, other := testfed.Fork(n, n, ""), testfed.Fork(n, from, "'")
		e := rewritten(t, honest, other, m, n)
		err := check(e)
		if lie := from < m; (err == nil) != lie {
			rt.Fatalf("sizes %d and %d, fork at %d: %v", m, n, from, err)
		} else if lie {
			lies++
		}
		b, err := e.Marshal()
		if err != nil {
			rt.Fatal(err)
		}
		again, err := checkpoint.ParseEvidence(b)
		if err != nil {
			rt.Fatal(err)
		}
		if b2, err := again.Marshal(); err != nil || !bytes.Equal(b, b2) {
			rt.Fatalf("read back it differs: %v", err)
		}
	})
	if lies < 5 {
		t.Fatalf("only %d lies were tried", lies)
	}
}

func TestContradiction(t *testing.T) {
	base := signed(t, example())
	for name, change := range map[string]func(*checkpoint.Checkpoint){
		"root":     func(c *checkpoint.Checkpoint) { c.Root[5]++ },
		"state":    func(c *checkpoint.Checkpoint) { c.State[5]++ },
		"time":     func(c *checkpoint.Checkpoint) { c.TimeMillis++ },
		"document": func(c *checkpoint.Checkpoint) { c.Document++ },
		"digest":   func(c *checkpoint.Checkpoint) { c.DocumentDigest[5]++ },
	} {
		c := example()
		change(c)
		other := signed(t, c)
		e := checkpoint.Contradiction(base, other)
		if err := check(e); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if r := checkpoint.Contradiction(other, base); !bytes.Equal(r.First, e.First) {
			t.Errorf("%s: the order in which the notes came shows", name)
		}
		if err := e.Check("test/a", testfed.Key("b-log").Public()); !errors.Is(err, checkpoint.ErrEvidence) {
			t.Errorf("%s: under another key: %v", name, err)
		}
		if err := e.Check("test/b", testfed.Key("a-log").Public()); !errors.Is(err, checkpoint.ErrEvidence) {
			t.Errorf("%s: against another region: %v", name, err)
		}
	}
}

// TestNoEvidence: an origin that told the truth cannot be accused.
func TestNoEvidence(t *testing.T) {
	honest, other := testfed.Fork(20, 20, ""), testfed.Fork(20, 3, "'")
	base := signed(t, example())
	good := rewritten(t, honest, other, 7, 20)
	if err := check(good); err != nil {
		t.Fatal(err)
	}
	with := func(change func(*checkpoint.Evidence)) *checkpoint.Evidence {
		e := *good
		e.Proof = append(tlog.TreeProof{}, good.Proof...)
		change(&e)
		return &e
	}
	for name, e := range map[string]*checkpoint.Evidence{
		"empty":                        {},
		"the same note twice":          checkpoint.Contradiction(base, base),
		"a proof where none is needed": {First: base, Second: signed(t, func() *checkpoint.Checkpoint { c := example(); c.State[0]++; return c }()), Root: tlog.Hash{1}},
		"the larger first":             with(func(e *checkpoint.Evidence) { e.First, e.Second = e.Second, e.First }),
		"no proof":                     with(func(e *checkpoint.Evidence) { e.Proof = nil }),
		"no root":                      with(func(e *checkpoint.Evidence) { e.Root = tlog.Hash{} }),
		"an invented root":             with(func(e *checkpoint.Evidence) { e.Root[0]++ }),
		"a proof with another hash":    with(func(e *checkpoint.Evidence) { e.Proof[0][0]++ }),
		"a proof with a hash more":     with(func(e *checkpoint.Evidence) { e.Proof = append(e.Proof, tlog.Hash{}) }),
		"a proof from what it says":    rewritten(t, honest, honest, 7, 20),
		"a note that nobody signed":    with(func(e *checkpoint.Evidence) { e.First = bytes.Replace(e.First, []byte("\n7\n"), []byte("\n6\n"), 1) }),
	} {
		if err := check(e); !errors.Is(err, checkpoint.ErrEvidence) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestEvidenceLimits(t *testing.T) {
	e := &checkpoint.Evidence{First: make([]byte, checkpoint.NoteBytesMax), Second: make([]byte, checkpoint.NoteBytesMax), Root: tlog.Hash{1},
		Proof: make(tlog.TreeProof, checkpoint.ProofHashesMax)}
	b, err := e.Marshal()
	if err != nil || len(b) > checkpoint.EvidenceBytesMax {
		t.Fatalf("the largest has %d bytes: %v", len(b), err)
	}
	if _, err := checkpoint.ParseEvidence(b); err != nil {
		t.Error(err)
	}
	e.Proof = append(e.Proof, tlog.Hash{})
	if b, err = e.Marshal(); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"nothing": nil, "a hash more": b, "another version": {2, 0x80}, "bytes after it": append(b[:len(b):len(b)], 0),
		"beyond the limit": make([]byte, checkpoint.EvidenceBytesMax+1), "no array": {1, 0x01}, "null notes": {1, 0x84, 0xf6, 0xf6, 0x40, 0x80},
		"a long form": {1, 0x98, 0x04, 0x40, 0x40, 0x40, 0x80}, "a short root": {1, 0x84, 0x40, 0x40, 0x41, 0x01, 0x80},
		"a root of zeros": append(append([]byte{1, 0x84, 0x40, 0x40, 0x58, 0x20}, make([]byte, 32)...), 0x80), "a short hash": {1, 0x84, 0x40, 0x40, 0x40, 0x81, 0x41, 0x01}} {
		if _, err := checkpoint.ParseEvidence(data); !errors.Is(err, checkpoint.ErrEvidence) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := checkpoint.ParseEvidence([]byte{1, 0x84, 0x40, 0x40, 0x40, 0x80}); err != nil {
		t.Errorf("the smallest form: %v", err)
	}
}

func FuzzEvidence(f *testing.F) {
	honest, other := testfed.Fork(20, 20, ""), testfed.Fork(20, 3, "'")
	for _, e := range []*checkpoint.Evidence{rewritten(f, honest, other, 7, 20), checkpoint.Contradiction(signedAt(f, honest, 7), signedAt(f, other, 7)),
		rewritten(f, honest, honest, 7, 20)} {
		b, err := e.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := checkpoint.ParseEvidence(data)
		if err != nil {
			return
		}
		if b, err := e.Marshal(); err != nil || !bytes.Equal(b, data) {
			t.Fatalf("%x and %x are the same evidence", data, b)
		}
		_ = check(e)
	})
}
