package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bizra/bizra/client"
)

func finalReceipt(digest, finality string) *http.Response {
	return answer(200, client.MediaJSON, fmt.Sprintf(`{"version":1,"digest":%q,"code":0,"name":"SUCCESS","index":4,"finality":%q,"repeated":false}`, digest, finality))
}

// after answers as a node that waits: with the first answer once its time is over, with the second from a moment on.
func after(began time.Time, moment time.Duration, before, then func() *http.Response) func(int, *http.Request, string) (*http.Response, error) {
	return func(_ int, r *http.Request, _ string) (*http.Response, error) {
		timeout, err := time.ParseDuration(r.URL.Query().Get("timeout"))
		if err != nil {
			return nil, err
		}
		left := time.Until(began.Add(moment))
		select {
		case <-time.After(min(timeout, max(left, 0))):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
		if time.Since(began) >= moment {
			return then(), nil
		}
		return before(), nil
	}
}

func TestAwait(t *testing.T) {
	for name, c := range map[string]struct {
		moment   time.Duration
		before   func() *http.Response
		limit    time.Duration
		finality string // that is seen at last; "": no receipt
		err      error
		requests int
	}{
		"at once":               {0, nil, time.Minute, "attested", nil, 1},
		"within a request":      {20 * time.Second, func() *http.Response { return finalReceipt("ab", "committed") }, time.Minute, "attested", nil, 1},
		"over several":          {70 * time.Second, func() *http.Response { return finalReceipt("ab", "committed") }, 2 * time.Minute, "attested", nil, 3},
		"not in time":           {time.Hour, func() *http.Response { return finalReceipt("ab", "committed") }, time.Minute, "committed", client.ErrNotYet, 3},
		"not there, then it is": {40 * time.Second, func() *http.Response { return problem(404) }, time.Minute, "attested", nil, 2},
		"never there":           {time.Hour, func() *http.Response { return problem(404) }, 30 * time.Second, "", client.ErrNotYet, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{reply: after(time.Now(), c.moment, c.before, func() *http.Response { return finalReceipt("ab", "attested") })}
				cl := newClient(t, s, client.Config{})
				ctx, cancel := context.WithTimeout(t.Context(), c.limit)
				defer cancel()
				r, err := cl.Await(ctx, "ab", client.FinalityAttested)
				got := ""
				if r != nil {
					got = r.Finality
				}
				if got != c.finality || !errors.Is(err, c.err) || err != nil && c.err == nil || len(s.calls) != c.requests {
					t.Errorf("%+v, %v after %d requests %v", r, err, len(s.calls), s.calls)
				}
				if s.calls[0].path != "/v1/proofs/ab?timeout=25s&wait=attested" {
					t.Errorf("asked for %s", s.calls[0].path)
				}
			})
		})
	}
}

func TestAwaitRefuses(t *testing.T) {
	s := &script{reply: func(int, *http.Request, string) (*http.Response, error) { return problem(400), nil }}
	c := newClient(t, s, client.Config{})
	if _, err := c.Await(t.Context(), "ab", "soon"); err == nil || len(s.calls) != 0 {
		t.Errorf("an unknown finality: %v", err)
	}
	if _, err := c.Await(t.Context(), "ab", client.FinalityAttested); err == nil || errors.Is(err, client.ErrNotYet) || len(s.calls) != 1 {
		t.Errorf("a node that does not wait: %v", err)
	}
}

func TestSubmitAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		wait := after(began, 10*time.Second, nil, func() *http.Response { return finalReceipt("cd", "attested") })
		s := &script{reply: func(n int, r *http.Request, body string) (*http.Response, error) {
			if r.Method == http.MethodPost {
				return finalReceipt("cd", "committed"), nil
			}
			return wait(n, r, body)
		}}
		r, err := newClient(t, s, client.Config{}).SubmitAwait(t.Context(), []byte("{}"), client.FinalityAttested)
		if err != nil || r.Finality != "attested" || time.Since(began) != 10*time.Second || len(s.calls) != 2 {
			t.Errorf("%+v, %v", r, err)
		}
		s.calls = nil
		if r, err := newClient(t, s, client.Config{}).SubmitAwait(t.Context(), []byte("{}"), client.FinalityCommitted); err != nil || r.Finality != "committed" || len(s.calls) != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		s.reply = func(int, *http.Request, string) (*http.Response, error) {
			return answer(400, client.MediaJSON, `{"version":1,"code":1,"name":"REJECT_SCHEMA","index":null,"finality":"refused"}`), nil
		}
		s.calls = nil
		if r, err := newClient(t, s, client.Config{}).SubmitAwait(t.Context(), []byte("{}"), client.FinalityAttested); err != nil || r.Accepted() || len(s.calls) != 1 {
			t.Errorf("what makes no entry is waited for: %+v, %v", r, err)
		}
	})
}

