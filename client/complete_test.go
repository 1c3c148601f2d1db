package client_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/pci"
)

var (
	policyHash = strings.Repeat("12", 32)
	headHash   = strings.Repeat("34", 32)
)

func TestComplete(t *testing.T) {
	key := pci.NewKeyFromSeed([32]byte{9})
	known := client.Context{PolicyHash: policyHash, Region: "a", StateHash: headHash}
	cases := map[string]struct {
		payload string
		data    string // canonical
		policy  string
		state   string
	}{
		"a step":           {`{"action":"session.transition","data":{"session":"s","to":"active"}}`, `{"session":"s","to":"active"}`, policyHash, headHash},
		"a step, explicit": {`{"action":"session.transition","data":{"session":"s","n":1.50},"state_hash":"","policy_hash":"x"}`, `{"n":1.50,"session":"s"}`, "x", ""},
		"an opening":       {`{"action":"session.open","data":{"session":"s"},"state_hash":""}`, `{"region":"a","session":"s"}`, policyHash, ""},
		"its own region":   {`{"action":"session.open","data":{"session":"s","region":"b"},"state_hash":""}`, `{"region":"b","session":"s"}`, policyHash, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p, err := client.ParsePayload([]byte(c.payload))
			if err != nil {
				t.Fatal(err)
			}
			env, err := client.Complete(p, client.Signer{Key: key}, known)
			if err != nil {
				t.Fatal(err)
			}
			if err := env.Verify(); err != nil {
				t.Error(err)
			}
			if got := string(env.Payload.Data.AppendCanonical(nil)); got != c.data || env.Payload.PolicyHash != c.policy || env.Payload.StateHash != c.state {
				t.Errorf("data %s, policy %s, state %s", got, env.Payload.PolicyHash, env.Payload.StateHash)
			}
			if env.Metadata.IhsanScore != 0.99 || env.Metadata.SNRScore != 0.95 || env.Sender.AgentType != "PAT" ||
				env.Sender.AgentID != fmt.Sprintf("agent-%x", key.Public())[:22] {
				t.Errorf("defaults: %+v %+v", env.Metadata, env.Sender)
			}
		})
	}
	if _, err := client.Complete(&client.Payload{}, client.Signer{}, known); err == nil {
		t.Error("signed without a key")
	}
}

func TestParsePayloadFaults(t *testing.T) {
	for text, says := range map[string]string{
		``:                        "",
		`[]`:                      "object",
		`{"action":"x"}`:          "data",
		`{"data":{}}`:             "action",
		`{"action":"x","data":1}`: "data",
		`{"action":"x","data":{},"stat_hash":""}`: "stat_hash",
		`{"action":"x","data":{},"state_hash":1}`: "state_hash",
		`{"action":"x","action":"x","data":{}}`:   "",
	} {
		if _, err := client.ParsePayload([]byte(text)); pci.CodeOf(err) != pci.RejectSchema || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzParsePayload(f *testing.F) {
	f.Add([]byte(`{"action":"session.open","data":{"session":"s"}}`))
	f.Add([]byte(`{"action":"session.merge","data":{"session":1,"heads":[]},"state_hash":"","policy_hash":"p"}`))
	key := pci.NewKeyFromSeed([32]byte{9})
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := client.ParsePayload(text)
		if err != nil {
			return
		}
		_ = p.Session()
		env, err := client.Complete(p, client.Signer{Key: key}, client.Context{PolicyHash: policyHash, Region: "a"})
		if err != nil {
			return
		}
		if env.Payload.Action != p.Action || env.Verify() != nil {
			t.Fatalf("%s became %s", text, env.Canonical())
		}
	})
}

