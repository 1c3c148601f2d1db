package client_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/bizra/bizra/client"
)

// FuzzAnswer: whatever a node answers, a submission has a receipt, or an error that says that it is not decided, and
// reads end.
func FuzzAnswer(f *testing.F) {
	receipt := `{"digest":"` + strings.Repeat("0", 64) + `","code":"SUCCESS","finality":"committed","index":4}`
	f.Add(200, receipt)
	f.Add(409, `{"type":"x","title":"t","status":409,"detail":"d"}`)
	f.Add(200, receipt+"\n"+`{"status":503,"title":"later"}`+"\n")
	f.Add(200, `[[[[`)
	f.Add(503, `null`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 200 || status > 599 {
			return
		}
		for _, media := range []string{client.MediaJSON, client.MediaNDJSON, client.MediaProblem} {
			s := &script{reply: func(int, *http.Request, string) (*http.Response, error) { return answer(status, media, body), nil }}
			c := newClient(t, s, client.Config{RetriesMax: -1})
			if r, err := c.Submit(t.Context(), []byte("{}")); (r == nil) == (err == nil) {
				t.Fatalf("receipt %v, %v", r, err)
			}
			if outcomes, err := c.SubmitAll(t.Context(), [][]byte{[]byte("{}"), []byte("{}")}); err == nil {
				for _, o := range outcomes {
					if (o.Receipt == nil) == (o.Problem == nil) {
						t.Fatalf("an outcome that is not one thing: %+v", o)
					}
					_ = o.Err()
				}
			}
			_, _ = c.Status(t.Context())
			_, _ = c.Policy(t.Context())
		}
		var o client.Outcome
		if json.Unmarshal([]byte(body), &o) == nil && o.Receipt == nil && o.Problem == nil {
			t.Fatalf("an outcome of nothing: %q", body)
		}
	})
}
