package pci_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/bizra/bizra/pci"
)

func readDocument(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/envelope.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// block returns the fenced block of docs/envelope.md with this info string.
func block(t *testing.T, document, info string) string {
	t.Helper()
	_, rest, ok := strings.Cut(document, "```"+info+"\n")
	text, _, closed := strings.Cut(rest, "\n```\n")
	if !ok || !closed {
		t.Fatalf("docs/envelope.md has no block %q", info)
	}
	return text
}

func TestDocumentExample(t *testing.T) {
	document := readDocument(t)
	draft, key := exampleDraft()
	signed, err := pci.Sign(draft, key)
	if err != nil {
		t.Fatal(err)
	}
	public, digest, signature := key.Public(), signed.Digest(), signed.Signature.Value
	for info, want := range map[string]string{
		"text public-key": hex.EncodeToString(public[:]),
		"text digest":     hex.EncodeToString(digest[:]),
		"text signature":  hex.EncodeToString(signature[:]),
		"json signed":     string(signed.Canonical()),
	} {
		if got := block(t, document, info); got != want {
			t.Errorf("%s:\n%s, want\n%s", info, got, want)
		}
	}
	inspected, err := pci.Inspect([]byte(block(t, document, "json wire")))
	if err != nil {
		t.Fatal(err)
	}
	if inspected.Digest() != digest {
		t.Error("what the agent wants to send has another digest")
	}
	unsigned := []byte(block(t, document, "json unsigned"))
	if got := bytes.Replace(inspected.Canonical(), []byte(`"signature":null,`), nil, 1); !bytes.Equal(got, unsigned) {
		t.Errorf("canonical form without signature:\n%s, want\n%s", unsigned, got)
	}
	if err := signed.Verify(); err != nil {
		t.Error(err)
	}
}

func TestDocumentCodes(t *testing.T) {
	document := readDocument(t)
	for _, c := range pci.Codes() {
		row := fmt.Sprintf("\n| %d | `%v` | %d |", int(c), c, c.HTTPStatus())
		if strings.Count(document, row) != 1 {
			t.Errorf("docs/envelope.md does not have the row %s", row[1:])
		}
	}
	if rows := strings.Count(document, "| `REJECT_") + strings.Count(document, "| `SUCCESS`"); rows != len(pci.Codes()) {
		t.Errorf("docs/envelope.md has %d codes, want %d", rows, len(pci.Codes()))
	}
	for _, limit := range []string{
		fmt.Sprintf("%d KiB", pci.EnvelopeBytesMax>>10), fmt.Sprintf("at most %d deep", pci.DepthMax),
		fmt.Sprintf("at most %d bytes of UTF-8", pci.AgentIDBytesMax), fmt.Sprintf("at most %d bytes;", pci.PolicyHashBytesMax),
	} {
		if !strings.Contains(document, limit) {
			t.Errorf("docs/envelope.md does not say %q", limit)
		}
	}
}
