package prefixtree

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestProofsVerify(t *testing.T) {
	ends := map[end]int{}
	rapid.Check(t, func(t *rapid.T) {
		kv, set := newMemory(), pairs{}
		batch := anyBatch().Draw(t, "batch")
		set.apply(batch)
		root := mustUpdate(t, kv, batch)
		for range 10 {
			key := anyKey().Draw(t, "key")
			p := mustProve(t, kv, key)
			ends[p.end]++
			value, there := set[key]
			if p.Member() != there {
				t.Fatalf("Member = %v, want %v", p.Member(), there)
			}
			want := &value
			if !there {
				want = nil
			}
			if err := p.Verify(root, key, want); err != nil {
				t.Fatalf("Verify: %v", err)
			}
			checkRoundTrip(t, p)
			checkShowsNothingElse(t, p, root, key, value, there, set)
		}
	})
	for e := endEmpty; e <= endInner; e++ {
		if ends[e] == 0 {
			t.Fatalf("no proof ended in kind %d: %v", e, ends)
		}
	}
}

func checkShowsNothingElse(t *rapid.T, p Proof, root, key, value [32]byte, there bool, set pairs) {
	other := value
	other[rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1
	wrong := []*[32]byte{&other}
	if there {
		wrong = append(wrong, nil)
	} else {
		wrong = append(wrong, &value)
	}
	for _, v := range wrong {
		if err := p.Verify(root, key, v); !errors.Is(err, ErrProof) {
			t.Fatalf("Verify accepts value %x: %v", v, err)
		}
	}
	otherRoot := root
	otherRoot[rapid.IntRange(0, 31).Draw(t, "root byte")] ^= 0x10
	if err := p.Verify(otherRoot, key, &value); !errors.Is(err, ErrProof) {
		t.Fatalf("Verify accepts another root: %v", err)
	}
	if err := p.Verify(otherRoot, key, nil); !errors.Is(err, ErrProof) {
		t.Fatalf("Verify accepts another root: %v", err)
	}
	// A proof made for one key may hold for another only if it says what is true there.
	otherKey := anyKey().Draw(t, "other key")
	v, thereToo := set[otherKey]
	if err := p.Verify(root, otherKey, nil); err == nil && thereToo {
		t.Fatalf("proof for %x shows that %x is absent", key, otherKey)
	}
	if err := p.Verify(root, otherKey, &value); err == nil && (!thereToo || v != value) {
		t.Fatalf("proof for %x shows a false value of %x", key, otherKey)
	}
}

func checkRoundTrip(t fataler, p Proof) {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatalf("json: %v", err)
	}
	var read Proof
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatalf("json: %v", err)
	}
	was, _ := p.MarshalBinary()
	is, err := read.MarshalBinary()
	if err != nil || !bytes.Equal(was, is) {
		t.Fatalf("round trip: %v, %x became %x", err, was, is)
	}
}

// question is a proof and what it shows.
type question struct {
	name      string
	root, key [32]byte
	value     *[32]byte
	proof     Proof
}

// oneOfEach returns proofs that end in each of the four ways, deep and shallow.
func oneOfEach(t *testing.T) []question {
	t.Helper()
	kv := newMemory()
	questions := []question{{"empty", EmptyRoot(), [32]byte{1}, nil, mustProve(t, kv, [32]byte{1})}}
	set := numbered(60)
	set[[32]byte{0: 0x55, 31: 1}] = [32]byte{1}
	set[[32]byte{0: 0x55, 31: 3}] = [32]byte{3}
	root := mustUpdate(t, kv, set.changes())
	ask := func(name string, key [32]byte, want end) {
		p := mustProve(t, kv, key)
		if p.end != want {
			t.Fatalf("%s: proof ends in kind %d, want %d", name, p.end, want)
		}
		q := question{name, root, key, nil, p}
		if v, ok := set[key]; ok {
			q.value = &v
		}
		questions = append(questions, q)
	}
	ask("present", set.changes()[7].Key, endKey)
	ask("present, deep", [32]byte{0: 0x55, 31: 3}, endKey)
	ask("absent beside a deep leaf", [32]byte{0: 0x55, 31: 2}, endLeaf)
	ask("absent above a deep node", [32]byte{0: 0x55, 30: 2}, endInner)
	near := set.changes()[20].Key
	near[31] ^= 1
	ask("absent beside a leaf", near, endLeaf)

	single := newMemory()
	only := pairs{{7}: {8}}
	root, set, kv = mustUpdate(t, single, only.changes()), only, single
	ask("only pair", [32]byte{7}, endKey)
	ask("beside the only pair", [32]byte{0x80}, endLeaf)

	two := newMemory()
	far := pairs{{0x80}: {1}, {0xc0}: {2}}
	root, set, kv = mustUpdate(t, two, far.changes()), far, two
	ask("beside the top node", [32]byte{0x40}, endInner)
	for _, q := range questions {
		if err := q.proof.Verify(q.root, q.key, q.value); err != nil {
			t.Fatalf("%s: %v", q.name, err)
		}
	}
	return questions
}

