package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bizra/bizra/api"
	"github.com/bizra/bizra/client"
)

// finalityOf reads the finality of a receipt.
func finalityOf(t *testing.T, body []byte) string {
	t.Helper()
	var r client.Receipt
	if err := json.Unmarshal(body, &r); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return r.Finality
}

// ask sends one GET on a connection of its own and says how long the answer took.
func ask(t *testing.T, l *pipeListener, target string, headers ...string) (*http.Response, []byte, time.Duration) {
	t.Helper()
	began := time.Now()
	text := "GET " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + strings.Join(headers, "")
	res, body := exchange(t, mustDial(t, l), text+"\r\n")
	return res, body, time.Since(began)
}

// TestWaitForFinality: an answer comes when a certificate covers the entry, and at the end of its time without.
func TestWaitForFinality(t *testing.T) {
	const proof = "/v1/proofs/"
	for name, c := range map[string]struct {
		target   string
		at       time.Duration // when the certificate comes; negative: never
		covers   int64
		finality string // "": 404
		status   int
		within   time.Duration
	}{
		"attested already":       {proof + knownDigest + "?wait=attested", 0, 8, "attested", 200, 0},
		"covered by the newest":  {proof + knownDigest + "?wait=attested", 10 * time.Second, 8, "attested", 200, 10 * time.Second},
		"by name":                {proof + knownUUID + "?wait=attested&timeout=20s", 10 * time.Second, 8, "attested", 200, 10 * time.Second},
		"one entry short":        {proof + knownDigest + "?wait=attested&timeout=20s", 10 * time.Second, 7, "committed", 200, 20 * time.Second},
		"no certificate":         {proof + knownDigest + "?wait=attested", -1, 0, "committed", 200, client.WaitMax},
		"as long as may be":      {proof + knownDigest + "?wait=attested&timeout=30s", -1, 0, "committed", 200, 30 * time.Second},
		"no time":                {proof + knownDigest + "?wait=attested&timeout=0s", -1, 0, "committed", 200, 0},
		"committed is there":     {proof + knownDigest + "?wait=committed", -1, 0, "committed", 200, 0},
		"not waited for":         {proof + knownDigest, 10 * time.Second, 8, "committed", 200, 0},
		"unknown":                {proof + strings.Repeat("cd", 32) + "?wait=committed&timeout=3s", -1, 0, "", 404, 3 * time.Second},
		"stale":                  {proof + knownDigest + "?wait=attested&consistency=stale", 5 * time.Second, 42, "attested", 200, 5 * time.Second},
		"bundle":                 {proof + knownDigest + "/bundle?wait=attested", 10 * time.Second, 8, "", 200, 10 * time.Second},
		"bundle, in vain":        {proof + knownDigest + "/bundle?wait=attested&timeout=5s", 10 * time.Second, 8, "", 409, 5 * time.Second},
		"bundle, not waited for": {proof + knownDigest + "/bundle", -1, 0, "", 409, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{}
			inBubble(t, f, api.Config{}, func(t *testing.T, l *pipeListener, _ *api.Server) {
				if c.at == 0 {
					f.covers = c.covers
				}
				if c.at > 0 {
					time.AfterFunc(c.at/2, func() { f.move(func() {}) }) // something else
					time.AfterFunc(c.at, func() { f.move(func() { f.covers = c.covers }) })
				}
				res, body, took := ask(t, l, c.target)
				if res.StatusCode != c.status || took < c.within || took > c.within+time.Second {
					t.Fatalf("%d %s after %v, want %d after %v", res.StatusCode, body, took, c.status, c.within)
				}
				if c.finality != "" && finalityOf(t, body) != c.finality {
					t.Errorf("%s, want %s", body, c.finality)
				}
				synctest.Wait() // the handler may still be at its end when its answer is here
				f.allClosed(t)
				if c.at > 0 {
					<-time.After(c.at) // the timers run out in the bubble
				}
			})
		})
	}
}

// TestWaitUntilCommitted: a proof may be waited for before it is there.
func TestWaitUntilCommitted(t *testing.T) {
	f := &fake{unborn: true}
	inBubble(t, f, api.Config{}, func(t *testing.T, l *pipeListener, _ *api.Server) {
		time.AfterFunc(4*time.Second, func() { f.move(func() { f.unborn = false }) })
		res, body, took := ask(t, l, "/v1/proofs/"+knownDigest+"?wait=committed")
		if res.StatusCode != 200 || finalityOf(t, body) != "committed" || took < 4*time.Second || took > 5*time.Second {
			t.Errorf("%d %s after %v", res.StatusCode, body, took)
		}
	})
}

