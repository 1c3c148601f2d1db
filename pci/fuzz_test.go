package pci

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"testing"

	"github.com/bizra/bizra/internal/vectors"
)

func FuzzParse(f *testing.F) {
	var file struct{ Cases []struct{ JSON string } }
	vectors.Load(f, "canonical.json", &file)
	for _, c := range file.Cases {
		f.Add([]byte(c.JSON))
	}
	for _, seed := range []string{`{"a":1,"a":2}`, `"\ud800"`, "\"\xff\"", `1e999`, `[[[[]]]]`, `{"b":{"d":1,"c":2},"a":-0.0}`, `"\u00e9\/\ud83d\ude00"`, ` [ ] x`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := Parse(text, Limits{})
		if err != nil {
			if CodeOf(err) != RejectSchema || v != (Value{}) {
				t.Fatalf("refused with %v and %v", v, err)
			}
			return
		}
		canonical := v.AppendCanonical(nil)
		if len(canonical) > EnvelopeBytesMax {
			t.Fatalf("%d canonical bytes", len(canonical))
		}
		again, err := Parse(canonical, Limits{})
		if err != nil || again != v || !bytes.Equal(again.AppendCanonical(nil), canonical) {
			t.Fatalf("%s is not its own canonical form: %v", canonical, err)
		}
		if rebuilt := rebuild(nil, v); !bytes.Equal(rebuilt, canonical) {
			t.Fatalf("%s reads as %s", canonical, rebuilt)
		}
	})
}

// rebuild writes a value from what its methods say of it.
func rebuild(dst []byte, v Value) []byte {
	switch v.Kind() {
	case StringKind:
		return AppendString(dst, v.String())
	case NumberKind:
		return append(dst, v.NumberText()...)
	case ArrayKind:
		dst = append(dst, '[')
		for i, e := range v.Elems() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = rebuild(dst, e)
		}
		return append(dst, ']')
	case ObjectKind:
		dst = append(dst, '{')
		for i, m := range v.Members() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(AppendString(dst, m.Name), ':')
			if got, ok := v.Get(m.Name); !ok || got != m.Value {
				return append(dst, "<Get and Members differ>"...)
			}
			dst = rebuild(dst, m.Value)
		}
		return append(dst, '}')
	}
	return v.AppendCanonical(dst)
}

func FuzzDecode(f *testing.F) {
	var file struct{ Cases []struct{ Wire string } }
	vectors.Load(f, "envelopes.json", &file)
	for _, c := range file.Cases {
		f.Add([]byte(c.Wire))
	}
	f.Add([]byte(plainEnvelope(f)))
	f.Fuzz(func(t *testing.T, wire []byte) {
		e, err := Decode(wire)
		if err != nil {
			if c := CodeOf(err); e != nil || c != RejectSchema && c != RejectSignature {
				t.Fatalf("refused with %v and %v", e, err)
			}
			return
		}
		again, err := DecodeCanonical(e.Canonical())
		if err != nil {
			t.Fatalf("the canonical form %s is refused: %v", e.Canonical(), err)
		}
		if again.Digest() != e.Digest() || !bytes.Equal(again.Canonical(), e.Canonical()) || again.TimestampMicros() != e.TimestampMicros() {
			t.Fatalf("%s decodes to another envelope", e.Canonical())
		}
		if (e.Verify() == nil) != (again.Verify() == nil) {
			t.Fatal("the verdict depends on the form")
		}
	})
}

// FuzzVerifyBatchAgrees reads three bytes per envelope: which case of the table, and
// which byte of key, digest and signature to change by which mask.
func FuzzVerifyBatchAgrees(f *testing.F) {
	cases := signatureCases(f)
	f.Add([]byte{0, 0, 0, 5, 0, 0, 200, 0, 0})
	f.Add([]byte{0, 0, 0, 0, 40, 1, 0, 127, 128})
	f.Add([]byte{210, 3, 255, 220, 0, 0})
	f.Fuzz(func(t *testing.T, picks []byte) {
		const envelopesMax = 8
		var envs []*Envelope
		for ; len(picks) >= 3 && len(envs) < envelopesMax; picks = picks[3:] {
			e := *cases[int(picks[0])%len(cases)].e
			signature := *e.Signature
			e.Signature = &signature
			switch at := int(picks[1]) % 128; {
			case at < 32:
				e.Sender.PublicKey[at] ^= picks[2]
			case at < 64:
				e.digest[at-32] ^= picks[2]
			default:
				signature.Value[at-64] ^= picks[2]
			}
			envs = append(envs, &e)
		}
		for i, err := range VerifyBatch(envs) {
			if single := envs[i].Verify(); CodeOf(err) != CodeOf(single) {
				t.Fatalf("envelope %d of %d: batch %v, single %v", i, len(envs), err, single)
			}
		}
	})
}

// FuzzKeyFile: what a key file may hold is one key, which is written as it was read; anything else is refused without
// a word of what it holds.
func FuzzKeyFile(f *testing.F) {
	key := newKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	path := filepath.Join(f.TempDir(), "key")
	if err := key.Save(path); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(append(append([]byte(nil), good...), good...))
	f.Add(good[:len(good)/2])
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := parseKey(text)
		if (k == nil) == (err == nil) {
			t.Fatalf("key %v, %v", k != nil, err)
		}
		if k != nil && newKey(ed25519.NewKeyFromSeed(k.secret().Seed())).Public() != k.Public() {
			t.Fatal("a key whose public half is another's")
		}
	})
}