func TestBundle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		bundle := func() *http.Response { return answer(200, client.MediaJSON, "{\"format\":1}\n") }
		s := &script{reply: after(began, 40*time.Second, func() *http.Response { return problem(409) }, bundle)}
		text, err := newClient(t, s, client.Config{}).Bundle(t.Context(), "ab", true)
		if err != nil || string(text) != `{"format":1}` || len(s.calls) != 2 || s.calls[0].path != "/v1/proofs/ab/bundle?timeout=25s&wait=attested" {
			t.Errorf("%s, %v, %v", text, err, s.calls)
		}
		s.reply = func(int, *http.Request, string) (*http.Response, error) { return problem(409), nil }
		s.calls = nil
		if _, err := newClient(t, s, client.Config{}).SessionBundle(t.Context(), "s/1", false); !errors.Is(err, client.ErrNotYet) || len(s.calls) != 1 || s.calls[0].path != "/v1/sessions/s%2F1/bundle" {
			t.Errorf("%v, %v", err, s.calls)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		s.reply = after(time.Now(), time.Hour, func() *http.Response { return problem(409) }, bundle)
		if _, err := newClient(t, s, client.Config{RetriesMax: -1}).SessionBundle(ctx, "s", true); !errors.Is(err, client.ErrNotYet) {
			t.Errorf("%v", err)
		}
	})
}

// streamOf answers with a stream that says this, and then hangs, or ends.
func streamOf(ctx context.Context, text string, hang bool) *http.Response {
	r, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, text)
		if hang {
			<-ctx.Done()
			_ = w.CloseWithError(ctx.Err())
			return
		}
		_ = w.Close()
	}()
	res := answer(200, client.MediaEvents, "")
	res.Body = r
	return res
}

func receiptText(index int) string {
	return fmt.Sprintf("id: %d\nevent: receipt\ndata: {\"index\":%d,\"finality\":\"committed\"}\n\n", index, index)
}

// TestEvents takes a stream that breaks in every way, and gives each event once.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.reply = func(n int, r *http.Request, _ string) (*http.Response, error) {
			ctx := r.Context()
			switch n {
			case 0: // ends in the middle of an event
				return streamOf(ctx, "retry: 2000\n\n"+receiptText(5)+"id: 6\nevent: receipt\nda", false), nil
			case 1:
				return nil, errRefused
			case 2:
				return problem(503), nil
			case 3: // a kind of a later version, then silence
				return streamOf(ctx, ": beat\n\nevent: weather\ndata: {}\n\n"+receiptText(6)+"event: certificate\ndata: {\"region\":\"b\",\ndata: \"size\":9}\n\n", true), nil
			default:
				return streamOf(ctx, "event: local\ndata:{\"local\":true}\n\nevent: alarm\ndata: {\"kind\":\"evidence\",\"region\":\"c\"}\n\n"+receiptText(7), true), nil
			}
		}
		five := int64(5)
		c := newClient(t, s, client.Config{URLs: []string{"http://one", "http://two"}})
		var seen []string
		for e, err := range c.Events(t.Context(), client.EventsFrom{Index: &five, Kinds: []string{"receipt", "local"}}) {
			if err != nil {
				t.Fatal(err)
			}
			switch e.Kind {
			case client.EventReceipt:
				seen = append(seen, fmt.Sprint(e.Index, *e.Receipt.Index))
			case client.EventCertificate:
				seen = append(seen, fmt.Sprint(*e.Certificate))
			case client.EventLocal:
				seen = append(seen, fmt.Sprint(*e.Local))
			case client.EventAlarm:
				seen = append(seen, e.Alarm.Kind)
			}
			if e.Index == 7 {
				break
			}
		}
		if got := strings.Join(seen, " "); got != "5 5 6 6 {b 9} {true } evidence 7 7" {
			t.Errorf("events %s", got)
		}
		var asked []string
		for _, call := range s.calls {
			asked = append(asked, call.host+call.path)
		}
		want := "one/v1/events?from=5&kinds=receipt%2Clocal two/v1/events?from=6&kinds=receipt%2Clocal one/v1/events?from=6&kinds=receipt%2Clocal two/v1/events?from=6&kinds=receipt%2Clocal one/v1/events?from=7&kinds=receipt%2Clocal"
		if got := strings.Join(asked, " "); got != want {
			t.Errorf("asked for %s", got)
		}
		if silence := s.calls[4].at - s.calls[3].at; silence < 3*client.EventBeat || silence > 4*client.EventBeat {
			t.Errorf("a silent stream was given up after %v", silence)
		}
	})
}

