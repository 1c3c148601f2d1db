package pci

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// drawText draws a string in which the characters that canonical form treats apart
// are common.
func drawText(t *rapid.T, label string) string {
	return rapid.StringOf(rapid.OneOf(
		rapid.RuneFrom([]rune("ab\"\\/\b\f\n\r\t\x00\x1f\x7f\u0080é\u2028\ud7ff\ue000\ufb33\uffff😀\U00010000\U0010ffff:,{}[]")),
		rapid.Rune(),
	)).Draw(t, label)
}

func drawGo(t *rapid.T, depth int) any {
	kinds := 6
	if depth == 0 {
		kinds = 4
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return rapid.SampledFrom([]any{nil, true, false}).Draw(t, "constant")
	case 1:
		return rapid.Int64().Draw(t, "integer")
	case 2:
		return rapid.Float64().Filter(func(f float64) bool { return !math.IsInf(f, 0) && !math.IsNaN(f) }).Draw(t, "float")
	case 3:
		return drawText(t, "text")
	case 4:
		elems := make([]any, rapid.IntRange(0, 4).Draw(t, "elements"))
		for i := range elems {
			elems[i] = drawGo(t, depth-1)
		}
		return elems
	}
	members := map[string]any{}
	for range rapid.IntRange(0, 4).Draw(t, "members") {
		members[drawText(t, "name")] = drawGo(t, depth-1)
	}
	return members
}

// drawRand draws a seed for choices too many to be listed when a test fails.
func drawRand(t *rapid.T) *rand.Rand {
	return rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed of the form"), 0))
}

// appendLoosely writes a value as other programs may: spaces, members in another
// order, characters raw or by any escape that JSON has for them.
func appendLoosely(r *rand.Rand, dst []byte, v Value) []byte {
	spaces := []string{"", "", " ", "\n\t", "\r\n "}
	space := func() { dst = append(dst, spaces[r.IntN(len(spaces))]...) }
	space()
	switch v.Kind() {
	case StringKind:
		dst = appendTextLoosely(r, dst, v.String())
	case ArrayKind:
		dst = append(dst, '[')
		for i, e := range v.Elems() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendLoosely(r, dst, e)
		}
		space()
		dst = append(dst, ']')
	case ObjectKind:
		dst = append(dst, '{')
		members := v.Members()
		r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		for i, m := range members {
			if i > 0 {
				dst = append(dst, ',')
			}
			space()
			dst = appendTextLoosely(r, dst, m.Name)
			space()
			dst = append(dst, ':')
			dst = appendLoosely(r, dst, m.Value)
		}
		space()
		dst = append(dst, '}')
	default:
		dst = v.AppendCanonical(dst)
	}
	space()
	return dst
}

func appendTextLoosely(r *rand.Rand, dst []byte, s string) []byte {
	dst = append(dst, '"')
	for _, c := range s {
		switch form := r.IntN(3); {
		case form == 0 && c >= 0x20 && c != '"' && c != '\\':
			dst = append(dst, string(c)...)
		case form == 1 && c <= 0xffff:
			dst = append(dst, fmt.Sprintf(`\u%04X`, c)...)
		default:
			dst = appendEscaped(dst, c)
		}
	}
	return append(dst, '"')
}

func TestCanonicalIsUnique(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v, err := FromGo(drawGo(t, 4))
		if err != nil {
			t.Fatal(err)
		}
		canonical := v.AppendCanonical(nil)
		for _, c := range canonical {
			if c < 0x20 || c > 0x7e {
				t.Fatalf("byte %#x in %s", c, canonical)
			}
		}
		again, err := Parse(canonical, Limits{})
		if err != nil || again != v {
			t.Fatalf("canonical form is not its own: %s, %v", canonical, err)
		}
		loose := appendLoosely(drawRand(t), nil, v)
		if other, err := Parse(loose, Limits{}); err != nil || other != v {
			t.Fatalf("%s\nbecame %s, %v\nwant   %s", loose, other.AppendCanonical(nil), err, canonical)
		}
	})
}

func TestFloatTextReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.OneOf(rapid.Float64(), rapid.Float64Range(-1, 1), rapid.Map(rapid.Uint64(), math.Float64frombits)).
			Filter(func(f float64) bool { return !math.IsInf(f, 0) && !math.IsNaN(f) }).Draw(t, "f")
		v, err := Parse(AppendFloat(nil, f), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := v.Float64(); !ok || math.Float64bits(got) != math.Float64bits(f) {
			t.Fatalf("%v reads back as %v from %s", f, got, v.NumberText())
		}
		exponent := strings.Contains(v.NumberText(), "e")
		if small := f != 0 && math.Abs(f) < 1e-4; exponent != (small || math.Abs(f) >= 1e16) || !exponent && !strings.Contains(v.NumberText(), ".") {
			t.Fatalf("%v is written %s", f, v.NumberText())
		}
	})
}

func drawDraft(t *rapid.T) Draft {
	data := map[string]any{}
	for range rapid.IntRange(0, 4).Draw(t, "members") {
		data[drawText(t, "name")] = drawGo(t, 3)
	}
	v, err := FromGo(data)
	if err != nil {
		t.Fatal(err)
	}
	hex64 := rapid.StringOfN(rapid.RuneFrom([]rune("0123456789abcdef")), 64, 64, 64)
	nonce := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "nonce"))
	nonce[0] |= 1 // a zero nonce asks for a random one, and so does a zero time
	return Draft{
		EnvelopeID: uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")).String(),
		Timestamp:  time.UnixMicro(rapid.Int64Range(-62135596800_000000+1, 253402300799_999999).Draw(t, "micros")),
		Nonce:      nonce,
		AgentType:  rapid.SampledFrom([]string{AgentPAT, AgentSAT}).Draw(t, "agent type"),
		AgentID:    rapid.StringMatching(`[a-z0-9 é/"\\]{0,40}`).Draw(t, "agent"),
		Action:     drawText(t, "action"),
		Data:       v,
		PolicyHash: rapid.OneOf(rapid.Just(""), hex64).Draw(t, "policy"),
		StateHash:  rapid.OneOf(rapid.Just(""), hex64).Draw(t, "state"),
		IhsanScore: rapid.Float64Range(0, 1).Draw(t, "ihsan"),
		SNRScore:   rapid.Float64Range(0, 1).Draw(t, "snr"),
		Urgency:    rapid.SampledFrom([]string{"", UrgencyRealTime, UrgencyBatch}).Draw(t, "urgency"),
	}
}

func TestSignedDecodes(t *testing.T) {
	key := NewKeyFromSeed([32]byte{1})
	rapid.Check(t, func(t *rapid.T) {
		d := drawDraft(t)
		e, err := Sign(d, key)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := Parse(e.Canonical(), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(appendLoosely(drawRand(t), nil, whole))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Canonical(), e.Canonical()) || got.Digest() != e.Digest() {
			t.Fatalf("%s\nbecame %s", e.Canonical(), got.Canonical())
		}
		if err := got.Verify(); err != nil {
			t.Fatal(err)
		}
		if got.Payload != (Payload{d.Action, d.Data, d.PolicyHash, d.StateHash}) || got.TimestampMicros() != d.Timestamp.UnixMicro() ||
			got.Metadata.IhsanScore != d.IhsanScore || got.Metadata.SNRScore != d.SNRScore || got.Sender.AgentID != d.AgentID || got.Sender.PublicKey != key.Public() {
			t.Fatalf("%+v is not the draft %+v", got, d)
		}
	})
}

// Every byte of the canonical form counts: another one there is refused, or gives
// another canonical form, whose signature then no longer fits.
func TestSingleByteChange(t *testing.T) {
	key := NewKeyFromSeed([32]byte{1})
	rapid.Check(t, func(t *rapid.T) {
		e, err := Sign(drawDraft(t), key)
		if err != nil {
			t.Fatal(err)
		}
		wire := bytes.Clone(e.Canonical())
		at := rapid.IntRange(0, len(wire)-1).Draw(t, "at")
		wire[at] ^= rapid.ByteRange(1, 255).Draw(t, "mask")
		changed, err := Decode(wire)
		if err != nil {
			if c := CodeOf(err); c != RejectSchema && c != RejectSignature {
				t.Fatalf("refused as %v", err)
			}
			return
		}
		switch {
		case bytes.Equal(changed.Canonical(), e.Canonical()):
			return
		case changed.Digest() == e.Digest() && *changed.Signature == *e.Signature:
			t.Fatalf("byte %d changed nothing that counts: %s", at, wire)
		case changed.Verify() == nil:
			t.Fatalf("byte %d changed and the signature still fits: %s", at, wire)
		}
	})
}
