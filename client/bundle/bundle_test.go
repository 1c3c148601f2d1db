package bundle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/client/bundle"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/internal/testnode"
	"github.com/bizra/bizra/pci"
)

// Who takes a bundle away needs no node to check it: the federation document is enough.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	node, err := testnode.Start(ctx) // in earnest: a node of your region
	if err != nil {
		panic(err)
	}
	c, err := client.New(client.Config{URLs: []string{node.URL}})
	if err != nil {
		panic(err)
	}
	key, err := pci.GenerateKey()
	if err != nil {
		panic(err)
	}
	payload, err := client.ParsePayload([]byte(`{"action": "session.open", "data": {"session": "build-17"}}`))
	if err != nil {
		panic(err)
	}
	proof, err := c.Complete(ctx, payload, client.Signer{Key: key, AgentID: "builder"})
	if err != nil {
		panic(err)
	}
	receipt, err := c.SubmitAwait(ctx, proof.Canonical(), client.FinalityAttested)
	if err != nil {
		panic(err)
	}
	text, err := c.Bundle(ctx, receipt.Digest, true)
	if err != nil {
		panic(err)
	}
	if err := node.Stop(); err != nil { // nobody is asked from here on
		panic(err)
	}
	trust, err := bundle.NewTrust(node.Fed.Document.Canonical(), "")
	if err != nil {
		panic(err)
	}
	verdict, err := trust.Verify(text)
	if err != nil {
		panic(err)
	}
	fmt.Println("valid:", verdict.Valid())
	fmt.Println(verdict.Entry.Envelope.Payload.Action, "by", verdict.Entry.Envelope.Sender.AgentID)
	_, err = trust.Verify(bytes.Replace(text, []byte("build-17"), []byte("build-18"), 1))
	fmt.Println("changed:", errors.Is(err, bundle.ErrNotValid))
	// Output:
	// valid: true
	// session.open by builder
	// changed: true
}

func TestTrust(t *testing.T) {
	doc := testfed.New(1, 1).Document
	t1, err := bundle.NewTrust(doc.Canonical(), "")
	if err != nil {
		t.Fatal(err)
	}
	if t2, err := bundle.NewTrust(doc.Canonical(), t1.Digest()); err != nil || t2.Digest() != t1.Digest() {
		t.Errorf("with its own digest: %v", err)
	}
	for _, c := range []struct{ text, digest string }{{string(doc.Canonical()), "ab"}, {string(doc.Canonical()), t1.Digest()[1:] + "0"}, {"", ""}, {"{}", ""}} {
		if _, err := bundle.NewTrust([]byte(c.text), c.digest); !errors.Is(err, bundle.ErrDocument) {
			t.Errorf("digest %q: %v", c.digest, err)
		}
	}
	for _, text := range []string{"", "{}", "null", "\xff"} {
		if v, err := t1.Verify([]byte(text)); !errors.Is(err, bundle.ErrNotValid) || v == nil || v.Valid() {
			t.Errorf("bundle %q: %v", text, err)
		}
	}
}
