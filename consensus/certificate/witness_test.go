package certificate_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"

	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/internal/testregion"
)

// outside is a witness that is not ours: torchwood's signer, which reads the clock.
func outside(t testing.TB, name string) *torchwood.CosignatureSigner {
	t.Helper()
	seed := testfed.Key(name).Seed()
	return must[*torchwood.CosignatureSigner](t)(torchwood.NewCosignatureSigner(name, ed25519.NewKeyFromSeed(seed[:])))
}

// witnessed is the line of an outside witness.
func witnessed(t testing.TB, body []byte, s note.Signer) []byte {
	t.Helper()
	return must[[]byte](t)(note.Sign(&note.Note{Text: string(body)}, s))[len(body)+1:]
}

func TestWitnesses(t *testing.T) {
	fed := testfed.New(4, 1)
	c := statement(fed, "a", 7)
	cert := testregion.Certify(t, fed, c)
	one, two := outside(t, "witness.example/one"), outside(t, "witness.example/two")
	lines := [][]byte{witnessed(t, c.Body(), one), witnessed(t, c.Body(), two)}
	for i, w := range []*torchwood.CosignatureSigner{one, two} {
		if err := certificate.CheckWitness(cert, lines[i], w.Verifier(), fed.Document); err != nil {
			t.Fatal(err)
		}
	}
	served := certificate.WithWitnesses(cert, lines...)
	if _, _, err := certificate.Verify(served, fed.Document); !errors.Is(err, certificate.ErrCertificate) {
		t.Errorf("with outsiders' lines it passes for a certificate: %v", err)
	}
	got, at, cosigners, err := certificate.WithoutWitnesses(served, fed.Document)
	if err != nil || !bytes.Equal(got, cert) || *at != *c || len(cosigners) != 2 {
		t.Fatalf("without them it is %q of %v: %v", got, cosigners, err)
	}
	// Who asks for the witnesses finds them there, and needs nothing else of ours.
	policy := torchwood.ThresholdPolicy(3, torchwood.OriginPolicy("test/a"), torchwood.SingleVerifierPolicy(one.Verifier()), torchwood.SingleVerifierPolicy(two.Verifier()))
	if _, _, err := torchwood.VerifyCheckpoint(served, policy); err != nil {
		t.Error(err)
	}
	if again := certificate.WithWitnesses(cert); !bytes.Equal(again, cert) {
		t.Errorf("with no witness it is %q", again)
	}
}

func TestWitnessRefused(t *testing.T) {
	fed := testfed.New(4, 1)
	c := statement(fed, "a", 7)
	cert := testregion.Certify(t, fed, c)
	w, other := outside(t, "witness.example/one"), outside(t, "witness.example/two")
	line := witnessed(t, c.Body(), w)
	region := must[*torchwood.CosignatureSigner](t)(torchwood.NewCosignatureSigner("test/d", ed25519.NewKeyFromSeed(make([]byte, 32))))
	for name, tt := range map[string]struct {
		line    []byte
		witness note.Verifier
		want    error
	}{
		"another's line":         {line, other.Verifier(), certificate.ErrWitness},
		"of another body":        {witnessed(t, statement(fed, "a", 8).Body(), w), w.Verifier(), certificate.ErrWitness},
		"two lines":              {append(bytes.Clone(line), line...), w.Verifier(), certificate.ErrWitness},
		"no line":                {nil, w.Verifier(), certificate.ErrWitness},
		"under a region's name":  {witnessed(t, c.Body(), region), region.Verifier(), certificate.ErrWitness},
		"too long":               {append(bytes.Repeat([]byte("x"), certificate.LineBytesMax), '\n'), w.Verifier(), certificate.ErrWitness},
		"with bits past its end": {append(append(bytes.Clone(line[:len(line)-4]), line[len(line)-4]+1), "==\n"...), w.Verifier(), certificate.ErrWitness},
	} {
		if err := certificate.CheckWitness(cert, tt.line, tt.witness, fed.Document); !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if err := certificate.CheckWitness(cert, line, w.Verifier(), raised(fed.Document)); !errors.Is(err, certificate.ErrOtherDocument) {
		t.Errorf("under the next document: %v", err)
	}
}

// TestWitnessesHaveNoRoom: a note has at most 100 lines, so the largest federation serves certificates alone.
func TestWitnessesHaveNoRoom(t *testing.T) {
	for regions, room := range map[int]int{4: 97, 147: 1, 149: 0} {
		fed := testfed.New(regions, 1)
		c := statement(fed, fed.Document.Regions[0].Name, 7)
		cert := testregion.Certify(t, fed, c)
		var lines [][]byte
		for i := range 100 {
			lines = append(lines, witnessed(t, c.Body(), outside(t, fmt.Sprintf("witness.example/%d", i))))
		}
		served := certificate.WithWitnesses(cert, lines...)
		if got := bytes.Count(served, []byte("— witness")); got != room {
			t.Errorf("%d regions: %d witnesses, want %d", regions, got, room)
		}
		if _, _, _, err := certificate.WithoutWitnesses(served, fed.Document); err != nil {
			t.Errorf("%d regions: %v", regions, err)
		}
	}
}

func TestWithoutWitnessesRefuses(t *testing.T) {
	fed := testfed.New(4, 1)
	c := statement(fed, "a", 7)
	cert := testregion.Certify(t, fed, c)
	for name, served := range map[string][]byte{
		"too long":        append(bytes.Clone(cert), make([]byte, certificate.NoteBytesMax)...),
		"nothing":         nil,
		"a note alone":    sign(t, fed, c),
		"one more region": append(bytes.Clone(cert), cosign(t, fed, c, "d")...),
		"a bad line":      append(bytes.Clone(cert), cosign(t, fed, statement(fed, "a", 8), "d")...),
	} {
		if _, _, _, err := certificate.WithoutWitnesses(served, fed.Document); !errors.Is(err, certificate.ErrCertificate) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
