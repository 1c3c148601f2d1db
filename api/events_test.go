package api_test

import (
	"bufio"
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
)

// listener is a client of a stream: what it has read, one string an event.
type listener struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
	res  *http.Response
}

// listen opens a stream in a bubble.
func listen(t *testing.T, l *pipeListener, query string, headers ...string) *listener {
	t.Helper()
	c := mustDial(t, l)
	go func() {
		_, _ = io.WriteString(c, "GET /v1/events"+query+" HTTP/1.1\r\nHost: x\r\n"+strings.Join(headers, "")+"\r\n")
	}()
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &listener{t, c, bufio.NewReader(res.Body), res}
}

// next gives the lines of the next event, joined; comments count as events.
func (s *listener) next() string {
	s.t.Helper()
	var lines []string
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			s.t.Fatalf("after %q: %v", lines, err)
		}
		if line = strings.TrimSuffix(line, "\n"); line == "" {
			return strings.Join(lines, "|")
		}
		lines = append(lines, line)
	}
}

// want demands the next events, by what each begins with.
func (s *listener) want(events ...string) {
	s.t.Helper()
	for _, e := range events {
		if got := s.next(); !strings.HasPrefix(got, e) {
			s.t.Fatalf("event %q, want %q", got, e)
		}
	}
}

const retry = "retry: 2000"

func receiptEvent(index int) string {
	return fmt.Sprintf(`id: %d|event: receipt|data: {"version":1,"digest":%q`, index, knownDigest)
}

func TestEvents(t *testing.T) {
	f := &fake{size: 10}
	inBubble(t, f, api.Config{}, func(t *testing.T, l *pipeListener, _ *api.Server) {
		s := listen(t, l, "")
		h := s.res.Header
		if s.res.StatusCode != 200 || h.Get("Content-Type") != client.MediaEvents || h.Get("Cache-Control") != "no-store" || h.Get(client.HeaderRequestID) == "" {
			t.Fatalf("%d %v", s.res.StatusCode, h)
		}
		s.want(retry)
		f.move(func() { f.size = 14 })
		s.want(receiptEvent(11), receiptEvent(13)) // 10 and 12 record no proof, and what was before is not told
		f.move(func() {
			f.outlook.Certified = []client.CertificateEvent{{Region: "a", Size: 12}, {Region: "b", Size: 3}}
		})
		s.want(`event: certificate|data: {"region":"a","size":12}`, `event: certificate|data: {"region":"b","size":3}`)
		f.move(func() {
			f.outlook.Certified = []client.CertificateEvent{{Region: "a", Size: 11}, {Region: "b", Size: 5}}
		})
		s.want(`event: certificate|data: {"region":"b","size":5}`)
		alarm := client.AlarmEvent{Kind: client.AlarmEvidence, Region: "b", Detail: "two bodies"}
		f.move(func() {
			f.outlook.Local = client.LocalEvent{Local: true, Since: "2026-03-02T12:00:00Z"}
			f.outlook.Alarms = []client.AlarmEvent{alarm}
		})
		s.want(`event: local|data: {"local":true,"since":"2026-03-02T12:00:00Z"}`, `event: alarm|data: {"kind":"evidence","region":"b","detail":"two bodies"}`)
		f.change(func() { f.outlook = client.Outlook{Local: client.LocalEvent{Since: "2026-03-02T12:01:00Z"}} }) // it is looked for
		began := time.Now()
		s.want(`event: local|data: {"local":false,"since":"2026-03-02T12:01:00Z"}`, `event: alarm|data: {"kind":"evidence","region":"b","detail":"two bodies","over":true}`)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("looked for after %v", took)
		}
		for range 3 {
			began = time.Now()
			s.want(": beat")
			if took := time.Since(began); took > client.EventBeat {
				t.Errorf("a beat after %v", took)
			}
		}
		f.move(func() { f.size = 16 }) // after a minute, so beyond every time limit of a request
		s.want(receiptEvent(15))
		synctest.Wait() // the handler may still be at its end when its answer is here
		f.allClosed(t)
	})
}

