package pci

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/bizra/bizra/internal/vectors"
)

func TestVectorsCanonical(t *testing.T) {
	var file struct {
		Cases []struct{ JSON, Canonical, Digest string }
	}
	vectors.Load(t, "canonical.json", &file)
	if len(file.Cases) == 0 {
		t.Fatal("the file has no cases")
	}
	for i, c := range file.Cases {
		v, err := Parse([]byte(c.JSON), Limits{})
		if err != nil {
			t.Errorf("case %d: %v", i, err)
			continue
		}
		canonical := v.AppendCanonical(nil)
		if string(canonical) != c.Canonical {
			t.Errorf("case %d: canonical form\n%s, want\n%s", i, canonical, c.Canonical)
		}
		if d := digestOf(canonical, nil); hex.EncodeToString(d[:]) != c.Digest {
			t.Errorf("case %d: digest %x, want %s", i, d, c.Digest)
		}
	}
}

// referenceVerifier is the one verifier of the envelope vectors: every gate from
// SCHEMA to POLICY, with a clock that stands still and a memory of nonces.
type referenceVerifier struct {
	nowMillis  int64
	thresholds Thresholds
	nonces     map[[32]byte]bool
}

func (v *referenceVerifier) receive(wire []byte) error {
	e, err := Decode(wire)
	if err != nil {
		return err
	}
	if err := e.Verify(); err != nil {
		return err
	}
	if err := e.CheckTime(v.nowMillis, v.thresholds); err != nil {
		return err
	}
	if v.nonces[e.Nonce] {
		return Rejectf(RejectNonceReplay, "seen before")
	}
	v.nonces[e.Nonce] = true
	if err := e.CheckScores(v.thresholds); err != nil {
		return err
	}
	return e.CheckPolicy(v.thresholds)
}

func TestVectorsEnvelopes(t *testing.T) {
	const policyHash = "d9c9b5f7a3e2c8d4f1a6e9b2c5d8a3f7e0c2b5d8a1e4f7c0b3d6a9e2c5f8b1d926f"
	var file struct {
		Cases []struct {
			Kind, Wire, Digest string
			Now                time.Time
			RejectCode         Code   `json:"reject_code"`
			RejectName         string `json:"reject_name"`
		}
	}
	vectors.Load(t, "envelopes.json", &file)
	if len(file.Cases) == 0 {
		t.Fatal("the file has no cases")
	}
	v := &referenceVerifier{
		nowMillis:  file.Cases[0].Now.UnixMilli(),
		thresholds: DefaultThresholds(policyHash),
		nonces:     make(map[[32]byte]bool),
	}
	for i, c := range file.Cases {
		if c.Now.UnixMilli() != v.nowMillis {
			t.Fatalf("case %d: the clock of the vectors moved to %v", i, c.Now)
		}
		want := c.RejectCode
		if c.Kind == "nopolicy" {
			want = RejectPolicyMismatch // the reference lets an empty policy_hash pass
		} else if want.String() != c.RejectName {
			t.Errorf("case %d: code %d is named %s, want %s", i, want, want, c.RejectName)
		}
		err := v.receive([]byte(c.Wire))
		if got := CodeOf(err); got != want {
			t.Errorf("case %d (%s): %v, want %v; error: %v", i, c.Kind, got, want, err)
		}
		e, err := Inspect([]byte(c.Wire))
		if err != nil {
			t.Errorf("case %d (%s): inspecting: %v", i, c.Kind, err)
			continue
		}
		if d := e.Digest(); hex.EncodeToString(d[:]) != c.Digest {
			t.Errorf("case %d (%s): digest %x, want %s", i, c.Kind, d, c.Digest)
		}
	}
}