// TestSessionBundle: who waits gets the session as it was when it asked, or later.
func TestSessionBundle(t *testing.T) {
	f := &fake{sessions: []client.Session{{ID: "s"}}, covers: 30}
	inBubble(t, f, api.Config{}, func(t *testing.T, l *pipeListener, _ *api.Server) {
		for target, want := range map[string]string{
			"/v1/sessions/s/bundle":                           `200 {"session":"s","bundle":30}`,
			"/v1/sessions/t/bundle":                           "404",
			"/v1/sessions/t/bundle?wait=attested&timeout=1s":  "404",
			"/v1/sessions/s/bundle?wait=attested&timeout=3s":  "409",
			"/v1/sessions/s/bundle?wait=committed":            `200 {"session":"s","bundle":30}`,
			"/v1/sessions/s/bundle?wait=attested&timeout=31s": "400",
		} {
			res, body, _ := ask(t, l, target)
			if got := fmt.Sprint(res.StatusCode, " ", string(body)); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s, want %s", target, got, want)
			}
		}
		time.AfterFunc(2*time.Second, func() { f.move(func() { f.size, f.covers = 44, 41 }) }) // not all that was there
		time.AfterFunc(6*time.Second, func() { f.move(func() { f.covers = 43 }) })
		res, body, took := ask(t, l, "/v1/sessions/s/bundle?wait=attested")
		if res.StatusCode != 200 || string(body) != "{\"session\":\"s\",\"bundle\":43}\n" || took < 6*time.Second || took > 7*time.Second {
			t.Errorf("%d %s after %v", res.StatusCode, body, took)
		}
		f.move(func() { f.covers = 0 })
		if res, body, _ := ask(t, l, "/v1/sessions/s/bundle"); res.StatusCode != 409 || !strings.Contains(string(body), "wait=attested") {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	})
}

func TestWaitParameters(t *testing.T) {
	s, _ := newServer(t, &fake{}, api.Config{})
	for _, q := range []string{"wait=", "wait=refused", "wait=Attested", "timeout=1s", "wait=attested&timeout=", "wait=attested&timeout=5",
		"wait=attested&timeout=-1s", "wait=attested&timeout=30.001s", "wait=attested&timeout=1s&timeout=1s", "wait=attested&consistency=x", "wait=attested&for=1"} {
		recorded(t, call(s, "GET", "/v1/proofs/"+knownDigest+"?"+q, ""), 400)
	}
}

// TestWaitsAreBounded: beyond so many, one is told to come back; and none holds a place of other requests.
func TestWaitsAreBounded(t *testing.T) {
	f := &fake{}
	inBubble(t, f, api.Config{WaitsMax: 2, RequestsMax: 1}, func(t *testing.T, l *pipeListener, s *api.Server) {
		answers := make(chan int, 3)
		wait := func() {
			res, _, _ := ask(t, l, "/v1/proofs/"+knownDigest+"?wait=attested")
			answers <- res.StatusCode
		}
		go wait()
		synctest.Wait()
		go wait()
		synctest.Wait()
		res, body, _ := ask(t, l, "/v1/proofs/"+knownDigest+"?wait=attested")
		if p := problemOf(t, res, body, 503); res.Header.Get("Retry-After") == "" || !strings.Contains(p.Detail, "2 waits") {
			t.Errorf("%+v", p)
		}
		res, body, _ = ask(t, l, "/metrics")
		for _, want := range []string{`bizra_http_waiting{what="waits"} 2`, `bizra_http_turned_away_total{limit="waits"} 1`} {
			if res.StatusCode != 200 || !strings.Contains(string(body), want) {
				t.Errorf("no %s", want)
			}
		}
		if res, body, _ := ask(t, l, "/v1/policy"); res.StatusCode != 200 {
			t.Errorf("another request: %d %s", res.StatusCode, body)
		}
		f.move(func() { f.covers = 8 })
		if a, b := <-answers, <-answers; a != 200 || b != 200 {
			t.Errorf("%d, %d", a, b)
		}
		go wait()
		if a := <-answers; a != 200 {
			t.Errorf("a place that is free again: %d", a)
		}
	})
}

// TestManyWaits: all that wait for one certificate are answered when it comes, and others meanwhile.
func TestManyWaits(t *testing.T) {
	const waits = 200
	f := &fake{}
	inBubble(t, f, api.Config{RequestsMax: waits}, func(t *testing.T, l *pipeListener, _ *api.Server) {
		answers := make(chan string, waits)
		for range waits {
			go func() {
				_, body, _ := ask(t, l, "/v1/proofs/"+knownDigest+"?wait=attested")
				answers <- finalityOf(t, body)
			}()
		}
		synctest.Wait()
		for range 5 {
			f.move(func() {})
			<-time.After(time.Second)
			if res, body, _ := ask(t, l, "/v1/policy"); res.StatusCode != 200 {
				t.Errorf("%d %s", res.StatusCode, body)
			}
		}
		f.move(func() { f.covers = 8 })
		for range waits {
			if a := <-answers; a != client.FinalityAttested {
				t.Errorf("%s", a)
			}
		}
	})
}