// TestCompleteFromNode: what the payload leaves out comes from the region.
func TestCompleteFromNode(t *testing.T) {
	tips := ""
	s := &script{reply: func(_ int, r *http.Request, _ string) (*http.Response, error) {
		switch r.URL.Path {
		case "/v1/policy":
			return answer(200, client.MediaJSON, `{"policy_hash":"`+policyHash+`","region":"a","constitution":{}}`), nil
		case "/v1/sessions/s":
			return answer(200, client.MediaJSON, `{"session":"s","tips":[`+tips+`]}`), nil
		}
		return problem(404), nil
	}}
	c := newClient(t, s, client.Config{})
	tip := func(h string) string { return `{"head":"` + h + `","state":"active"}` }
	for _, x := range []struct{ payload, tips, state, says string }{
		{`{"action":"session.open","data":{"session":"new"}}`, "", "", ""},
		{`{"action":"session.transition","data":{"session":"s","to":"active"}}`, tip(headHash), headHash, ""},
		{`{"action":"session.transition","data":{"session":"s","to":"active"}}`, "", "", "is over"},
		{`{"action":"session.branch","data":{"session":"s","name":"b"}}`, tip(headHash) + "," + tip(policyHash), "", "2 tips: name in state_hash"},
		{`{"action":"session.transition","data":{"session":"s"},"state_hash":"` + policyHash + `"}`, "", policyHash, ""},
		{`{"action":"session.transition","data":{"session":"gone"}}`, "", "", "HTTP 404"},
		{`{"action":"session.transition","data":{}}`, "", "", "data.session"},
	} {
		tips = x.tips
		p, err := client.ParsePayload([]byte(x.payload))
		if err != nil {
			t.Fatal(err)
		}
		env, err := c.Complete(t.Context(), p, client.Signer{Key: pci.NewKeyFromSeed([32]byte{9})})
		switch {
		case x.says != "" && (err == nil || !strings.Contains(err.Error(), x.says)):
			t.Errorf("%s: %v, want %q", x.payload, err, x.says)
		case x.says == "" && (err != nil || env.Payload.StateHash != x.state || env.Payload.PolicyHash != policyHash):
			t.Errorf("%s: %v", x.payload, err)
		}
	}
}

func TestInclusion(t *testing.T) {
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, at := range indexes {
			out[i] = hashes[at]
		}
		return out, nil
	})
	const size = 21
	for i := range int64(size) {
		h, err := tlog.StoredHashes(i, []byte(fmt.Sprint("entry ", i)), reader)
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, h...)
	}
	root, err := tlog.TreeHash(size, reader)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(size) {
		path, err := tlog.ProveRecord(size, i, reader)
		if err != nil {
			t.Fatal(err)
		}
		leaf := ledger.LeafHash([]byte(fmt.Sprint("entry ", i)))
		p := client.Inclusion{Index: i, Size: size, Root: fmt.Sprintf("%x", root[:]), LeafHash: fmt.Sprintf("%x", leaf[:])}
		for _, h := range path {
			p.Path = append(p.Path, fmt.Sprintf("%x", h[:]))
		}
		if err := p.Verify(); err != nil {
			t.Errorf("leaf %d: %v", i, err)
		}
		for name, break1 := range map[string]func(p *client.Inclusion){
			"another leaf":  func(p *client.Inclusion) { p.LeafHash = p.Root },
			"another index": func(p *client.Inclusion) { p.Index = (p.Index + 1) % size },
			"beyond":        func(p *client.Inclusion) { p.Index = size },
			"negative":      func(p *client.Inclusion) { p.Index = -1 },
			"another root":  func(p *client.Inclusion) { p.Root = p.LeafHash },
			"path too long": func(p *client.Inclusion) { p.Path = append(p.Path, p.Root) },
			"endless path":  func(p *client.Inclusion) { p.Path = make([]string, 1000) },
			"no hash":       func(p *client.Inclusion) { p.Root = p.Root[:63] },
			"no digits":     func(p *client.Inclusion) { p.Root = strings.Repeat("g", 64) },
		} {
			q := p
			q.Path = append([]string(nil), p.Path...)
			break1(&q)
			if err := q.Verify(); err == nil {
				t.Errorf("leaf %d, %s: verified", i, name)
			}
		}
	}
}
