package api_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/bizra/bizra/api"
	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/pci"
)

// The client knows the limit without the package that sets it.
func TestDocumentLimit(t *testing.T) {
	if client.DocumentBytesMax != federation.DocumentBytesMax {
		t.Errorf("the client takes documents of %d bytes, the federation of %d", client.DocumentBytesMax, federation.DocumentBytesMax)
	}
}

func TestAdopt(t *testing.T) {
	var envelope, document string
	outcome := receipt(pci.Success, knownDigest)
	s, _ := newServer(t, &fake{adopt: func(e, d []byte) (api.Outcome, error) {
		envelope, document = string(e), string(d)
		return outcome, nil
	}}, api.Config{})
	// Both arrive in canonical form, whatever the body's spacing.
	w := call(s, "POST", "/v1/federation/adoptions", `{ "proof": {"b": 1.50, "a": [ ]}, "document": {"z":"\u00e9","y":{ }} }`)
	if w.Code != 200 || envelope != `{"a":[],"b":1.50}` || document != `{"y":{},"z":"\u00e9"}` {
		t.Fatalf("%d %s: %s and %s", w.Code, w.Body, envelope, document)
	}
	if w := call(s, "POST", "/v1/federation/adoptions", `{"proof":{},"document":{}}`, "Content-Type", client.MediaNDJSON); w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("lines: %d", w.Code)
	}
	large := strings.Repeat("x", client.DocumentBytesMax-len(`{"d":""}`))
	for name, c := range map[string]struct {
		body string
		want int
	}{
		"the largest document":   {`{"proof":{},"document":{"d":"` + large + `"}}`, 200},
		"one byte more":          {`{"proof":{},"document":{"d":"` + large + `x"}}`, 400},
		"far more":               {`{"proof":{},"document":{"d":"` + large + large + `"}}`, 413},
		"nothing":                {``, 400},
		"no JSON":                {`{"proof":`, 400},
		"an array":               {`[]`, 400},
		"without the document":   {`{"proof":{}}`, 400},
		"without the proof":      {`{"document":{}}`, 400},
		"a document that is one": {`{"proof":{},"document":1}`, 400},
		"another member":         {`{"proof":{},"document":{},"force":true}`, 400},
		"a member twice":         {`{"proof":{},"document":{},"document":{}}`, 400},
	} {
		if w := call(s, "POST", "/v1/federation/adoptions", c.body); w.Code != c.want {
			t.Errorf("%s: %d %.200s, want %d", name, w.Code, w.Body, c.want)
		}
	}
	for want, o := range map[int]api.Outcome{
		403: receipt(pci.RejectRoleViolation, knownDigest), 400: {Err: pci.Rejectf(pci.RejectSchema, "x")}, 500: {}} {
		outcome = o
		if w := call(s, "POST", "/v1/federation/adoptions", `{"proof":{},"document":{}}`); w.Code != want {
			t.Errorf("%+v: %d, want %d", o, w.Code, want)
		}
	}
}

// FuzzAdopt: whatever the body, the backend gets two canonical objects, or nothing.
func FuzzAdopt(f *testing.F) {
	for _, seed := range []string{``, `{}`, `{"proof":{},"document":{}}`, `{"document":{"a":[1,2.0,"\ud800"]},"proof":{}}`, `{"proof":{"proof":{}},"document":{"document":null}} `} {
		f.Add([]byte(seed))
	}
	var got [][]byte
	s, _ := newServer(f, &fake{adopt: func(e, d []byte) (api.Outcome, error) {
		got = [][]byte{e, d}
		return receipt(pci.Success, knownDigest), nil
	}}, api.Config{})
	f.Fuzz(func(t *testing.T, body []byte) {
		got = nil
		w := call(s, "POST", "/v1/federation/adoptions", string(body))
		if (w.Code == 200) != (got != nil) || got == nil && w.Code != 400 && w.Code != 413 {
			t.Fatalf("%d, and the backend got %q", w.Code, got)
		}
		for _, b := range got {
			v, err := pci.Parse(b, pci.Limits{BytesMax: client.AdoptionBytesMax})
			if err != nil || v.Kind() != pci.ObjectKind || !bytes.Equal(v.AppendCanonical(nil), b) || !json.Valid(b) {
				t.Fatalf("the backend got %q: %v", b, err)
			}
		}
	})
}
