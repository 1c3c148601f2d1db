package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/consensus/link"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/pci"
)

// recorder is a node that accepts what decide does not refuse.
type recorder struct {
	batches []int
	decide  func(n int, env *pci.Envelope) client.Outcome // nil: accept
	fail    error
	seen    int
	indexed bool // receipts say which entry they are of
}

func (r *recorder) SubmitAll(_ context.Context, envelopes [][]byte) ([]client.Outcome, error) {
	r.batches = append(r.batches, len(envelopes))
	var outs []client.Outcome
	for _, e := range envelopes {
		env, err := pci.Decode(e)
		if err != nil {
			return outs, err
		}
		if r.fail != nil && r.seen > 0 {
			return outs, r.fail
		}
		r.seen++
		if r.decide != nil {
			if o := r.decide(r.seen, env); o.Receipt != nil || o.Problem != nil {
				outs = append(outs, o)
				continue
			}
		}
		session, _ := env.Payload.Data.Get("session")
		receipt := &client.Receipt{Digest: fmt.Sprintf("%x", env.Digest()), Name: "SUCCESS", Action: env.Payload.Action,
			Session: session.String(), Head: fmt.Sprintf("%064d", r.seen), Finality: client.FinalityCommitted}
		if index := int64(r.seen - 1); r.indexed {
			receipt.Index = &index
		}
		outs = append(outs, client.Outcome{Receipt: receipt})
	}
	return outs, nil
}

func newTestSubmission(to submitter, out *bytes.Buffer) *submission {
	return &submission{to: to, out: out, bar: &progress{}, until: &waiting{finality: client.FinalityCommitted}, heads: map[string]string{}, waiting: map[string]bool{},
		signer: client.Signer{Key: pci.NewKeyFromSeed([32]byte{3})}, context: &client.Context{PolicyHash: strings.Repeat("ab", 32), Region: "eu"}}
}

func open(session string) string {
	return fmt.Sprintf(`{"action":"session.open","data":{"session":%q}}`, session)
}

func step(session string) string {
	return fmt.Sprintf(`{"action":"session.transition","data":{"session":%q,"to":"active"}}`, session)
}

func TestSubmitBatches(t *testing.T) {
	cases := map[string]struct {
		lines   []string
		batches []int
	}{
		"sessions of their own go together":      {[]string{open("a"), open("b"), open("c")}, []int{3}},
		"a step waits for the head it builds on": {[]string{open("a"), step("a"), step("a"), open("b"), open("c")}, []int{1, 1, 3}},
		"two sessions in step":                   {[]string{open("a"), open("b"), step("a"), step("b"), step("a"), step("b")}, []int{2, 2, 2}},
	}
	var many []string
	for i := range 2*client.BatchLinesMax + 1 {
		many = append(many, open(fmt.Sprint("s", i)))
	}
	cases["full batches"] = struct {
		lines   []string
		batches []int
	}{many, []int{client.BatchLinesMax, client.BatchLinesMax, 1}}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var heads []string
			r := &recorder{decide: func(_ int, env *pci.Envelope) client.Outcome {
				heads = append(heads, env.Payload.StateHash)
				return client.Outcome{}
			}}
			var out bytes.Buffer
			s := newTestSubmission(r, &out)
			if err := errors.Join(s.run(t.Context(), strings.NewReader(strings.Join(c.lines, "\n"))), s.verdict()); err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(r.batches) != fmt.Sprint(c.batches) {
				t.Errorf("batches %v, want %v", r.batches, c.batches)
			}
			if got := strings.Count(out.String(), "\n"); got != len(c.lines) {
				t.Errorf("%d lines of output for %d proofs", got, len(c.lines))
			}
			last := map[string]string{}
			for i, l := range c.lines {
				p, err := client.ParsePayload([]byte(l))
				if err != nil {
					t.Fatal(err)
				}
				if heads[i] != last[p.Session()] {
					t.Fatalf("line %d builds on %q, want %q", i+1, heads[i], last[p.Session()])
				}
				last[p.Session()] = fmt.Sprintf("%064d", i+1)
			}
		})
	}
}

func TestSubmitVerdicts(t *testing.T) {
	code := pci.RejectSignature
	cases := map[string]struct {
		second client.Outcome
		fail   error
		exit   int
		says   string
	}{
		"accepted":            {client.Outcome{}, nil, exitOK, ""},
		"refused":             {client.Outcome{Receipt: &client.Receipt{Code: pci.RejectNonceReplay, Message: "m", Finality: "refused"}}, nil, exitRefused, "1 of 3 proofs were refused"},
		"refused, no receipt": {client.Outcome{Problem: &client.Problem{Status: 400, Code: &code, Name: code.String()}}, nil, exitRefused, "REJECT_SIGNATURE"},
		"undecided":           {client.Outcome{Problem: &client.Problem{Status: 503, Title: "t"}}, nil, exitFailure, "1 of 3 proofs were left undecided"},
		"cut off":             {client.Outcome{}, errors.New("gone"), exitFailure, "after 1 proofs were decided: gone"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := &recorder{fail: c.fail, decide: func(n int, _ *pci.Envelope) client.Outcome {
				if n == 2 {
					return c.second
				}
				return client.Outcome{}
			}}
			var out bytes.Buffer
			s := newTestSubmission(r, &out)
			err := s.run(t.Context(), strings.NewReader(open("a")+open("b")+open("c")))
			if err == nil {
				err = s.verdict()
			}
			if exitCode(err) != c.exit || (err != nil && !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%v, exit %d; want %d, %q", err, exitCode(err), c.exit, c.says)
			}
			for line := range strings.Lines(out.String()) {
				if !json.Valid([]byte(line)) {
					t.Errorf("output %q", line)
				}
			}
		})
	}
}

