package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/bizra/bizra/api"
	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/pci"
)

const question = `{"agent_id":"alice","action":"session.transition","data":{"session":"s","to":"computing"},"ihsan_score":0.99,"snr_score":0.95}`

// TestJudgement: a question reaches the backend as it was asked, and what is no question is refused before.
func TestJudgement(t *testing.T) {
	s, _ := newServer(t, &fake{}, api.Config{})
	for _, c := range []struct {
		name, body, media string
		status            int
		says              string
	}{
		{"passes", question, client.MediaJSON, 200, `"passed":true`},
		{"denied", strings.Replace(question, `"s"`, `"bad"`, 1), "", 200, `"rule":"no-bad"`},
		{"several", question, client.MediaNDJSON, 415, "One question is one JSON object"},
		{"no JSON", "x", client.MediaJSON, 400, "REJECT_SCHEMA"},
		{"a member twice", strings.Replace(question, `{`, `{"agent_id":"bob",`, 1), client.MediaJSON, 400, "REJECT_SCHEMA"},
		{"an unknown member", strings.Replace(question, `{`, `{"colour":"red",`, 1), client.MediaJSON, 400, "colour"},
		{"no data", strings.Replace(question, `{"session":"s","to":"computing"}`, `"x"`, 1), client.MediaJSON, 400, "data must be there"},
		{"a claim above 1", strings.Replace(question, `0.99`, `1.5`, 1), client.MediaJSON, 400, "from 0 to 1"},
		{"an odd type", strings.Replace(question, `{`, `{"agent_type":"XXX",`, 1), client.MediaJSON, 400, "PAT or SAT"},
		{"data at its limit", strings.Replace(question, `"s"`, `"`+strings.Repeat("x", pci.EnvelopeBytesMax-len(`{"session":"","to":"computing"}`))+`"`, 1), client.MediaJSON, 200, `"passed":true`},
		{"data beyond it", strings.Replace(question, `"s"`, `"`+strings.Repeat("x", pci.EnvelopeBytesMax-len(`{"session":"","to":"computing"}`)+1)+`"`, 1), client.MediaJSON, 400, "in canonical form"},
		{"a body beyond the limit", question + strings.Repeat(" ", client.JudgementBytesMax), client.MediaJSON, 413, "more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var header []string
			if c.media != "" {
				header = []string{"Content-Type", c.media}
			}
			if w := call(s, "POST", "/v1/judgements", c.body, header...); w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%d: %s", w.Code, w.Body)
			}
		})
	}
	if w := call(s, "GET", "/v1/judgements", ""); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", w.Code)
	}
}

// The client's question and answer are those of the interface.
func TestClientJudges(t *testing.T) {
	s, _ := newServer(t, &fake{}, api.Config{})
	node := httptest.NewServer(s.Handler())
	defer node.Close()
	c, err := client.New(client.Config{URLs: []string{node.URL}})
	if err != nil {
		t.Fatal(err)
	}
	q := client.Question{AgentID: "alice", Action: "session.transition", Data: json.RawMessage(`{"session":"bad"}`), IhsanScore: 1, SNRScore: 1}
	if j, err := c.Judge(context.Background(), q); err != nil || j.Passed || j.Rule != "no-bad" {
		t.Errorf("%+v, %v", j, err)
	}
	q.Data = json.RawMessage(`{"session":"s"}`)
	if j, err := c.Judge(context.Background(), q); err != nil || !j.Passed {
		t.Errorf("%+v, %v", j, err)
	}
	q.SNRScore = 2
	if _, err := c.Judge(context.Background(), q); pci.CodeOf(err) != pci.RejectSchema {
		t.Errorf("a claim above 1: %v", err)
	}
}

// FuzzQuestion: whatever is asked, there is an answer or a problem.
func FuzzQuestion(f *testing.F) {
	for _, seed := range []string{question, "", "{}", strings.Replace(question, "0.99", "1e999", 1), strings.Replace(question, `"s"`, `"\ud800"`, 1)} {
		f.Add([]byte(seed))
	}
	s, _ := newServer(f, &fake{}, api.Config{})
	f.Fuzz(func(t *testing.T, body []byte) {
		w := call(s, "POST", "/v1/judgements", string(body))
		if w.Code != 200 && w.Code != 400 && w.Code != 413 || !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%d: %s", w.Code, w.Body)
		}
	})
}
