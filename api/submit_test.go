package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/api"
	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/pci"
)

// TestStatusByCode holds the table of docs/http.md.
func TestStatusByCode(t *testing.T) {
	want := map[pci.Code]int{
		pci.Success: 200, pci.RejectSchema: 400, pci.RejectSignature: 400, pci.RejectTimestampStale: 400, pci.RejectTimestampFuture: 400,
		pci.RejectRoleViolation: 403, pci.RejectStateMismatch: 409, pci.RejectNonceReplay: 409, pci.RejectRateLimited: 429, pci.RejectInternalError: 500,
	}
	for _, code := range pci.Codes() {
		status := http.StatusUnprocessableEntity
		if s, ok := want[code]; ok {
			status = s
		}
		t.Run(code.String(), func(t *testing.T) {
			f := &fake{submit: func(context.Context, [][]byte) ([]api.Outcome, error) {
				return []api.Outcome{receipt(code, knownDigest)}, nil
			}}
			s, _ := newServer(t, f, api.Config{})
			w := call(s, "POST", "/v1/proofs", "{}")
			var r client.Receipt
			if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || w.Code != status || r.Code != code || r.Name != code.String() {
				t.Errorf("receipt: %d %s (%v), want %d", w.Code, w.Body, err, status)
			}
			if got := w.Header().Get("Content-Type"); got != client.MediaJSON {
				t.Errorf("Content-Type %q", got)
			}
			if has := w.Header().Get("Retry-After") != ""; has != (code == pci.RejectRateLimited) {
				t.Errorf("Retry-After %q", w.Header().Get("Retry-After"))
			}
			if code == pci.Success {
				return
			}
			f.submit = func(context.Context, [][]byte) ([]api.Outcome, error) {
				return []api.Outcome{{Err: fmt.Errorf("gate: %w", pci.Rejectf(code, "change this"))}}, nil
			}
			w = call(s, "POST", "/v1/proofs", "{}")
			p := recorded(t, w, status)
			if p.Code == nil || *p.Code != code || p.Name != code.String() || p.Detail != "change this" {
				t.Errorf("problem %+v", p)
			}
		})
	}
}

func TestBackendErrors(t *testing.T) {
	secret := errors.New("pebble: /var/lib/secret/000012.sst")
	cases := map[string]struct {
		err        error
		status     int
		retryAfter string
		says       string
	}{
		"no leader":        {fmt.Errorf("x: %w", &api.Unavailable{Reason: "The region has no leader", Err: secret}), 503, "1", "no leader. Send the same request again"},
		"no leader, later": {&api.Unavailable{Reason: "Moving", RetryAfter: 1500 * time.Millisecond}, 503, "2", "Moving."},
		"overload":         {&api.Overloaded{Reason: "The queue is full", RetryAfter: 3 * time.Second}, 429, "3", "queue is full."},
		"too slow":         {fmt.Errorf("wait: %w", context.DeadlineExceeded), 503, "1", "may still be reached"},
		"fault":            {secret, 500, "", "log has the cause"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := &fake{submit: func(context.Context, [][]byte) ([]api.Outcome, error) { return nil, c.err }}
			s, _ := newServer(t, f, api.Config{})
			for _, media := range []string{client.MediaJSON, client.MediaNDJSON} {
				w := call(s, "POST", "/v1/proofs", "{}", "Content-Type", media)
				p := recorded(t, w, c.status)
				if got := w.Header().Get("Retry-After"); got != c.retryAfter || !strings.Contains(p.Detail, c.says) {
					t.Errorf("%s: Retry-After %q, %q; want %q, %q", media, got, p.Detail, c.retryAfter, c.says)
				}
				if strings.Contains(w.Body.String(), "secret") {
					t.Errorf("%s: the answer tells a stranger what only the log may: %s", media, w.Body)
				}
			}
		})
	}
	t.Run("broken backend", func(t *testing.T) {
		for name, submit := range map[string]func(context.Context, [][]byte) ([]api.Outcome, error){
			"too few outcomes": func(context.Context, [][]byte) ([]api.Outcome, error) { return nil, nil },
			"empty outcome":    func(context.Context, [][]byte) ([]api.Outcome, error) { return make([]api.Outcome, 1), nil },
			"panic":            func(context.Context, [][]byte) ([]api.Outcome, error) { panic("boom") },
		} {
			s, reg := newServer(t, &fake{submit: submit}, api.Config{RequestsMax: 1})
			for range 2 { // a second time: the slot was given back
				w := call(s, "POST", "/v1/proofs", "{}")
				if p := recorded(t, w, 500); p.Code == nil || *p.Code != pci.RejectInternalError {
					t.Errorf("%s: %+v", name, p)
				}
			}
			if got := counter(t, reg, "bizra_http_panics_total"); (got == 2) != (name == "panic") {
				t.Errorf("%s: %v panics counted", name, got)
			}
		}
	})
}

