package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/bizra/bizra/api"
	"github.com/bizra/bizra/client"
)

func serve(s *api.Server, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

func TestReads(t *testing.T) {
	f := &fake{sessions: []client.Session{{ID: "s.1"}, {ID: ".."}}, nodes: []client.Node{{Number: 0}}}
	s, _ := newServer(t, f, api.Config{})
	cases := []struct {
		target string
		status int
	}{
		{"/v1/proofs/" + knownDigest, 200},
		{"/v1/proofs/" + knownUUID, 200},
		{"/v1/proofs/" + knownDigest + "?consistency=stale", 200},
		{"/v1/proofs/" + knownDigest + "?consistency=linearizable", 200},
		{"/v1/proofs/" + knownDigest + "?consistency=", 400},
		{"/v1/proofs/" + knownDigest + "?consistency=eventual", 400},
		{"/v1/proofs/" + knownDigest + "?consistency=stale&consistency=stale", 400},
		{"/v1/proofs/" + knownDigest + "?consistancy=stale", 400},
		{"/v1/proofs/" + knownDigest + "?a;b", 400},
		{"/v1/proofs/" + strings.Repeat("cd", 32), 404},
		{"/v1/proofs/" + strings.Repeat("AB", 32), 400},
		{"/v1/proofs/" + strings.Repeat("zz", 32), 400},
		{"/v1/proofs/" + strings.Repeat("a", 300), 400},
		{"/v1/proofs/urn:uuid:" + knownUUID, 400},
		{"/v1/proofs/x", 400},
		{"/v1/proofs/" + knownDigest + "/inclusion", 200},
		{"/v1/proofs/" + knownUUID + "/inclusion", 200},
		{"/v1/proofs/" + strings.Repeat("cd", 32) + "/inclusion", 404},
		{"/v1/proofs/" + knownDigest + "/bundle", 409},
		{"/v1/proofs/" + strings.Repeat("cd", 32) + "/bundle", 404},
		{"/v1/proofs/x/bundle", 400},
		{"/v1/sessions", 200},
		{"/v1/sessions?limit=1&after=s", 200},
		{"/v1/sessions?limit=0", 400},
		{fmt.Sprint("/v1/sessions?limit=", client.PageItemsMax), 200},
		{fmt.Sprint("/v1/sessions?limit=", client.PageItemsMax+1), 400},
		{"/v1/sessions?limit=ten", 400},
		{"/v1/sessions?from=1", 400},
		{"/v1/sessions?after=" + strings.Repeat("a", 256), 200},
		{"/v1/sessions?after=" + strings.Repeat("a", 257), 400},
		{"/v1/sessions/s.1", 200},
		{"/v1/sessions/%2E%2E", 200},
		{"/v1/sessions/s%2F1", 404},
		{"/v1/sessions/nobody", 404},
		{"/v1/sessions/" + strings.Repeat("a", 257), 400},
		{"/v1/sessions/s.1/history?from=0&limit=5", 200},
		{"/v1/sessions/s.1/history?from=-1", 400},
		{"/v1/sessions/nobody/history", 404},
		{"/v1/agents", 200},
		{"/v1/agents/alice", 200},
		{"/v1/agents/nobody", 404},
		{"/v1/agents/" + strings.Repeat("a", 257), 400},
		{"/v1/market", 200},
		{"/v1/market?consistency=stale", 200},
		{"/v1/market?resource=gpu", 400},
		{"/v1/market/holders?after=s&limit=2", 200},
		{"/v1/market/holders?from=1", 400},
		{"/v1/market/holders/acme", 200},
		{"/v1/market/holders/nobody", 404},
		{"/v1/market/licences?from=0&limit=5", 200},
		{"/v1/market/licences?from=-1", 400},
		{"/v1/market/licences/0", 200},
		{"/v1/market/licences/7", 404},
		{"/v1/market/licences/00", 400},
		{"/v1/market/licences/-1", 400},
		{"/v1/market/licences/x", 400},
		{"/v1/market/epochs", 200},
		{"/v1/market/epochs?before=3&limit=1", 200},
		{"/v1/market/epochs?before=x", 400},
		{"/v1/market/prices", 404},
		{"/v1/policy", 200},
		{"/v1/policy?consistency=stale", 200},
		{"/v1/federation", 200},
		{"/v1/federation?consistency=stale", 200},
		{"/v1/federation?version=2", 400},
		{"/v1/documents/" + knownDigest, 200},
		{"/v1/documents/" + strings.Repeat("cd", 32), 404},
		{"/v1/documents/" + strings.Repeat("AB", 32), 400},
		{"/v1/documents/x", 400},
		{"/v1/documents/" + knownDigest + "?version=1", 400},
		{"/v1/status", 200},
		{"/v1/status?consistency=stale", 400},
		{"/v1/peers", 200},
		{"/healthz", 200},
		{"/readyz", 200},
		{"/metrics", 200},
		{"/", 404},
		{"/v1", 404},
		{"/v1/", 404},
		{"/v1/proof", 404},
		{"/v2/proofs", 404},
		{"/v2", 404},
		{"/v10/status", 404},
		{"/debug/pprof/", 404},
	}
	for _, c := range cases {
		w := call(s, "GET", c.target, "")
		if w.Code != c.status {
			t.Errorf("%s: %d %s, want %d", c.target, w.Code, w.Body, c.status)
			continue
		}
		if c.status != 200 {
			recorded(t, w, c.status)
		}
		if h := call(s, "HEAD", c.target, ""); h.Code != c.status || (h.Body.Len() > 0 && c.target != "/metrics") {
			t.Errorf("HEAD %s: %d with %d bytes", c.target, h.Code, h.Body.Len())
		}
		if c.target != "/metrics" && w.Header().Get(client.HeaderRequestID) == "" {
			t.Errorf("%s: no request id", c.target)
		}
	}
	f.allClosed(t)
	if p := recorded(t, call(s, "GET", "/v2/proofs", ""), 404); !strings.Contains(p.Detail, "version 1") {
		t.Errorf("/v2: %s", p.Detail)
	}
}

func TestConsistency(t *testing.T) {
	var asked []api.Consistency
	f := &fake{}
	f.view = func(_ context.Context, c api.Consistency) (api.View, error) {
		asked = append(asked, c)
		if c == api.Linearizable {
			return nil, &api.Unavailable{Reason: "No leader"}
		}
		return &fakeView{f: f, size: 42}, nil
	}
	s, _ := newServer(t, f, api.Config{})
	recorded(t, call(s, "GET", "/v1/policy", ""), 503)
	w := call(s, "GET", "/v1/policy?consistency=stale", "")
	if w.Code != 200 || w.Header().Get(client.HeaderApplied) != "42" {
		t.Errorf("stale: %d, applied %q", w.Code, w.Header().Get(client.HeaderApplied))
	}
	if len(asked) != 2 || asked[0] != api.Linearizable || asked[1] != api.Stale {
		t.Errorf("asked for %v", asked)
	}
}

func TestPages(t *testing.T) {
	f := &fake{}
	for i := range 25 {
		f.sessions = append(f.sessions, client.Session{ID: fmt.Sprintf("s%02d", i)})
		f.nodes = append(f.nodes, client.Node{Number: int64(i)})
	}
	s, _ := newServer(t, f, api.Config{})
	for _, limit := range []int{1, 7, 24, 25, 26} {
		var seen []string
		for next := ""; ; {
			var page client.Sessions
			w := call(s, "GET", fmt.Sprintf("/v1/sessions?limit=%d&after=%s", limit, next), "")
			if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || len(page.Sessions) > limit {
				t.Fatalf("limit %d: %v %s", limit, err, w.Body)
			}
			for _, x := range page.Sessions {
				seen = append(seen, x.ID)
			}
			if next = page.Next; next == "" {
				break
			}
		}
		if len(seen) != 25 {
			t.Errorf("limit %d: %d sessions: %v", limit, len(seen), seen)
		}
		nodes := 0
		for from := int64(0); ; {
			var page client.History
			w := call(s, "GET", fmt.Sprintf("/v1/sessions/s01/history?limit=%d&from=%d", limit, from), "")
			if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil {
				t.Fatal(err)
			}
			nodes += len(page.Nodes)
			if page.Next == nil {
				break
			}
			from = *page.Next
		}
		if nodes != 25 {
			t.Errorf("limit %d: %d nodes", limit, nodes)
		}
	}
}

func TestMarketPages(t *testing.T) {
	f := &fake{}
	s, _ := newServer(t, f, api.Config{})
	if p := recorded(t, call(s, "GET", "/v1/market", ""), 404); !strings.Contains(p.Detail, "has no market") {
		t.Errorf("no market: %s", p.Detail)
	}
	for i := range 25 {
		f.sessions = append(f.sessions, client.Session{ID: fmt.Sprintf("s%02d", i)})
		f.nodes = append(f.nodes, client.Node{Number: int64(i)})
	}
	get := func(target string, into any) {
		t.Helper()
		if w := call(s, "GET", target, ""); json.Unmarshal(w.Body.Bytes(), into) != nil {
			t.Fatalf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	for _, limit := range []int{1, 7, 24, 25, 26} {
		owners, licences, epochs := map[string]bool{}, map[int64]bool{}, map[int64]bool{}
		for next := ""; ; {
			var page client.Holders
			get(fmt.Sprintf("/v1/market/holders?limit=%d&after=%s", limit, next), &page)
			for _, h := range page.Holders {
				owners[h.Owner] = true
			}
			if next = page.Next; next == "" {
				break
			}
		}
		for from := int64(0); ; {
			var page client.Licences
			get(fmt.Sprintf("/v1/market/licences?limit=%d&from=%d", limit, from), &page)
			for _, l := range page.Licences {
				licences[l.Number] = true
			}
			if page.Next == nil {
				break
			}
			from = *page.Next
		}
		for before := int64(26); ; {
			var page client.Epochs
			get(fmt.Sprintf("/v1/market/epochs?limit=%d&before=%d", limit, before), &page)
			for _, e := range page.Epochs {
				epochs[e.Number] = true
			}
			if page.Next == nil {
				break
			}
			before = *page.Next
		}
		if len(owners) != 25 || len(licences) != 25 || len(epochs) != 25 {
			t.Errorf("limit %d: %d owners, %d licences, %d epochs", limit, len(owners), len(licences), len(epochs))
		}
	}
}

func TestMethods(t *testing.T) {
	s, _ := newServer(t, &fake{}, api.Config{})
	for _, c := range []struct{ method, target, allow string }{
		{"GET", "/v1/proofs", "POST"}, {"PUT", "/v1/proofs", "POST"}, {"POST", "/v1/status", "GET, HEAD"}, {"DELETE", "/v1/sessions/x", "GET, HEAD"},
		{"POST", "/metrics", "GET, HEAD"}, {"OPTIONS", "/v1/policy", "GET, HEAD"},
		{"GET", "/v1/federation/adoptions", "POST"}, {"POST", "/v1/federation", "GET, HEAD"}, {"POST", "/healthz", "GET, HEAD"},
	} {
		w := call(s, c.method, c.target, "")
		recorded(t, w, 405)
		if got := w.Header().Get("Allow"); got != c.allow {
			t.Errorf("%s %s: Allow %q, want %q", c.method, c.target, got, c.allow)
		}
	}
}

func TestRequestID(t *testing.T) {
	s, _ := newServer(t, &fake{}, api.Config{})
	for given, kept := range map[string]bool{"job-7.A_b": true, "": false, "a b": false, "ü": false, strings.Repeat("a", 64): true, strings.Repeat("a", 65): false} {
		w := call(s, "GET", "/v1/nothing", "", client.HeaderRequestID, given)
		id := w.Header().Get(client.HeaderRequestID)
		if (id == given) != kept || id == "" {
			t.Errorf("%q became %q", given, id)
		}
		if p := recorded(t, w, 404); p.Instance != "urn:bizra:request:"+id {
			t.Errorf("instance %q for %q", p.Instance, id)
		}
	}
}

func TestReadiness(t *testing.T) {
	f := &fake{ready: fmt.Errorf("the ledger is being caught up")}
	s, _ := newServer(t, f, api.Config{RequestsMax: 1})
	if p := recorded(t, call(s, "GET", "/readyz", ""), 503); !strings.Contains(p.Detail, "caught up") {
		t.Errorf("%s", p.Detail)
	}
	if w := call(s, "GET", "/healthz", ""); w.Code != 200 {
		t.Errorf("healthz %d", w.Code)
	}
	f.ready = nil
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	recorded(t, call(s, "GET", "/readyz", ""), 503)
}
