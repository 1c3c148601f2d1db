package pci

import (
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"
	"pgregory.net/rapid"
)

// smallOrder lists every encoding of a point of small order that ZIP-215 admits:
// the eight points, and six more encodings that are not canonical.
func smallOrder() []string {
	return []string{
		"0100000000000000000000000000000000000000000000000000000000000000",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0000000000000000000000000000000000000000000000000000000000000080",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
		"0100000000000000000000000000000000000000000000000000000000000080",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	}
}

func fromHex(t testing.TB, s string) (b [32]byte) {
	t.Helper()
	if n, err := hex.Decode(b[:], []byte(s)); err != nil || n != len(b) {
		t.Fatalf("%s: %d bytes, %v", s, n, err)
	}
	return b
}

// envelopeOf makes an envelope under any public key, with the signature that sign
// finds for its digest.
func envelopeOf(t testing.TB, publicKey [32]byte, sign func(digest [32]byte) [64]byte) *Envelope {
	t.Helper()
	before, after := typicalDraft(t).canonical(publicKey)
	signature := sign(digestOf(before, after))
	e, err := DecodeCanonical(assemble(before, signature, after))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// signatureCase is an envelope with the verdict that ZIP-215 gives.
type signatureCase struct {
	name string
	e    *Envelope
	ok   bool
}

// mixedOrder signs under a key and with an R that both carry a component of small
// order. Only the equation multiplied by the cofactor holds for them.
func mixedOrder(t testing.TB, torsionA, torsionR int) *Envelope {
	t.Helper()
	scalarOf := func(b []byte) *scalar.Scalar {
		s, err := scalar.NewFromBytesModOrderWide(b)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	compressed := func(s *scalar.Scalar, torsion int) (b [32]byte) {
		p := curve.NewEdwardsPoint().MulBasepoint(curve.ED25519_BASEPOINT_TABLE, s)
		p.Add(p, curve.EIGHT_TORSION[torsion])
		copy(b[:], curve.NewCompressedEdwardsY().SetEdwardsPoint(p)[:])
		return b
	}
	aBytes, rBytes := sha512.Sum512([]byte("a")), sha512.Sum512([]byte("r"))
	a, r := scalarOf(aBytes[:]), scalarOf(rBytes[:])
	publicKey := compressed(a, torsionA)
	return envelopeOf(t, publicKey, func(digest [32]byte) (signature [64]byte) {
		encodedR := compressed(r, torsionR)
		h := sha512.New()
		h.Write(encodedR[:])
		h.Write(publicKey[:])
		h.Write(digest[:])
		s := scalar.New().Mul(scalarOf(h.Sum(nil)), a)
		s.Add(s, r)
		copy(signature[:], encodedR[:])
		if err := s.ToBytes(signature[32:]); err != nil {
			t.Fatal(err)
		}
		return signature
	})
}

func signatureCases(t testing.TB) []signatureCase {
	t.Helper()
	// The group order, and a y coordinate that is on no point of the curve.
	order := fromHex(t, "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	offCurve := fromHex(t, "0200000000000000000000000000000000000000000000000000000000000000")
	join := func(r, s [32]byte) (signature [64]byte) {
		copy(signature[:], r[:])
		copy(signature[32:], s[:])
		return signature
	}
	var cases []signatureCase
	add := func(name string, ok bool, publicKey [32]byte, sign func([32]byte) [64]byte) {
		cases = append(cases, signatureCase{name, envelopeOf(t, publicKey, sign), ok})
	}
	key := NewKeyFromSeed([32]byte{7})
	other := NewKeyFromSeed([32]byte{8})
	plain := func(digest [32]byte) [64]byte { return key.Sign(digest[:]) }
	add("good", true, key.Public(), plain)
	add("another key", false, other.Public(), plain)
	add("another digest", false, key.Public(), func([32]byte) [64]byte { return key.Sign([]byte("another")) })
	add("zero", false, key.Public(), func([32]byte) [64]byte { return [64]byte{} })
	add("s above the order", false, key.Public(), func(digest [32]byte) [64]byte {
		signature := key.Sign(digest[:])
		carry := 0
		for i, b := range order {
			carry += int(signature[32+i]) + int(b)
			signature[32+i] = byte(carry)
			carry >>= 8
		}
		return signature
	})
	for i, a := range smallOrder() {
		for j, r := range smallOrder() {
			signature := join(fromHex(t, r), [32]byte{})
			add(fmt.Sprintf("small order A %d, R %d", i, j), true, fromHex(t, a), func([32]byte) [64]byte { return signature })
		}
	}
	small := fromHex(t, smallOrder()[0])
	add("small order, s the order", false, small, func([32]byte) [64]byte { return join(small, order) })
	add("small order, s one", false, small, func([32]byte) [64]byte { return join(small, [32]byte{1}) })
	add("R off the curve", false, small, func([32]byte) [64]byte { return join(offCurve, [32]byte{}) })
	add("A off the curve", false, offCurve, func([32]byte) [64]byte { return join(small, [32]byte{}) })
	for i := range 8 {
		for j := range 8 {
			cases = append(cases, signatureCase{fmt.Sprintf("mixed order A %d, R %d", i, j), mixedOrder(t, i, j), true})
		}
	}
	return cases
}

func TestVerifyZIP215(t *testing.T) {
	cases := signatureCases(t)
	if len(cases) < 14*14+8*8 {
		t.Fatalf("only %d cases", len(cases))
	}
	good := cases[0].e
	stricter := 0
	for _, c := range cases {
		if got := c.e.Verify() == nil; got != c.ok {
			t.Errorf("%s: valid %v, want %v", c.name, got, c.ok)
		}
		if err := c.e.Verify(); err != nil && CodeOf(err) != RejectSignature {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, envs := range [][]*Envelope{{c.e}, {c.e, good}, {good, c.e, c.e}} {
			for i, err := range VerifyBatch(envs) {
				if want := envs[i] == good || c.ok; (err == nil) != want {
					t.Errorf("%s: envelope %d of a batch of %d: %v", c.name, i, len(envs), err)
				}
			}
		}
		if c.ok && !ed25519.Verify(c.e.Sender.PublicKey[:], c.e.digest[:], c.e.Signature.Value[:]) {
			stricter++
		}
	}
	if stricter == 0 {
		t.Error("no case tells ZIP-215 from crypto/ed25519")
	}
}

func TestVerifyBatchAll(t *testing.T) {
	var envs []*Envelope
	for _, c := range signatureCases(t) {
		if c.ok {
			envs = append(envs, c.e)
		}
	}
	if len(envs) <= 2*verifyBatchMax {
		t.Fatalf("%d envelopes are not more than two batches", len(envs))
	}
	for i, err := range VerifyBatch(envs) {
		if err != nil {
			t.Errorf("envelope %d: %v", i, err)
		}
	}
	if errs := VerifyBatch(nil); len(errs) != 0 {
		t.Errorf("verdicts on nothing: %v", errs)
	}
}

func TestVerifyBatchWithoutSignature(t *testing.T) {
	good := signatureCases(t)[0].e
	unsigned := *good
	unsigned.Signature = nil
	errs := VerifyBatch([]*Envelope{good, nil, &unsigned, good})
	for i, want := range []Code{Success, RejectSignature, RejectSignature, Success} {
		if CodeOf(errs[i]) != want {
			t.Errorf("envelope %d: %v, want %v", i, errs[i], want)
		}
	}
}

func TestVerifyBatchAgreesWithVerify(t *testing.T) {
	cases := signatureCases(t)
	var good, bad []signatureCase
	for _, c := range cases {
		if c.ok {
			good = append(good, c)
		} else {
			bad = append(bad, c)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		picks := rapid.SliceOfN(rapid.IntRange(0, 9), 0, verifyBatchMax+4).Draw(t, "kinds")
		envs := make([]*Envelope, len(picks))
		want := make([]bool, len(picks))
		for i, pick := range picks {
			from := good
			if pick == 0 {
				from = bad
			}
			c := rapid.SampledFrom(from).Draw(t, "case")
			envs[i], want[i] = c.e, c.ok
		}
		for i, err := range VerifyBatch(envs) {
			if single := envs[i].Verify(); (err == nil) != want[i] || CodeOf(err) != CodeOf(single) {
				t.Fatalf("envelope %d of %d: batch %v, single %v, want valid %v", i, len(envs), err, single, want[i])
			}
		}
	})
}