func TestContentTypes(t *testing.T) {
	s, _ := newServer(t, &fake{}, api.Config{})
	e := string(envelope(t, map[string]any{"a": 1}))
	cases := []struct {
		headers []string
		status  int
	}{
		{nil, 200},
		{[]string{"Content-Type", ""}, 200},
		{[]string{"Content-Type", "application/json"}, 200},
		{[]string{"Content-Type", "Application/JSON; charset=UTF-8"}, 200},
		{[]string{"Content-Type", "application/x-ndjson"}, 200},
		{[]string{"Content-Type", "application/json", "Content-Encoding", "identity"}, 200},
		{[]string{"Content-Type", "application/x-www-form-urlencoded"}, 415},
		{[]string{"Content-Type", "text/plain"}, 415},
		{[]string{"Content-Type", "application/json; charset=latin1"}, 415},
		{[]string{"Content-Type", "application/json", "Content-Type", "application/json"}, 415},
		{[]string{"Content-Type", ";;"}, 415},
		{[]string{"Content-Type", "application/json", "Content-Encoding", "gzip"}, 415},
	}
	for _, c := range cases {
		w := call(s, "POST", "/v1/proofs", e, c.headers...)
		if w.Code != c.status {
			t.Errorf("%q: %d %s, want %d", c.headers, w.Code, w.Body, c.status)
		}
		if w.Code == 415 {
			recorded(t, w, 415)
		}
	}
}

