package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/pci"
)

// script is a network of nodes that answer as a test says, in virtual time.
type script struct {
	mu    sync.Mutex
	began time.Time
	calls []call
	reply func(n int, r *http.Request, body string) (*http.Response, error)
}

type call struct {
	at   time.Duration
	host string
	path string
	body string
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	n := len(s.calls)
	s.calls = append(s.calls, call{time.Since(s.began), r.URL.Host, r.URL.RequestURI(), string(body)})
	s.mu.Unlock()
	return s.reply(n, r, string(body))
}

func answer(status int, media, body string, headers ...string) *http.Response {
	h := http.Header{"Content-Type": {media}}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

func problem(status int, headers ...string) *http.Response {
	return answer(status, client.MediaProblem, fmt.Sprintf(`{"type":"about:blank","title":"t","status":%d,"detail":"d"}`, status), headers...)
}

func newClient(t *testing.T, s *script, cfg client.Config) *client.Client {
	t.Helper()
	s.began = time.Now()
	cfg.HTTPClient = &http.Client{Transport: s}
	if cfg.URLs == nil {
		cfg.URLs = []string{"http://one"}
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}

const statusJSON = `{"node":"a-1","a member of a later version":1}`

func ok() *http.Response { return answer(200, client.MediaJSON, statusJSON) }

func TestRetries(t *testing.T) {
	type answers = []func() (*http.Response, error)
	give := func(r func() *http.Response) func() (*http.Response, error) {
		return func() (*http.Response, error) { return r(), nil }
	}
	refused := func() (*http.Response, error) { return nil, errRefused }
	status := func(code int, headers ...string) func() (*http.Response, error) {
		return give(func() *http.Response { return problem(code, headers...) })
	}
	cut := give(func() *http.Response {
		r := ok()
		r.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), errReader{io.ErrUnexpectedEOF}))
		return r
	})
	cases := map[string]struct {
		answers  answers
		attempts int
		least    time.Duration // waited
		most     time.Duration
		err      string
	}{
		"at once":               {answers{give(ok)}, 1, 0, 0, ""},
		"refused twice":         {answers{refused, refused, give(ok)}, 3, 150 * time.Millisecond, 300 * time.Millisecond, ""},
		"cut off":               {answers{cut, give(ok)}, 2, 50 * time.Millisecond, 100 * time.Millisecond, ""},
		"no leader":             {answers{status(503, "Retry-After", "2"), give(ok)}, 2, 2 * time.Second, 2 * time.Second, ""},
		"overloaded":            {answers{status(429, "Retry-After", "1"), status(429), give(ok)}, 3, 1100 * time.Millisecond, 1200 * time.Millisecond, ""},
		"a proxy's 502":         {answers{give(func() *http.Response { return answer(502, "text/html", "<p>bad") }), give(ok)}, 2, 50 * time.Millisecond, 100 * time.Millisecond, ""},
		"asked to wait long":    {answers{status(503, "Retry-After", "3600")}, 1, 0, 0, "no decision"},
		"never":                 {answers{refused}, 4, 350 * time.Millisecond, 700 * time.Millisecond, "connection refused"},
		"a decision":            {answers{status(404)}, 1, 0, 0, "d (HTTP 404)"},
		"a fault of the node's": {answers{status(500)}, 1, 0, 0, "HTTP 500"},
		"not a node":            {answers{give(func() *http.Response { return answer(200, "text/html", "<html>") })}, 1, 0, 0, "is this the address of a bizra node?"},
		"a redirect":            {answers{give(func() *http.Response { return answer(301, "text/html", "", "Location", "https://x/") })}, 1, 0, 0, "redirect to https://x/"},
		"an endless answer":     {answers{give(func() *http.Response { r := ok(); r.Body = io.NopCloser(zeros{}); return r })}, 4, 0, time.Second, "more than"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{reply: func(n int, _ *http.Request, _ string) (*http.Response, error) {
					return c.answers[min(n, len(c.answers)-1)]()
				}}
				cl := newClient(t, s, client.Config{RetriesMax: 3})
				st, err := cl.Status(t.Context())
				if c.err == "" && (err != nil || st.Node != "a-1") {
					t.Errorf("%+v, %v", st, err)
				}
				if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
					t.Errorf("error %v, want one that says %q", err, c.err)
				}
				took := time.Since(s.began)
				if len(s.calls) != c.attempts || took < c.least || took > c.most {
					t.Errorf("%d attempts in %v, want %d in %v to %v", len(s.calls), took, c.attempts, c.least, c.most)
				}
			})
		})
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := map[string]bool{"one": true, "two": true}
		s := &script{}
		s.reply = func(_ int, r *http.Request, _ string) (*http.Response, error) {
			if down[r.URL.Host] {
				return nil, errRefused
			}
			return ok(), nil
		}
		c := newClient(t, s, client.Config{URLs: []string{"http://one/", "http://two", "http://three"}})
		for range 2 {
			if _, err := c.Status(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		var hosts []string
		for _, x := range s.calls {
			hosts = append(hosts, x.host)
		}
		if want := []string{"one", "two", "three", "three"}; !slices.Equal(hosts, want) || time.Since(s.began) != 0 {
			t.Errorf("asked %v after %v, want %v without a pause: others are there to be asked", hosts, time.Since(s.began), want)
		}
		down["three"], down["one"] = true, false
		if _, err := c.Status(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{reply: func(_ int, r *http.Request, _ string) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}}
		c := newClient(t, s, client.Config{AttemptTimeout: 2 * time.Second, RetriesMax: 1})
		if _, err := c.Status(t.Context()); !errors.Is(err, context.DeadlineExceeded) || len(s.calls) != 2 {
			t.Errorf("%v after %d attempts", err, len(s.calls))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Status(ctx); !errors.Is(err, context.DeadlineExceeded) || len(s.calls) != 3 {
			t.Errorf("%v after %d attempts: a caller that has given up is not waited for", err, len(s.calls))
		}
	})
}