// TestStreamOutcomes: what comes by stream is shown as what comes by HTTP.
func TestStreamOutcomes(t *testing.T) {
	o, err := shown(&link.Outcome{Receipt: fsm.Receipt{Digest: [32]byte{1}, Code: pci.Success, HasEntry: true, Index: 5, TimeMillis: 1000, Session: "s", State: "init", Region: "eu"}})
	if err != nil || o.Receipt == nil || *o.Receipt.Index != 5 || o.Receipt.Name != "SUCCESS" || o.Receipt.Finality != client.FinalityCommitted || o.Receipt.State != "init" {
		t.Errorf("%+v, %v", o.Receipt, err)
	}
	o, err = shown(&link.Outcome{Reject: &pci.Reject{Code: pci.RejectSchema, Detail: "d"}})
	if err != nil || o.Receipt != nil || pci.CodeOf(o.Err()) != pci.RejectSchema {
		t.Errorf("%+v, %v", o, err)
	}
}

func FuzzSubmitInput(f *testing.F) {
	f.Add([]byte(open("a") + "\n" + step("a")))
	f.Add([]byte("{\n}"))
	f.Add([]byte(`[{}]`))
	f.Add([]byte(`{"payload":{}}{"action":1}`))
	f.Add([]byte("\xff{"))
	f.Fuzz(func(t *testing.T, input []byte) {
		var out bytes.Buffer
		r := &recorder{}
		s := newTestSubmission(r, &out)
		_ = s.run(t.Context(), bytes.NewReader(input))
		if got := strings.Count(out.String(), "\n"); got != r.seen {
			t.Fatalf("%d lines of output for %d decided proofs", got, r.seen)
		}
	})
}

// attester is a node that attests every proof of which it is asked.
func attester(t *testing.T, finality string) (*client.Client, *atomic.Int32) {
	t.Helper()
	var asked atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", client.MediaJSON)
		if r.URL.Path == "/v1/status" {
			fmt.Fprint(w, `{"attestation":{"waiting":2,"needed":2,"missing":["b","c"]}}`)
			return
		}
		asked.Add(1)
		fmt.Fprintf(w, `{"digest":%q,"index":1,"finality":%q}`, path.Base(r.URL.Path), finality)
	}))
	t.Cleanup(srv.Close)
	c, err := client.New(client.Config{URLs: []string{srv.URL}})
	if err != nil {
		t.Fatal(err)
	}
	return c, &asked
}

// TestSubmitWaits: receipts are held until a certificate covers the last of them, in batches, and printed in order.
func TestSubmitWaits(t *testing.T) {
	const proofs = client.BatchLinesMax + 50
	for finality, c := range map[string]struct {
		asked  int32 // at least
		failed string
	}{client.FinalityAttested: {2, ""}, client.FinalityCommitted: {1, "not attested within 1s: 2 seals wait for 2 votes each, and of [b c] votes are missing"}} {
		var in, out bytes.Buffer
		for i := range proofs {
			fmt.Fprintln(&in, open(fmt.Sprint("s", i)))
		}
		s := newTestSubmission(&recorder{indexed: true}, &out)
		var asked *atomic.Int32
		s.region, asked = attester(t, finality)
		s.until = &waiting{finality: client.FinalityAttested, timeout: time.Second}
		if finality == client.FinalityAttested {
			s.until.timeout = time.Minute
		}
		if err := errors.Join(s.run(t.Context(), &in), s.settle(t.Context())); err != nil {
			t.Fatal(err)
		}
		if n := asked.Load(); n < c.asked || c.failed == "" && n != c.asked {
			t.Errorf("%s: asked %d times", finality, n)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != proofs {
			t.Fatalf("%s: %d receipts", finality, len(lines))
		}
		for i, line := range lines {
			if !strings.Contains(line, fmt.Sprintf(`"index":%d,`, i)) || !strings.Contains(line, `"finality":"`+finality+`"`) {
				t.Fatalf("receipt %d: %s", i, line)
			}
		}
		err := s.verdict()
		if c.failed == "" && err != nil || c.failed != "" && (err == nil || !strings.Contains(err.Error(), c.failed) || exitCode(err) != exitFailure) {
			t.Errorf("%s: %v", finality, err)
		}
	}
}