func TestEveryMutationFails(t *testing.T) {
	for _, q := range oneOfEach(t) {
		t.Run(q.name, func(t *testing.T) {
			whole, err := q.proof.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			fails := func(what string, b []byte, root, key [32]byte, value *[32]byte) {
				t.Helper()
				var p Proof
				err := p.UnmarshalBinary(b)
				if err != nil && !errors.Is(err, ErrProofFormat) {
					t.Fatalf("%s: UnmarshalBinary: %v", what, err)
				}
				if err == nil {
					err = p.Verify(root, key, value)
					if !errors.Is(err, ErrProof) {
						t.Fatalf("%s: Verify: %v", what, err)
					}
				}
			}
			for i := range whole {
				for bit := range 8 {
					b := bytes.Clone(whole)
					b[i] ^= 1 << bit
					fails("proof bit flipped", b, q.root, q.key, q.value)
				}
				fails("proof cut", whole[:i], q.root, q.key, q.value)
			}
			fails("proof longer", append(bytes.Clone(whole), 0), q.root, q.key, q.value)
			for i := range 32 {
				root := q.root
				root[i] ^= 1 << (i % 8)
				fails("other root", whole, root, q.key, q.value)
				if q.value != nil {
					value := *q.value
					value[i] ^= 1 << (i % 8)
					fails("other value", whole, q.root, q.key, &value)
					key := q.key
					key[i] ^= 1 << (i % 8)
					fails("other key", whole, q.root, key, q.value)
				}
			}
			if q.value != nil {
				fails("asked for absence", whole, q.root, q.key, nil)
			} else {
				fails("asked for a value", whole, q.root, q.key, &[32]byte{})
			}
		})
	}
}

// A proof of absence must not be bent to another place: an honest node elsewhere in the tree says nothing about the key.
func TestAbsenceFromElsewhereFails(t *testing.T) {
	kv := newMemory()
	set := numbered(64)
	root := mustUpdate(t, kv, set.changes())
	tried := 0
	for key := range set {
		for other := range set {
			if key == other {
				continue
			}
			p := mustProve(t, kv, other)
			value := set[other]
			bent := Proof{end: endLeaf, steps: p.steps, at: keyLabel(other), hashes: [2][32]byte{value}}
			if err := bent.Verify(root, key, nil); !errors.Is(err, ErrProof) {
				t.Fatalf("the leaf of %x shows that %x is absent: %v", other, key, err)
			}
			for n := range p.steps {
				at := p.steps[n]
				l := prefixOf(other, uint16(at.depth))
				under := Proof{end: endInner, steps: p.steps[:n], at: l, hashes: childHashes(t, kv, &l)}
				if err := under.Verify(root, key, nil); !errors.Is(err, ErrProof) {
					t.Fatalf("an inner node on the way to %x shows that %x is absent: %v", other, key, err)
				}
				tried++
			}
		}
	}
	if tried < 1000 {
		t.Fatalf("only %d tried", tried)
	}
}