func receiptJSON(digest string, code pci.Code) string {
	b, err := json.Marshal(client.Receipt{Version: 1, Digest: digest, Code: code, Name: code.String(), Finality: client.FinalityRefused, Message: "m"})
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestSubmit(t *testing.T) {
	cases := map[string]struct {
		answer *http.Response
		code   pci.Code
		status int // of the problem; 0: a receipt
	}{
		"accepted":              {answer(200, client.MediaJSON, receiptJSON("d", pci.Success)), pci.Success, 0},
		"refused":               {answer(409, client.MediaJSON, receiptJSON("d", pci.RejectStateMismatch)), pci.RejectStateMismatch, 0},
		"limited":               {answer(429, client.MediaJSON, receiptJSON("d", pci.RejectRateLimited), "Retry-After", "1"), pci.RejectRateLimited, 0},
		"refused, no receipt":   {answer(400, client.MediaProblem, `{"status":400,"title":"t","code":1,"name":"REJECT_SCHEMA","detail":"d"}`), pci.RejectSchema, 400},
		"a body from elsewhere": {answer(413, "text/html", "<h1>too large"), pci.RejectInternalError, 413},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := &script{reply: func(int, *http.Request, string) (*http.Response, error) { return c.answer, nil }}
			r, err := newClient(t, s, client.Config{}).Submit(t.Context(), []byte("{}"))
			if len(s.calls) != 1 {
				t.Errorf("%d attempts: a decision is not asked for again", len(s.calls))
			}
			if c.status == 0 {
				if err != nil || r.Code != c.code || pci.CodeOf(r.Err()) != c.code {
					t.Errorf("%+v, %v", r, err)
				}
				return
			}
			p, ok := errors.AsType[*client.Problem](err)
			if !ok || p.Status != c.status || pci.CodeOf(err) != c.code {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestSubmitAll: batches of 512, lines in order, and only what a node left undecided
// is sent again.
func TestSubmitAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := map[string]int{}
		s := &script{}
		s.reply = func(n int, r *http.Request, body string) (*http.Response, error) {
			if r.Header.Get("Content-Type") != client.MediaNDJSON {
				t.Errorf("Content-Type %q", r.Header.Get("Content-Type"))
			}
			if n == 1 {
				return nil, errRefused
			}
			var out strings.Builder
			for line := range strings.Lines(body) {
				line = strings.TrimSuffix(line, "\n")
				sent[line]++
				if strings.HasSuffix(line, `7}`) && sent[line] == 1 {
					out.WriteString(`{"type":"about:blank","title":"t","status":503}` + "\n")
					continue
				}
				out.WriteString(receiptJSON(line, pci.Success) + "\n")
			}
			return answer(200, client.MediaNDJSON, out.String()), nil
		}
		var envelopes [][]byte
		const count = 1200
		for i := range count {
			e := fmt.Sprintf(`{"n":%d}`, i)
			if i%2 == 0 {
				e = fmt.Sprintf("{\r\n  \"n\": %d\n}\n", i)
			}
			envelopes = append(envelopes, []byte(e))
		}
		envelopes[100] = []byte("not\nJSON")
		outs, err := newClient(t, s, client.Config{}).SubmitAll(t.Context(), envelopes)
		if err != nil || len(outs) != count {
			t.Fatalf("%d outcomes, %v", len(outs), err)
		}
		for i, o := range outs {
			if i == 100 {
				if pci.CodeOf(o.Err()) != pci.RejectSchema {
					t.Errorf("what is no JSON: %v", o.Err())
				}
				continue
			}
			line := fmt.Sprintf(`{"n":%d}`, i)
			if o.Receipt == nil || o.Receipt.Digest != line {
				t.Fatalf("outcome %d: %+v", i, o)
			}
			want := 1
			if strings.HasSuffix(line, `7}`) {
				want = 2
			}
			if sent[line] != want {
				t.Fatalf("%s was sent %d times, want %d", line, sent[line], want)
			}
		}
		if len(s.calls) != 3+1+3 {
			t.Errorf("%d requests, want 3 batches, one of them twice, and the undecided lines of each", len(s.calls))
		}
	})
}

func TestSubmitAllFaults(t *testing.T) {
	for name, c := range map[string]struct {
		answer *http.Response
		says   string
	}{
		"too few lines":  {answer(200, client.MediaNDJSON, receiptJSON("d", 0)+"\n"), "1 lines for 2"},
		"too many lines": {answer(200, client.MediaNDJSON, strings.Repeat(receiptJSON("d", 0)+"\n", 3)), "3 lines for 2"},
		"no receipts":    {answer(200, client.MediaNDJSON, "{}\n{}\n"), "neither a receipt nor a problem"},
		"one object":     {answer(200, client.MediaJSON, "{}"), "is this the address of a bizra node?"},
		"all refused":    {problem(413), "HTTP 413"},
	} {
		s := &script{reply: func(int, *http.Request, string) (*http.Response, error) { return c.answer, nil }}
		if _, err := newClient(t, s, client.Config{}).SubmitAll(t.Context(), [][]byte{[]byte("{}"), []byte("{}")}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

func TestPaths(t *testing.T) {
	s := &script{reply: func(int, *http.Request, string) (*http.Response, error) {
		return answer(200, client.MediaJSON, "{}"), nil
	}}
	c := newClient(t, s, client.Config{Stale: true, URLs: []string{"http://h/base/"}})
	ctx := t.Context()
	for want, do := range map[string]func() error{
		"/base/v1/proofs/ab?consistency=stale":                         func() error { _, err := c.Receipt(ctx, "ab"); return err },
		"/base/v1/proofs/ab/inclusion?consistency=stale":               func() error { _, err := c.Inclusion(ctx, "ab"); return err },
		"/base/v1/sessions/%2E%2E?consistency=stale":                   func() error { _, err := c.Session(ctx, ".."); return err },
		"/base/v1/sessions/a%2Fb%3F?consistency=stale":                 func() error { _, err := c.Session(ctx, "a/b?"); return err },
		"/base/v1/sessions?after=x+y&consistency=stale&limit=3":        func() error { _, err := c.Sessions(ctx, "x y", 3); return err },
		"/base/v1/sessions/s/history?consistency=stale&from=7&limit=2": func() error { _, err := c.History(ctx, "s", 7, 2); return err },
		"/base/v1/agents/a:b%2Fc?consistency=stale":                    func() error { _, err := c.Agent(ctx, "a:b/c"); return err },
		"/base/v1/agents?consistency=stale":                            func() error { _, err := c.Agents(ctx, "", 0); return err },
		"/base/v1/market?consistency=stale":                            func() error { _, err := c.Market(ctx); return err },
		"/base/v1/market/holders/a%2Fb?consistency=stale":              func() error { _, err := c.Holder(ctx, "a/b"); return err },
		"/base/v1/market/holders?after=x&consistency=stale&limit=2":    func() error { _, err := c.Holders(ctx, "x", 2); return err },
		"/base/v1/market/licences/7?consistency=stale":                 func() error { _, err := c.Licence(ctx, 7); return err },
		"/base/v1/market/licences?consistency=stale&from=7&limit=2":    func() error { _, err := c.Licences(ctx, 7, 2); return err },
		"/base/v1/market/epochs?before=9&consistency=stale":            func() error { _, err := c.Epochs(ctx, 9, 0); return err },
		"/base/v1/policy?consistency=stale":                            func() error { _, err := c.Policy(ctx); return err },
		"/base/v1/federation?consistency=stale":                        func() error { _, err := c.Federation(ctx); return err },
		"/base/v1/certificates?after=7&consistency=stale&limit=2":      func() error { _, err := c.Certificates(ctx, 7, 2); return err },
		"/base/v1/proofs/ab/bundle?consistency=stale":                  func() error { _, err := c.Bundle(ctx, "ab", false); return err },
		"/base/v1/documents/ab":                                        func() error { _, err := c.DocumentText(ctx, "ab"); return err },
		"/base/v1/patterns?agent=x&from=3&limit=5&name=n&region=b": func() error {
			_, err := c.Patterns(ctx, client.PatternFilter{Region: "b", Agent: "x", Name: "n"}, 3, 5)
			return err
		},
		"/base/v1/patterns/ab":        func() error { _, err := c.Pattern(ctx, "ab"); return err },
		"/base/checkpoint":            func() error { _, err := c.Checkpoint(ctx); return err },
		"/base/tile/entries/001.p/17": func() error { _, err := c.Tile(ctx, tlog.Tile{H: 8, L: -1, N: 1, W: 17}, "t"); return err },
		"/base/v1/peers":              func() error { _, err := c.Peers(ctx); return err },
	} {
		s.calls = nil
		if err := do(); err != nil {
			t.Error(err)
		}
		if len(s.calls) != 1 || s.calls[0].path != want {
			t.Errorf("asked for %v, want %s", s.calls, want)
		}
	}
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  client.Config
		says string
	}{
		"no URL":      {client.Config{}, "URLs is empty"},
		"no scheme":   {client.Config{URLs: []string{"127.0.0.1:8420"}}, "127.0.0.1:8420"},
		"a multiaddr": {client.Config{URLs: []string{"/ip4/127.0.0.1/tcp/1"}}, "must be like http"},
		"a query":     {client.Config{URLs: []string{"http://x/?a=b"}}, "without"},
		"a user":      {client.Config{URLs: []string{"http://u:p@x"}}, "without user"},
		"backwards":   {client.Config{URLs: []string{"http://x"}, BackoffMin: time.Hour}, "BackoffMin"},
	} {
		if _, err := client.New(c.cfg); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}
