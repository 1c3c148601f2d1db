package client_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/pci"
)

// TestAnswersAboutOtherProofs: a node, or a proxy before it, that answers with the receipt of another proof is not believed.
func TestAnswersAboutOtherProofs(t *testing.T) {
	env, err := client.Complete(&client.Payload{Action: "session.open", Data: mustParse(t, `{"session":"s"}`)},
		client.Signer{Key: pci.NewKeyFromSeed([32]byte{9})}, client.Context{PolicyHash: policyHash, Region: "a", StateHash: headHash})
	if err != nil {
		t.Fatal(err)
	}
	own, other := fmt.Sprintf("%x", env.Digest()), strings.Repeat("0f", 32)
	for _, c := range []struct {
		digest string
		code   pci.Code
		fine   bool
	}{{own, pci.Success, true}, {own, pci.RejectFateViolation, true}, {"", pci.RejectSignature, true}, {other, pci.Success, false}, {other, pci.RejectFateViolation, false}, {"", pci.Success, false}} {
		s := &script{reply: func(_ int, r *http.Request, _ string) (*http.Response, error) {
			if r.Header.Get("Content-Type") == client.MediaNDJSON {
				return answer(200, client.MediaNDJSON, receiptJSON(c.digest, c.code)+"\n"), nil
			}
			return answer(200, client.MediaJSON, receiptJSON(c.digest, c.code)), nil
		}}
		cl := newClient(t, s, client.Config{RetriesMax: -1})
		_, one := cl.Submit(t.Context(), env.Canonical())
		_, all := cl.SubmitAll(t.Context(), [][]byte{env.Canonical()})
		_, adopted := cl.Adopt(t.Context(), []byte("{}"), env.Canonical())
		_, read := cl.Receipt(t.Context(), own)
		for what, err := range map[string]error{"submit": one, "submit all": all, "adopt": adopted, "read": read} {
			if c.fine != (err == nil) || !c.fine && !errors.Is(err, client.ErrOtherProof) {
				t.Errorf("%s, answered with %.8q, %v: %v", what, c.digest, c.code, err)
			}
		}
		if c.fine {
			continue
		}
		if _, err := cl.Await(t.Context(), own, client.FinalityCommitted); !errors.Is(err, client.ErrOtherProof) {
			t.Errorf("await, answered with %.8q: %v", c.digest, err)
		}
	}
}

func mustParse(t *testing.T, text string) pci.Value {
	t.Helper()
	v, err := pci.Parse([]byte(text), pci.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}
