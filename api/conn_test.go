package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bizra/bizra/api"
	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/pci"
)

// inBubble serves on a network in virtual time.
func inBubble(t *testing.T, f *fake, cfg api.Config, test func(t *testing.T, l *pipeListener, s *api.Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newServer(t, f, cfg)
		l, served := newPipeListener(), make(chan error)
		go func() { served <- s.Serve(l) }()
		test(t, l, s)
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("shut down: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

func mustDial(t *testing.T, l *pipeListener) net.Conn {
	t.Helper()
	c, err := l.dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestSlowClients: whoever sends too slowly, or not at all, is cut off in time.
func TestSlowClients(t *testing.T) {
	cases := map[string]struct {
		send   string
		within time.Duration
		status int // of a problem before the end; 0: none
	}{
		"says nothing":               {"", 5 * time.Second, 0},
		"half a request line":        {"GET /v1/sta", 5 * time.Second, 0},
		"half the headers":           {"GET /v1/status HTTP/1.1\r\nHost: x\r\nX-A: b\r\n", 5 * time.Second, 0},
		"half a body":                {"POST /v1/proofs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", 30 * time.Second, 408},
		"half a chunk":               {"POST /v1/proofs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a", 30 * time.Second, 408},
		"no body after 100-continue": {"POST /v1/proofs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n", 30 * time.Second, 408},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			inBubble(t, &fake{}, api.Config{}, func(t *testing.T, l *pipeListener, _ *api.Server) {
				began := time.Now()
				conn := mustDial(t, l)
				go func() { _, _ = io.WriteString(conn, c.send) }()
				all, _ := io.ReadAll(conn) // until the server closes
				took := time.Since(began)
				if took < c.within-time.Second || took > c.within+time.Second {
					t.Errorf("cut off after %v, want %v", took, c.within)
				}
				if c.status != 0 && !strings.Contains(string(all), fmt.Sprintf("HTTP/1.1 %d ", c.status)) {
					t.Errorf("got %q, want status %d", all, c.status)
				}
			})
		})
	}
}

// TestHalfOpen: a client that closes in the middle leaves nothing behind.
func TestHalfOpen(t *testing.T) {
	f := &fake{}
	inBubble(t, f, api.Config{ConnectionsMax: 1}, func(t *testing.T, l *pipeListener, _ *api.Server) {
		for _, part := range []string{"", "POST /v1/pr", "POST /v1/proofs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"} {
			c := mustDial(t, l)
			if _, err := io.WriteString(c, part); err != nil {
				t.Fatal(err)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
		// With one connection at a time, this one is served only if the others were let go.
		res, body := exchange(t, mustDial(t, l), "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if res.StatusCode != 200 {
			t.Errorf("%d %s", res.StatusCode, body)
		}
		if len(f.batches) != 0 {
			t.Errorf("the backend got half a body")
		}
	})
}

// TestSlowReader: who does not read its answer does not keep the server.
func TestSlowReader(t *testing.T) {
	inBubble(t, &fake{}, api.Config{}, func(t *testing.T, l *pipeListener, _ *api.Server) {
		began := time.Now()
		c := mustDial(t, l)
		if _, err := io.WriteString(c, "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		// A pipe holds nothing, so that the answer waits for a reader from its first byte.
		synctest.Wait()
		time.AfterFunc(61*time.Second, func() { _ = c.SetReadDeadline(time.Now()) })
		<-time.After(61 * time.Second)
		if b, err := io.ReadAll(c); err != nil && !errors.Is(err, io.EOF) || len(b) > 0 {
			t.Errorf("after %v the answer still waited: %q, %v", time.Since(began), b, err)
		}
	})
}

func TestHeaderLimit(t *testing.T) {
	inBubble(t, &fake{}, api.Config{}, func(t *testing.T, l *pipeListener, _ *api.Server) {
		request := func(size int) string {
			const frame = "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Fill: \r\n\r\n"
			return strings.Replace(frame, "X-Fill: ", "X-Fill: "+strings.Repeat("a", size-len(frame)), 1)
		}
		if res, body := exchange(t, mustDial(t, l), request(api.HeaderBytesMax-4<<10)); res.StatusCode != 200 {
			t.Errorf("headers of 12 KiB: %d %s", res.StatusCode, body)
		}
		if res, body := exchange(t, mustDial(t, l), request(api.HeaderBytesMax+1)); res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("headers beyond the limit: %d %s", res.StatusCode, body)
		}
		long := "GET /" + strings.Repeat("a", api.HeaderBytesMax) + " HTTP/1.1\r\nHost: x\r\n\r\n"
		if res, body := exchange(t, mustDial(t, l), long); res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a request line beyond the limit: %d %s", res.StatusCode, body)
		}
	})
}

// TestMalformed: what is no HTTP gets an answer, or an end, never a panic.
func TestMalformed(t *testing.T) {
	inBubble(t, &fake{}, api.Config{}, func(t *testing.T, l *pipeListener, _ *api.Server) {
		for _, text := range []string{
			"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
			"GET / HTTP/9.9\r\n\r\n",
			"POST /v1/proofs HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
			"POST /v1/proofs HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
			"POST /v1/proofs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n",
			"GET /v1/sessions/%zz HTTP/1.1\r\nHost: x\r\n\r\n",
		} {
			res, _ := exchange(t, mustDial(t, l), text)
			if res.StatusCode < 400 || res.StatusCode > 505 {
				t.Errorf("%.60q: %d", text, res.StatusCode)
			}
		}
	})
}

// TestConnectionLimit: for a connection beyond the limit one on which nothing is asked gives way, the one that has been so for
// longest; while all are at work it waits until one is not.
func TestConnectionLimit(t *testing.T) {
	const get, post = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "POST /v1/proofs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
	var block chan struct{} // of the bubble
	f := &fake{submit: func(context.Context, [][]byte) ([]api.Outcome, error) {
		<-block
		return []api.Outcome{receipt(pci.Success, knownDigest)}, nil
	}}
	inBubble(t, f, api.Config{ConnectionsMax: 2}, func(t *testing.T, l *pipeListener, _ *api.Server) {
		block = make(chan struct{})
		first, second := mustDial(t, l), mustDial(t, l)
		for _, c := range []net.Conn{first, second, first} {
			if res, _ := exchange(t, c, get); res.StatusCode != 200 {
				t.Fatal(res.Status)
			}
		}
		third := mustDial(t, l)
		if res, _ := exchange(t, third, get); res.StatusCode != 200 {
			t.Fatal(res.Status)
		}
		if n, err := second.Read(make([]byte, 1)); err == nil {
			t.Errorf("the one that was idle for longest is open: %d bytes", n)
		}
		if res, _ := exchange(t, first, get); res.StatusCode != 200 {
			t.Errorf("another gave way: %s", res.Status)
		}

		answers := make(chan int, 2)
		for _, c := range []net.Conn{first, third} {
			go func() {
				res, _ := exchange(t, c, post)
				answers <- res.StatusCode
			}()
		}
		synctest.Wait()
		fourth, served := mustDial(t, l), make(chan time.Time, 1)
		go func() {
			exchange(t, fourth, get)
			served <- time.Now()
		}()
		<-time.After(3 * time.Second)
		synctest.Wait()
		if len(served) > 0 || len(answers) > 0 {
			t.Error("one that was at work gave way")
		}
		close(block)
		if a, b := <-answers, <-answers; a != 200 || b != 200 {
			t.Errorf("%d and %d", a, b)
		}
		<-served
	})
}

// TestTenThousandConnections: while ten times as many as there is room for are opened, and say half a request, or half a body, or
// nothing, every request of an honest client is answered at once, on a connection of its own or on one that it kept.
func TestTenThousandConnections(t *testing.T) {
	const crowd = 10_000
	synctest.Test(t, func(t *testing.T) {
		s, reg := newServer(t, &fake{}, api.Config{})
		l, served := newPipeListener(), make(chan error)
		go func() { served <- s.Serve(l) }()
		texts := []string{"", "POST /v1/pr", "GET / HTTP/1.1\r\nHost: x\r\n", "POST /v1/proofs HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n{",
			"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"}
		began, answered := time.Now(), 0
		kept := mustDial(t, l)
		for i := range crowd {
			c := mustDial(t, l)
			go func() {
				_, _ = io.WriteString(c, texts[i%len(texts)])
				_, _ = io.Copy(io.Discard, c) // until it gives way
			}()
			if i%100 == 0 {
				synctest.Wait()
				for _, honest := range []net.Conn{kept, mustDial(t, l)} {
					if res, body := exchange(t, honest, "GET /v1/policy HTTP/1.1\r\nHost: x\r\n\r\n"); res.StatusCode != 200 {
						t.Fatalf("with %d connections: %d %s", i, res.StatusCode, body)
					}
					answered++
				}
			}
		}
		if took := time.Since(began); took > 0 || answered != 2*crowd/100 {
			t.Errorf("%d answers took %v", answered, took)
		}
		const limit = 1024 // of Config, unless it says otherwise
		if got := counterWith(t, reg, "bizra_http_turned_away_total", "limit", "connections"); got < crowd-limit {
			t.Errorf("%v gave way of %d", got, crowd)
		}
		if err := errors.Join(s.Shutdown(t.Context()), <-served); err != nil {
			t.Error(err)
		}
	})
}

// TestRequestLimit: a request beyond the limit is told to come back; health and
// metrics still answer.
func TestRequestLimit(t *testing.T) {
	entered, block := make(chan struct{}, 2), make(chan struct{})
	f := &fake{submit: func(context.Context, [][]byte) ([]api.Outcome, error) {
		entered <- struct{}{}
		<-block
		return []api.Outcome{receipt(pci.Success, knownDigest)}, nil
	}}
	s, reg := newServer(t, f, api.Config{RequestsMax: 2})
	codes := make(chan int)
	for range 2 {
		go func() { codes <- call(s, "POST", "/v1/proofs", "{}").Code }()
		<-entered
	}
	w := call(s, "GET", "/v1/policy", "")
	if p := recorded(t, w, 503); w.Header().Get("Retry-After") == "" || !strings.Contains(p.Detail, "2 requests") {
		t.Errorf("%+v", p)
	}
	for _, target := range []string{"/healthz", "/readyz", "/metrics"} {
		if w := call(s, "GET", target, ""); w.Code != 200 {
			t.Errorf("%s under load: %d", target, w.Code)
		}
	}
	close(block)
	for range 2 {
		if code := <-codes; code != 200 {
			t.Errorf("%d", code)
		}
	}
	if w := call(s, "GET", "/v1/policy", ""); w.Code != 200 {
		t.Errorf("after the load: %d", w.Code)
	}
	if got := counterWith(t, reg, "bizra_http_turned_away_total", "limit", "requests"); got != 1 {
		t.Errorf("%v turned away", got)
	}
}

// TestRequestTimeout: a backend that decides nothing is not waited for without end.
func TestRequestTimeout(t *testing.T) {
	f := &fake{submit: func(ctx context.Context, _ [][]byte) ([]api.Outcome, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	inBubble(t, f, api.Config{}, func(t *testing.T, l *pipeListener, _ *api.Server) {
		began := time.Now()
		res, body := exchange(t, mustDial(t, l), "POST /v1/proofs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
		problemOf(t, res, body, 503)
		if took := time.Since(began); took != 15*time.Second {
			t.Errorf("answered after %v", took)
		}
	})
}

// TestShutdown waits for what is under way, and no longer than it is allowed to.
func TestShutdown(t *testing.T) {
	f := &fake{submit: func(context.Context, [][]byte) ([]api.Outcome, error) {
		<-time.After(10 * time.Second)
		return []api.Outcome{receipt(pci.Success, knownDigest)}, nil
	}}
	const post = "POST /v1/proofs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
	for _, patience := range []time.Duration{3 * time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			s, _ := newServer(t, f, api.Config{})
			l, served := newPipeListener(), make(chan error, 1)
			go func() { served <- s.Serve(l) }()
			c := mustDial(t, l)
			if _, err := io.WriteString(c, post); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			stopped := make(chan error, 1)
			go func() { stopped <- s.Shutdown(ctx) }()
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if patience > 10*time.Second {
				if err != nil || res.StatusCode != 200 {
					t.Errorf("the request under way got %v, %v", res, err)
				}
				if err := <-stopped; err != nil {
					t.Errorf("shut down: %v", err)
				}
			} else {
				if err == nil {
					t.Errorf("a request beyond the patience was answered: %v", res.Status)
				}
				if err := <-stopped; !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("shut down: %v, want the deadline", err)
				}
			}
			if err := <-served; err != nil {
				t.Errorf("serve: %v", err)
			}
			<-time.After(10 * time.Second) // the handler that was cut off comes to its end
		})
	}
}

// TestShutdownDoesNotWaitForTheSilent: clients open connections in advance.
func TestShutdownDoesNotWaitForTheSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newServer(t, &fake{}, api.Config{})
		l, served := newPipeListener(), make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		c := mustDial(t, l)
		synctest.Wait()
		began := time.Now()
		if err := errors.Join(s.Shutdown(t.Context()), <-served); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v, with nothing under way", took)
		}
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("the connection is still open: %d bytes", n)
		}
	})
}

// TestExpectContinue: curl asks before it sends a body beyond 1 MiB.
func TestExpectContinue(t *testing.T) {
	inBubble(t, &fake{}, api.Config{}, func(t *testing.T, l *pipeListener, _ *api.Server) {
		c := mustDial(t, l)
		r := bufio.NewReader(c)
		body := envelope(t, map[string]any{"a": 1})
		if _, err := fmt.Fprintf(c, "POST /v1/proofs HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n", len(body)); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != http.StatusContinue {
			t.Fatalf("%v %v", res, err)
		}
		if _, err := c.Write(body); err != nil {
			t.Fatal(err)
		}
		if res, err = http.ReadResponse(r, nil); err != nil || res.StatusCode != 200 {
			t.Fatalf("%v %v", res, err)
		}
		_, _ = io.Copy(io.Discard, res.Body)

		// A body that is announced too large is refused before it is sent.
		res, text := exchange(t, mustDial(t, l), fmt.Sprintf("POST /v1/proofs HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", client.ProofBytesMax+1))
		problemOf(t, res, text, http.StatusRequestEntityTooLarge)
	})
}
