package certificate_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/internal/testregion"
)

// vkey is a verifier key in the text form of c2sp.org/signed-note, written by its specification.
func vkey(name string, kind byte, key federation.Key) string {
	tagged := append([]byte{kind}, key[:]...)
	hash := sha256.Sum256(append([]byte(name+"\n"), tagged...))
	return fmt.Sprintf("%s+%x+%s", name, hash[:4], base64.StdEncoding.EncodeToString(tagged))
}

// TestGoNoteOpensCertificate: Go's own note package opens a certificate, with verifiers
// made of the document's keys by the standards alone.
func TestGoNoteOpensCertificate(t *testing.T) {
	fed := testfed.New(7, 1)
	c := statement(fed, "c", 7)
	cert := testregion.Certify(t, fed, c)
	var verifiers []note.Verifier
	for i := range fed.Document.Regions {
		r := &fed.Document.Regions[i]
		if r.Name == "c" {
			verifiers = append(verifiers, must[note.Verifier](t)(note.NewVerifier(vkey("test/c", 1, r.LogKey))))
		} else {
			verifiers = append(verifiers, must[*torchwood.CosignatureVerifier](t)(torchwood.NewCosignatureVerifier(vkey("test/"+r.Name, 4, r.CosignKey))))
		}
	}
	n, err := note.Open(cert, note.VerifierList(verifiers...))
	if err != nil || len(n.Sigs) != 5 || len(n.UnverifiedSigs) != 0 || n.Text != string(c.Body()) {
		t.Fatalf("note %+v: %v", n, err)
	}
	// The tree of the checkpoint is one that Go's tlog reads, as far as its first lines go.
	tree, err := tlog.ParseTree([]byte("go.sum database tree\n" + strings.Join(strings.SplitAfter(n.Text, "\n")[1:3], "")))
	if err != nil || tree.N != c.Size || tree.Hash != tlog.Hash(c.Root) {
		t.Errorf("tree %+v: %v", tree, err)
	}
}

// TestTorchwoodPolicyAcceptsCertificate: a policy file that an outsider writes from the
// document, in the form that witnesses and monitors use, accepts it, and not less than it.
func TestTorchwoodPolicyAcceptsCertificate(t *testing.T) {
	fed := testfed.New(4, 1)
	c := statement(fed, "a", 7)
	var text, names strings.Builder
	for i := range fed.Document.Regions {
		r := &fed.Document.Regions[i]
		if r.Name == "a" {
			fmt.Fprintf(&text, "log %s\n", vkey("test/a", 1, r.LogKey))
			continue
		}
		fmt.Fprintf(&text, "witness %s %s\n", r.Name, vkey("test/"+r.Name, 4, r.CosignKey))
		fmt.Fprintf(&names, " %s", r.Name)
	}
	fmt.Fprintf(&text, "group others %d%s\nquorum others\n", federation.Quorum(4)-1, names.String())
	policy := must[torchwood.Policy](t)(torchwood.ParsePolicy([]byte(text.String())))
	got, n, err := torchwood.VerifyCheckpoint(testregion.Certify(t, fed, c), policy)
	if err != nil || got.Origin != "test/a" || got.N != 7 || len(n.Sigs) != 3 {
		t.Fatalf("checkpoint %+v: %v", got, err)
	}
	if _, _, err := torchwood.VerifyCheckpoint(append(sign(t, fed, c), cosign(t, fed, c, "b")...), policy); err == nil {
		t.Error("it accepts one cosignature where two are needed")
	}
	// Our own policy is one of theirs.
	own := must[torchwood.Policy](t)(certificate.Policy(fed.Document, "a"))
	if _, _, err := torchwood.VerifyCheckpoint(testregion.Certify(t, fed, c), own); err != nil {
		t.Error(err)
	}
}