func TestEventsEnd(t *testing.T) {
	for name, c := range map[string]struct {
		reply    func(*http.Request) (*http.Response, error)
		requests int
		says     string
	}{
		"refused":      {func(*http.Request) (*http.Response, error) { return problem(400), nil }, 1, "HTTP 400"},
		"nobody there": {func(*http.Request) (*http.Response, error) { return nil, errRefused }, 3, "connection refused"},
		"not a node":   {func(*http.Request) (*http.Response, error) { return answer(200, "text/html", "<html>"), nil }, 3, "is this the address of a bizra node?"},
		"bad data": {func(r *http.Request) (*http.Response, error) {
			return streamOf(r.Context(), "event: certificate\ndata: {\n\n", false), nil
		}, 3, "decode an event"},
		"a bad id": {func(r *http.Request) (*http.Response, error) {
			return streamOf(r.Context(), "id: x\nevent: receipt\ndata: {}\n\n", false), nil
		}, 3, "no index of an entry"},
		"a receipt again": {func(r *http.Request) (*http.Response, error) {
			return streamOf(r.Context(), receiptText(3), false), nil // from whichever entry on it was asked for
		}, 3, "entry 3 where entry 4"},
		"no end of an event": {func(r *http.Request) (*http.Response, error) {
			return streamOf(r.Context(), strings.Repeat("data: "+strings.Repeat("x", 1<<10)+"\n", 1<<10), false), nil
		}, 3, "more than 262144 bytes"},
		"a line too long": {func(r *http.Request) (*http.Response, error) {
			return streamOf(r.Context(), "data: "+strings.Repeat("x", 300<<10), false), nil
		}, 3, "token too long"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{reply: func(_ int, r *http.Request, _ string) (*http.Response, error) { return c.reply(r) }}
				cl := newClient(t, s, client.Config{RetriesMax: 2})
				var last error
				for _, err := range cl.Events(t.Context(), client.EventsFrom{}) {
					last = err
				}
				if last == nil || !strings.Contains(last.Error(), c.says) || len(s.calls) != c.requests {
					t.Errorf("%v after %d requests", last, len(s.calls))
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		s := &script{reply: func(_ int, r *http.Request, _ string) (*http.Response, error) {
			return streamOf(r.Context(), receiptText(1), true), nil
		}}
		var last error
		events := 0
		for _, err := range newClient(t, s, client.Config{}).Events(ctx, client.EventsFrom{}) {
			if events++; err != nil {
				last = err
			}
		}
		if events != 2 || !errors.Is(last, context.DeadlineExceeded) {
			t.Errorf("%d events, then %v", events, last)
		}
	})
}

// FuzzEvents: whatever a stream says, each receipt comes once, and it ends.
func FuzzEvents(f *testing.F) {
	f.Add(receiptText(3) + receiptText(4) + "event: certificate\ndata: {\"region\":\"b\",\"size\":9}\n\n")
	f.Add("retry: 1\n\n: c\n\nid\nevent\ndata\n\ndata:\n\nid: -1\nevent: receipt\ndata: {}\n\n")
	f.Add("event: alarm\r\ndata: {}\r\n\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		s := &script{reply: func(_ int, r *http.Request, _ string) (*http.Response, error) {
			return answer(200, client.MediaEvents, text), nil
		}}
		c := newClient(t, s, client.Config{RetriesMax: -1})
		for e, err := range c.Events(t.Context(), client.EventsFrom{}) {
			if err != nil {
				return
			}
			set := 0
			for _, is := range []bool{e.Receipt != nil, e.Certificate != nil, e.Local != nil, e.Alarm != nil} {
				if is {
					set++
				}
			}
			if set != 1 || e.Index < 0 {
				t.Fatalf("event %+v", e)
			}
			if len(s.calls) > 3 {
				return // it is the same stream again
			}
		}
	})
}