// TestEventsResume: each receipt comes once, wherever a stream is taken up.
func TestEventsResume(t *testing.T) {
	f := &fake{size: 1000, outlook: client.Outlook{Certified: []client.CertificateEvent{{Region: "a", Size: 7}}}}
	inBubble(t, f, api.Config{}, func(t *testing.T, l *pipeListener, _ *api.Server) {
		s := listen(t, l, "?from=0&kinds=receipt,certificate")
		s.want(retry)
		for i := 1; i < 1000; i += 2 {
			s.want(receiptEvent(i)) // over many pages
		}
		s.want("event: certificate") // after the receipts, which it may cover
		s = listen(t, l, "?from=5", "Last-Event-ID: 995\r\n")
		s.want(retry, receiptEvent(997), receiptEvent(999), "event: certificate")
		s = listen(t, l, "?from=1000")
		s.want(retry, "event: certificate")
		f.move(func() { f.size = 1002 })
		s.want(receiptEvent(1001))
		s = listen(t, l, "?from=1005&kinds=receipt") // not there yet
		f.move(func() { f.size = 1008 })
		s.want(retry, receiptEvent(1005), receiptEvent(1007))
		s = listen(t, l, "?kinds=local")
		f.move(func() { f.size, f.outlook.Certified[0].Size = 1010, 9 })
		f.move(func() { f.outlook.Local.Local = true })
		s.want(retry, "event: local")
	})
}

func TestEventsRefuse(t *testing.T) {
	f := &fake{}
	s, _ := newServer(t, f, api.Config{})
	for _, q := range []string{"?from=-1", "?from=x", "?kinds=", "?kinds=receipt,", "?kinds=entry", "?after=1", "?from=1&from=2"} {
		recorded(t, call(s, "GET", "/v1/events"+q, ""), 400)
	}
	for _, id := range []string{"x", "-1", "9223372036854775807", "1 "} {
		recorded(t, call(s, "GET", "/v1/events", "", "Last-Event-ID", id), 400)
	}
	recorded(t, call(s, "POST", "/v1/events", ""), 405)
	if w := call(s, "HEAD", "/v1/events", ""); w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Type") != client.MediaEvents {
		t.Errorf("HEAD: %d %v", w.Code, w.Header())
	}
}

func TestStreamsAreBounded(t *testing.T) {
	f := &fake{}
	inBubble(t, f, api.Config{StreamsMax: 2, RequestsMax: 1}, func(t *testing.T, l *pipeListener, _ *api.Server) {
		a, b := listen(t, l, ""), listen(t, l, "")
		a.want(retry)
		b.want(retry)
		res, body, _ := ask(t, l, "/v1/events")
		if p := problemOf(t, res, body, 503); res.Header.Get("Retry-After") == "" || !strings.Contains(p.Detail, "2 streams") {
			t.Errorf("%+v", p)
		}
		if res, body, _ := ask(t, l, "/v1/policy"); res.StatusCode != 200 {
			t.Errorf("another request: %d %s", res.StatusCode, body)
		}
		if err := a.conn.Close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		c := listen(t, l, "")
		c.want(retry)
		if c.res.StatusCode != 200 {
			t.Errorf("a place that is free again: %d", c.res.StatusCode)
		}
	})
}

// TestSlowListener: who does not read is cut off, and what it missed waits for it in the ledger.
func TestSlowListener(t *testing.T) {
	f := &fake{size: 10}
	inBubble(t, f, api.Config{StreamsMax: 1, EventTimeout: 3 * time.Second}, func(t *testing.T, l *pipeListener, _ *api.Server) {
		s := listen(t, l, "")
		s.want(retry)
		f.move(func() { f.size = 5000 }) // more than any buffer on the way takes
		<-time.After(4 * time.Second)
		if rest, err := io.ReadAll(s.in); err == nil || strings.Contains(string(rest), receiptEvent(4999)) {
			t.Errorf("after 4 s without reading it was served on: %d bytes, %v", len(rest), err)
		}
		again := listen(t, l, "", "Last-Event-ID: 4995\r\n")
		again.want(retry, receiptEvent(4997), receiptEvent(4999))
		if res, body, _ := ask(t, l, "/metrics"); !strings.Contains(string(body), "bizra_http_streams_cut_total 1") {
			t.Errorf("%d: the cut is not counted", res.StatusCode)
		}
	})
}

// TestEventsSurviveAReplacedState: while there is no state to read, a stream waits.
func TestEventsSurviveAReplacedState(t *testing.T) {
	f := &fake{size: 10}
	inBubble(t, f, api.Config{}, func(t *testing.T, l *pipeListener, _ *api.Server) {
		s := listen(t, l, "")
		s.want(retry)
		f.move(func() { f.gone, f.size = true, 12 })
		s.want(": beat") // and nothing else
		f.change(func() { f.gone = false })
		s.want(receiptEvent(11))
	})
}

func TestShutdownEndsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s, _ := newServer(t, f, api.Config{})
		l, served := newPipeListener(), make(chan error)
		go func() { served <- s.Serve(l) }()
		st := listen(t, l, "")
		st.want(retry)
		ended := make(chan error, 1)
		go func() {
			_, err := io.ReadAll(st.in)
			ended <- err
		}()
		began := time.Now()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("the stream did not end in order: %v", err)
		}
		if err := <-served; err != nil || time.Since(began) > time.Second {
			t.Errorf("%v, after %v", err, time.Since(began))
		}
	})
}
