package federation_test

import (
	"bytes"
	"testing"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
)

// TestTheFormOfAParsedDocumentIsItsOwn holds what a parsed document remembers of its form against
// what is worked out, and against copies of it that are changed.
func TestTheFormOfAParsedDocumentIsItsOwn(t *testing.T) {
	made := testfed.New(4, 3).Document
	text := made.Canonical()
	d, err := federation.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(d.Canonical(), text) || d.Digest() != made.Digest() || d.Digest() != federation.DigestOf(text) {
		t.Fatal("a parsed document has another form or digest than the text it was parsed from")
	}
	if !d.Is(text) || d.Is(append(bytes.Clone(text), ' ')) || made.Is(text) {
		t.Fatal("Is holds for the canonical form of a parsed document, and for nothing else")
	}
	changed := *d
	changed.Version++
	if changed.Digest() == d.Digest() || bytes.Equal(changed.Canonical(), text) || changed.Is(text) {
		t.Fatal("a changed copy of a document goes by the form of the original")
	}
}