// TestWaitEndsWithItsClient: a client that goes gives its place back.
func TestWaitEndsWithItsClient(t *testing.T) {
	f := &fake{}
	inBubble(t, f, api.Config{WaitsMax: 1}, func(t *testing.T, l *pipeListener, _ *api.Server) {
		c := mustDial(t, l)
		if _, err := io.WriteString(c, "GET /v1/proofs/"+knownDigest+"?wait=attested HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if res, body, took := ask(t, l, "/v1/proofs/"+knownDigest+"?wait=attested&timeout=1s"); res.StatusCode != 200 || took > 2*time.Second {
			t.Errorf("%d %s after %v", res.StatusCode, body, took)
		}
	})
}

// TestShutdownAnswersWaits: what waits is answered with what there is.
func TestShutdownAnswersWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s, _ := newServer(t, f, api.Config{})
		l, served := newPipeListener(), make(chan error)
		go func() { served <- s.Serve(l) }()
		type answer struct {
			status int
			body   []byte
		}
		answers := make(chan answer, 1)
		go func() {
			res, body, _ := ask(t, l, "/v1/proofs/"+knownDigest+"?wait=attested")
			answers <- answer{res.StatusCode, body}
		}()
		synctest.Wait()
		began := time.Now()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if a := <-answers; a.status != 200 || finalityOf(t, a.body) != "committed" {
			t.Errorf("%d %s", a.status, a.body)
		}
		if err := <-served; err != nil || time.Since(began) > time.Second {
			t.Errorf("%v, after %v", err, time.Since(began))
		}
	})
}

func TestCertificatesAndDocuments(t *testing.T) {
	f := &fake{covers: 42, size: 50}
	s, _ := newServer(t, f, api.Config{})
	var sizes []int64
	pages := 0
	for after := int64(0); ; pages++ {
		w := call(s, "GET", fmt.Sprintf("/v1/certificates?after=%d&limit=3", after), "")
		var page client.Certificates
		if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != 200 || len(page.Certificates) > 3 {
			t.Fatalf("%d %s: %v", w.Code, w.Body, err)
		}
		for _, c := range page.Certificates {
			sizes = append(sizes, c.Size)
		}
		if page.Next == nil {
			break
		}
		after = *page.Next
	}
	if fmt.Sprint(sizes) != "[10 20 30 40]" || pages != 1 {
		t.Errorf("sizes %v in %d pages", sizes, pages+1)
	}
	for _, q := range []string{"after=-1", "after=x", "limit=0", fmt.Sprint("limit=", client.CertificatesMax+1), "from=1"} {
		recorded(t, call(s, "GET", "/v1/certificates?"+q, ""), 400)
	}
	w := call(s, "GET", "/v1/documents/"+knownDigest, "")
	if w.Code != 200 || w.Body.String() != `{"version":3}` || w.Header().Get("Content-Type") != client.MediaJSON || w.Header().Get("Cache-Control") != "public, max-age=31536000, immutable" {
		t.Errorf("%d %s %v", w.Code, w.Body, w.Header())
	}
}

func TestPatterns(t *testing.T) {
	f := &fake{}
	for i := range 5 {
		f.patterns = append(f.patterns, client.Pattern{Digest: fmt.Sprintf("%064x", i), Region: []string{"a", "b"}[i%2], Impact: float64(9 - i)})
	}
	s, _ := newServer(t, f, api.Config{})
	var seen []string
	for from := int64(0); ; {
		w := call(s, "GET", fmt.Sprintf("/v1/patterns?region=a&limit=2&from=%d", from), "")
		var page client.Patterns
		if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != 200 || len(page.Patterns) > 2 {
			t.Fatalf("%d %s: %v", w.Code, w.Body, err)
		}
		for _, p := range page.Patterns {
			seen = append(seen, p.Digest[63:])
		}
		if page.Next == nil {
			break
		}
		from = *page.Next
	}
	if fmt.Sprint(seen) != "[0 2 4]" {
		t.Errorf("patterns %v", seen)
	}
	if w := call(s, "GET", "/v1/patterns?region=c", ""); w.Code != 200 || strings.TrimSpace(w.Body.String()) != `{"patterns":[]}` {
		t.Errorf("none: %d %s", w.Code, w.Body)
	}
	for target, status := range map[string]int{"?from=-1": 400, "?limit=501": 400, "?impact=1": 400, "?consistency=stale": 400, "?agent=" + strings.Repeat("a", 257): 400,
		"?name=" + strings.Repeat("a", 256): 200, "/" + strings.Repeat("0", 63) + "3": 200, "/" + knownDigest: 404, "/x": 400} {
		if w := call(s, "GET", "/v1/patterns"+target, ""); w.Code != status {
			t.Errorf("%s: %d %s, want %d", target, w.Code, w.Body, status)
		}
	}
}
