package certificate_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/internal/testregion"
)

var update = flag.Bool("update", false, "rewrite the worked example of certificates in docs/protocol.md")

// wrapped is binary in hexadecimal digits, 64 bytes a line.
func wrapped(b []byte) string {
	var out strings.Builder
	for len(b) > 64 {
		fmt.Fprintf(&out, "%x\n", b[:64])
		b = b[64:]
	}
	return fmt.Sprintf("%s%x\n", out.String(), b)
}

// TestWorkedExample recomputes every line of the second worked example in docs/protocol.md.
// It pins the formats: a change that moves a byte fails here.
func TestWorkedExample(t *testing.T) {
	r := testregion.New(t, testfed.New(4, 1), "a")
	_, last := r.Session("alice", "s1")
	seal := r.Seal()
	c := seal.Checkpoint()
	bundle := r.Bundle(seal, last.Index, "")
	contradicting := *c
	contradicting.State = [32]byte{}
	evidence := checkpoint.Contradiction(sign(t, r.Fed, c), sign(t, r.Fed, &contradicting))
	refused := certificate.Refusal{Region: "b", Origin: c.Origin, Document: c.Document, Size: c.Size, BodyDigest: certificate.BodyDigest(c.Body()),
		Code: certificate.RefusedDiverged, Detail: "entry 3 gives another outcome"}
	logSeed, cosignSeed := r.Fed.LogKeys["a"].Seed(), r.Fed.Cosign["b"].Seed()
	path := make([]string, 0, len(bundle.Entry.Path))
	for _, h := range bundle.Entry.Path {
		path = append(path, hex.EncodeToString(h[:])+"\n")
	}
	leaf := ledger.LeafHash(bundle.Entry.Data)
	blocks := []struct{ name, text string }{
		{"The seeds of a's log key and of b's cosign key", fmt.Sprintf("%x\n%x\n", logSeed, cosignSeed)},
		{"The two keys as verifier keys of c2sp.org/signed-note", vkey("test/a", 1, r.Document().Regions[0].LogKey) + "\n" + vkey("test/b", 4, r.Document().Regions[1].CosignKey) + "\n"},
		{"The checkpoint note of a", string(sign(t, r.Fed, c))},
		{"What b signs with its cosign key", fmt.Sprintf("cosignature/v1\ntime %d\n%s", testregion.CosignSeconds, c.Body())},
		{"The certificate", string(bundle.Certificate)},
		{"The leaf hash of entry 3 and its audit path", fmt.Sprintf("%x\n", leaf[:]) + strings.Join(path, "")},
		{"The bundle of entry 3", string(must[[]byte](t)(bundle.Marshal()))},
		{"Evidence that a signed two states", wrapped(must[[]byte](t)(evidence.Marshal()))},
		{"A refusal by b", wrapped(must[[]byte](t)(refused.Sign(r.Fed.Cosign["b"])))},
	}
	const file = "../../docs/protocol.md"
	doc := must[[]byte](t)(os.ReadFile(file))
	for _, b := range blocks {
		head := []byte("\n" + b.name + ":\n\n```\n")
		at := bytes.Index(doc, head)
		if at < 0 {
			t.Errorf("the document has no example named %q", b.name)
			continue
		}
		at += len(head)
		end := at + bytes.Index(doc[at:], []byte("```"))
		if string(doc[at:end]) == b.text {
			continue
		}
		if !*update {
			t.Errorf("%s: the document has\n%s\nand it is\n%s\n(go test -run TestWorkedExample -update rewrites it)", b.name, doc[at:end], b.text)
		}
		doc = append(append(bytes.Clone(doc[:at]), b.text...), doc[end:]...)
	}
	if *update {
		if err := os.WriteFile(file, doc, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