func childHashes(t *testing.T, kv *memory, l *label) [2][32]byte {
	t.Helper()
	var n inner
	if err := n.decode(l, kv.records[string(nodeKey(l))]); err != nil {
		t.Fatal(err)
	}
	return [2][32]byte{n[0].hash(), n[1].hash()}
}

func TestProofLimits(t *testing.T) {
	kv, set := newMemory(), ladder()
	root := mustUpdate(t, kv, set.changes())
	if root != twinRoot(set) {
		t.Fatal("the deepest tree has another root than its twin")
	}
	deepest := mustProve(t, kv, [32]byte{})
	value := set[[32]byte{}]
	if err := deepest.Verify(root, [32]byte{}, &value); err != nil {
		t.Fatal(err)
	}
	if len(deepest.steps) != ProofDepthMax {
		t.Fatalf("the deepest proof has %d steps, ProofDepthMax is %d", len(deepest.steps), ProofDepthMax)
	}
	b, err := deepest.MarshalBinary()
	if err != nil || len(b) > ProofBytesMax {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	var p Proof
	if err := p.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"none":           {},
		"no steps count": {proofFormat, byte(endKey), 0},
		"257 steps":      append([]byte{proofFormat, byte(endKey), 1, 1}, make([]byte, 257*stepBytes)...),
		"too long":       make([]byte, ProofBytesMax+1),
		"unknown format": {2, byte(endEmpty), 0, 0},
		"unknown end":    {proofFormat, 5, 0, 0},
		"no end":         {proofFormat, 0, 0, 0},
		"empty, but steps": append([]byte{proofFormat, byte(endEmpty), 0, 1},
			make([]byte, stepBytes)...),
		"steps not descending": append([]byte{proofFormat, byte(endKey), 0, 2},
			make([]byte, 2*stepBytes)...),
		"label not below its step": append([]byte{proofFormat, byte(endInner), 0, 0, 0, 0}, make([]byte, 64)...),
		"label of a leaf":          append([]byte{proofFormat, byte(endInner), 0, 0, 1, 0}, make([]byte, 96)...),
		"label of 257 bits":        append([]byte{proofFormat, byte(endInner), 0, 0, 1, 1}, make([]byte, 97)...),
		"label with a stray bit":   append([]byte{proofFormat, byte(endInner), 0, 0, 0, 1, 0x40}, make([]byte, 64)...),
	} {
		kept := p
		if err := p.UnmarshalBinary(bad); !errors.Is(err, ErrProofFormat) {
			t.Errorf("%s: %v", name, err)
		}
		if p.end != kept.end || len(p.steps) != len(kept.steps) {
			t.Errorf("%s: a failed UnmarshalBinary changed the proof", name)
		}
	}
}

func TestZeroProofShowsNothing(t *testing.T) {
	var p Proof
	if err := p.Verify(EmptyRoot(), [32]byte{}, nil); !errors.Is(err, ErrProof) {
		t.Fatalf("Verify: %v", err)
	}
	if _, err := p.MarshalBinary(); !errors.Is(err, ErrProofFormat) {
		t.Fatalf("MarshalBinary: %v", err)
	}
	if _, err := p.MarshalText(); !errors.Is(err, ErrProofFormat) {
		t.Fatalf("MarshalText: %v", err)
	}
}

func TestTextIsStrict(t *testing.T) {
	good, err := oneOfEach(t)[0].proof.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var p Proof
	if err := p.UnmarshalText(good); err != nil {
		t.Fatal(err)
	}
	if string(good) != base64.StdEncoding.EncodeToString([]byte{proofFormat, byte(endEmpty), 0, 0}) {
		t.Fatalf("text %s", good)
	}
	for name, bad := range map[string]string{
		"line break":    "AQEA\nAA==",
		"break at end":  string(good) + "\n",
		"no padding":    strings.TrimRight(string(good), "="),
		"stray bits":    "AQEAAB==",
		"space":         " " + string(good),
		"not base64":    "****",
		"too long":      strings.Repeat("A", base64.StdEncoding.EncodedLen(ProofBytesMax)+4),
		"nothing":       "",
		"other content": "AAAA",
	} {
		if err := p.UnmarshalText([]byte(bad)); !errors.Is(err, ErrProofFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