// spaced writes JSON as Python's json.dumps does by default: a space after : and ,
// and everything beyond ASCII as \u escapes; and its members in reverse order.
func spaced(t *testing.T, text []byte) string {
	t.Helper()
	v, err := pci.Parse(text, pci.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var write func(b *strings.Builder, v pci.Value)
	write = func(b *strings.Builder, v pci.Value) {
		switch v.Kind() {
		case pci.ObjectKind:
			b.WriteString("{")
			members := v.Members()
			slices.Reverse(members)
			for i, m := range members {
				if i > 0 {
					b.WriteString(", ")
				}
				b.Write(pci.AppendString(nil, m.Name))
				b.WriteString(": ")
				write(b, m.Value)
			}
			b.WriteString("}")
		case pci.ArrayKind:
			b.WriteString("[")
			for i, e := range v.Elems() {
				if i > 0 {
					b.WriteString(", ")
				}
				write(b, e)
			}
			b.WriteString("]")
		default:
			b.Write(v.AppendCanonical(nil))
		}
	}
	var b strings.Builder
	write(&b, v)
	return b.String()
}

func TestEnvelopesOfOtherWriters(t *testing.T) {
	canonical := envelope(t, map[string]any{"text": "naïve 😀 \u2028 \"quoted\"\n\x7f", "n": json.Number("1e+16"), "list": []any{1, nil, true}})
	env, err := pci.Decode(canonical)
	if err != nil {
		t.Fatal(err)
	}
	python := spaced(t, canonical)
	if python == string(canonical) || !strings.Contains(python, `": `) || !strings.Contains(python, `\ud83d\ude00`) {
		t.Fatalf("the Python form is not what the test means: %s", python)
	}
	raw := strings.ReplaceAll(strings.ReplaceAll(python, `\ud83d\ude00`, "😀"), `\u00ef`, "ï")
	var indented bytes.Buffer
	if err := json.Indent(&indented, canonical, "\t", "  "); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{"canonical": string(canonical), "python": python, "raw UTF-8": raw,
		"indented": indented.String(), "white space around": "\r\n\t " + python + "\n\n", "upper-case escapes": strings.ReplaceAll(python, `\ud83d\ude00`, `\uD83D\uDE00`)} {
		s, _ := newServer(t, &fake{}, api.Config{})
		w := call(s, "POST", "/v1/proofs", body, "Content-Type", client.MediaJSON)
		var r client.Receipt
		if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || w.Code != 200 || r.Digest != hexOf(env.Digest()) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

func TestLines(t *testing.T) {
	good := string(envelope(t, map[string]any{"n": 1}))
	other := spaced(t, envelope(t, map[string]any{"n": "é"}))
	forged := strings.Replace(good, `"n":1`, `"n":2`, 1)
	before, rest, _ := strings.Cut(good, `"signature":`)
	_, after, _ := strings.Cut(rest, `,"timestamp":`)
	unsigned := before + `"signature":null,"timestamp":` + after
	long := `{"x":"` + strings.Repeat("a", pci.EnvelopeBytesMax) + `"}`
	lines := []struct {
		text string
		want pci.Code
	}{
		{good, pci.Success}, {"", pci.RejectSchema}, {other, pci.Success}, {"not JSON", pci.RejectSchema}, {forged, pci.RejectSignature},
		{unsigned, pci.RejectSignature}, {long, pci.RejectSchema}, {"\xff\xfe", pci.RejectSchema}, {"[" + good + "]", pci.RejectSchema}, {good + "\r", pci.Success},
	}
	f := &fake{}
	s, reg := newServer(t, f, api.Config{})
	for _, end := range []string{"", "\n", "\r\n"} {
		var texts []string
		for _, l := range lines {
			texts = append(texts, l.text)
		}
		w := call(s, "POST", "/v1/proofs", strings.Join(texts, "\n")+end, "Content-Type", client.MediaNDJSON)
		if w.Code != 200 || w.Header().Get("Content-Type") != client.MediaNDJSON {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		got := strings.Split(strings.TrimSuffix(w.Body.String(), "\n"), "\n")
		if len(got) != len(lines) {
			t.Fatalf("%d lines for %d: %s", len(got), len(lines), w.Body)
		}
		for i, l := range lines {
			var o client.Outcome
			if err := json.Unmarshal([]byte(got[i]), &o); err != nil {
				t.Fatalf("line %d: %v", i, err)
			}
			if pci.CodeOf(o.Err()) != l.want || (o.Receipt != nil) != (l.want == pci.Success) {
				t.Errorf("line %d: %s, want %v", i, got[i], l.want)
			}
		}
	}
	if len(f.batches) != 3 || len(f.batches[0]) != len(lines)-2 {
		t.Errorf("the backend got %d batches, the first with %d lines; lines must go together, without those that need no leader", len(f.batches), len(f.batches[0]))
	}
	if got := counterWith(t, reg, "bizra_http_proofs_total", "code", "SUCCESS"); got != 9 {
		t.Errorf("%v accepted counted, want 9", got)
	}
}

// TestLimitsOfBodies stands on both sides of every edge.
func TestLimitsOfBodies(t *testing.T) {
	accept := &fake{submit: func(_ context.Context, raw [][]byte) ([]api.Outcome, error) {
		outs := make([]api.Outcome, len(raw))
		for i := range outs {
			outs[i] = receipt(pci.Success, knownDigest)
		}
		return outs, nil
	}}
	lines := func(n int, text string) string { return strings.Repeat(text+"\n", n) }
	big := strings.Repeat("x", pci.EnvelopeBytesMax)
	cases := map[string]struct {
		media, body string
		status      int
	}{
		"one, empty":             {client.MediaJSON, "", 400},
		"one, white space":       {client.MediaJSON, " \n", 400},
		"one, largest":           {client.MediaJSON, strings.Repeat(" ", client.ProofBytesMax), 400},
		"one, beyond":            {client.MediaJSON, strings.Repeat(" ", client.ProofBytesMax+1), 413},
		"lines, empty":           {client.MediaNDJSON, "", 400},
		"lines, only an end":     {client.MediaNDJSON, "\n", 200},
		"lines, most":            {client.MediaNDJSON, lines(client.BatchLinesMax, "{}"), 200},
		"lines, most, no end":    {client.MediaNDJSON, strings.TrimSuffix(lines(client.BatchLinesMax, "{}"), "\n"), 200},
		"lines, one too many":    {client.MediaNDJSON, lines(client.BatchLinesMax, "{}") + "{}", 413},
		"lines, two too many":    {client.MediaNDJSON, lines(client.BatchLinesMax+2, "{}"), 413},
		"lines, only line ends":  {client.MediaNDJSON, lines(client.BatchBytesMax, ""), 413},
		"lines, largest":         {client.MediaNDJSON, lines(170, big) + strings.Repeat("y", client.BatchBytesMax-170*(len(big)+1)), 200},
		"lines, one byte beyond": {client.MediaNDJSON, lines(170, big) + strings.Repeat("y", client.BatchBytesMax-170*(len(big)+1)+1), 413},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s, _ := newServer(t, accept, api.Config{})
			w := call(s, "POST", "/v1/proofs", c.body, "Content-Type", c.media)
			if w.Code != c.status {
				t.Fatalf("%d %.200s, want %d", w.Code, w.Body, c.status)
			}
			if c.status != 200 {
				recorded(t, w, c.status)
			}
			// The same without a Content-Length.
			r, err := http.NewRequest("POST", "/v1/proofs", strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = -1
			r.Header.Set("Content-Type", c.media)
			if w := serve(s, r); w.Code != c.status {
				t.Errorf("chunked: %d %.200s, want %d", w.Code, w.Body, c.status)
			}
		})
	}
}

// TestMemoryBudget shows that the budget is kept and given back, whatever happens.
func TestMemoryBudget(t *testing.T) {
	block, entered := make(chan struct{}), make(chan struct{})
	f := &fake{submit: func(_ context.Context, raw [][]byte) ([]api.Outcome, error) {
		entered <- struct{}{}
		<-block
		return []api.Outcome{receipt(pci.Success, knownDigest)}, nil
	}}
	cfg := api.Config{BatchBytesMax: client.ProofBytesMax, BodiesBytesMax: client.ProofBytesMax + 8<<10}
	s, reg := newServer(t, f, cfg)
	big := strings.Repeat("x", 40<<10)
	done := make(chan int)
	go func() { done <- call(s, "POST", "/v1/proofs", big).Code }()
	<-entered
	for range 3 {
		w := call(s, "POST", "/v1/proofs", big)
		recorded(t, w, 503)
		if w.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	go func() { <-entered }()
	close(block)
	if code := <-done; code != 200 {
		t.Fatalf("the first: %d", code)
	}
	if w := call(s, "POST", "/v1/proofs", big); w.Code != 200 {
		t.Errorf("after the budget was given back: %d %s", w.Code, w.Body)
	}
	if got := counterWith(t, reg, "bizra_http_turned_away_total", "limit", "bodies"); got != 3 {
		t.Errorf("%v turned away counted, want 3", got)
	}
}

func counter(t *testing.T, reg *prometheus.Registry, name string) float64 {
	return counterWith(t, reg, name, "", "")
}

// counterWith reads a counter from the registry, as a scrape would.
func counterWith(t *testing.T, reg *prometheus.Registry, name, label, value string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if label == "" {
				return m.GetCounter().GetValue()
			}
			for _, l := range m.GetLabel() {
				if l.GetName() == label && l.GetValue() == value {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	t.Fatalf("no metric %s{%s=%q}", name, label, value)
	return 0
}
