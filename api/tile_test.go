package api_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/api"
	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/internal/testregion"
	"github.com/bizra/bizra/pci"
)

const origin = "test/a"

func reader() *pci.PrivateKey { return testfed.Key("reader") }

func readers() api.Config {
	return api.Config{Origin: origin, Readers: [][32]byte{reader().Public()}}
}

func bearer(key *pci.PrivateKey, valid time.Duration) string {
	return "Bearer " + client.ReaderToken(key, origin, time.Now().Add(valid))
}

// certifiedLedger is a backend over a region with more than two tiles of entries, of which
// the last few are in no certificate.
func certifiedLedger(t testing.TB) (*fake, *testregion.Region) {
	t.Helper()
	r := testregion.New(t, testfed.New(4, 1), "a")
	var step func()
	for i := range 10 { // a session has at most 64 tips
		id := fmt.Sprint("s", i)
		a, last := r.Session("alice"+id, id)
		step = func() {
			last = r.Accept(a.Sign("session.branch", map[string]any{"session": id, "name": "b"}, last.Head))
		}
		for range 60 {
			step()
		}
	}
	seal := r.Seal()
	f := &fake{ledger: r.View().Ledger(), note: r.Certify(seal), covers: seal.Size}
	step()
	f.ledger = r.View().Ledger()
	return f, r
}

func TestCheckpoint(t *testing.T) {
	f, r := certifiedLedger(t)
	s, _ := newServer(t, f, api.Config{})
	w := call(s, "GET", "/checkpoint", "")
	if w.Code != 200 || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" || w.Header().Get("Cache-Control") != "no-cache" {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	if c, _, err := certificate.Verify(w.Body.Bytes(), r.Document()); err != nil || c.Size != f.covers {
		t.Errorf("checkpoint %+v: %v", c, err)
	}
	f.note = nil
	p := recorded(t, call(s, "GET", "/checkpoint", ""), 404)
	if !strings.Contains(p.Detail, "no certificate yet") {
		t.Errorf("problem %+v", p)
	}
	recorded(t, call(s, "GET", "/checkpoint?x=1", ""), 400)
	recorded(t, call(s, "POST", "/checkpoint", ""), 405)
}

func TestTiles(t *testing.T) {
	f, _ := certifiedLedger(t)
	size, err := f.ledger.Size()
	if err != nil || size < 2*256+64 || f.covers != size-1 {
		t.Fatalf("%d entries of which %d are certified: %v", size, f.covers, err)
	}
	s, _ := newServer(t, f, readers())
	last := size - 512
	token := bearer(reader(), time.Hour)
	for _, tt := range []struct {
		path   string
		status int
		cache  string
		length int // 0: any
	}{
		{"/tile/0/000", 200, "public, max-age=31536000, immutable", 256 * 32},
		{"/tile/0/001.p/3", 200, "public, max-age=31536000, immutable", 3 * 32},
		{"/tile/1/000.p/2", 200, "public, max-age=31536000, immutable", 2 * 32},
		{torchwood.TilePath(tlog.Tile{H: 8, L: 0, N: 2, W: int(last - 1)}), 200, "public, max-age=31536000, immutable", 0},
		{torchwood.TilePath(tlog.Tile{H: 8, L: 0, N: 2, W: int(last)}), 200, "no-store", 0},
		{torchwood.TilePath(tlog.Tile{H: 8, L: 0, N: 2, W: int(last + 1)}), 404, "", 0},
		{"/tile/1/000.p/3", 404, "", 0},
		{"/tile/1/000", 404, "", 0},
		{"/tile/entries/001", 200, "private, max-age=31536000, immutable", 0},
		{torchwood.TilePath(tlog.Tile{H: 8, L: -1, N: 2, W: int(last)}), 200, "no-store", 0},
		{"/tile/entries/999", 404, "", 0},
		{"/tile/entries/x999/x999/999", 404, "", 0},
		{"/tile/0/0", 404, "", 0},
		{"/tile/0/000.p/256", 404, "", 0},
		{"/tile/0/000.p/0", 404, "", 0},
		{"/tile/-1/000", 404, "", 0},
		{"/tile/data/000", 404, "", 0},
		{"/tile/64/000", 404, "", 0},
		{"/tile/63/000", 404, "", 0},
		{"/tile/8/0/000", 404, "", 0},
		{"/tile/", 404, "", 0},
		{"/tile/0/000?x=1", 400, "", 0},
	} {
		if !strings.HasPrefix(tt.path, "/") {
			tt.path = "/" + tt.path
		}
		w := call(s, "GET", tt.path, "", "Authorization", token)
		if tt.status != 200 {
			recorded(t, w, tt.status)
			continue
		}
		if w.Code != 200 || w.Header().Get("Content-Type") != "application/octet-stream" || w.Header().Get("Cache-Control") != tt.cache ||
			tt.length > 0 && w.Body.Len() != tt.length {
			t.Errorf("%s: %d %v, %d bytes", tt.path, w.Code, w.Header(), w.Body.Len())
		}
	}
	if w := call(s, "HEAD", "/tile/0/000", ""); w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Length") != "8192" {
		t.Errorf("HEAD: %d %v", w.Code, w.Header())
	}
	recorded(t, call(s, "POST", "/tile/0/000", ""), 405)
	f.allClosed(t)
}

// TestEntriesNeedReader: nobody reads what agents sent but who holds a listed key, and hash tiles are everybody's.
func TestEntriesNeedReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := certifiedLedger(t)
		s, _ := newServer(t, f, readers())
		token := bearer(reader(), time.Hour)
		for name, tt := range map[string]struct {
			header string
			status int
		}{
			"none":               {"", 401},
			"another scheme":     {"Basic dXNlcjpwYXNz", 401},
			"no token":           {"Bearer", 401},
			"garbage":            {"Bearer x.y.z", 401},
			"expired":            {bearer(reader(), 0), 401},
			"for too long":       {bearer(reader(), client.ReaderTokenLongest+time.Minute), 401},
			"for another region": {"Bearer " + client.ReaderToken(reader(), "test/b", time.Now().Add(time.Hour)), 401},
			"a key not listed":   {bearer(testfed.Key("other"), time.Hour), 403},
			"a listed key":       {token, 200},
			"in small letters":   {"bearer" + strings.TrimPrefix(token, "Bearer"), 200},
		} {
			w := call(s, "GET", "/tile/entries/000", "", "Authorization", tt.header)
			if tt.status == 200 {
				if w.Code != 200 {
					t.Errorf("%s: %d %s", name, w.Code, w.Body)
				}
				continue
			}
			p := recorded(t, w, tt.status)
			if challenge := w.Header().Get("WWW-Authenticate"); (challenge == `Bearer realm="entries"`) != (tt.status == 401) {
				t.Errorf("%s: WWW-Authenticate %q", name, challenge)
			}
			if bytes.Contains(w.Body.Bytes(), []byte("session.branch")) {
				t.Errorf("%s: it shows entries: %+v", name, p)
			}
		}
		<-time.After(2 * time.Hour)
		recorded(t, call(s, "GET", "/tile/entries/000", "", "Authorization", token), 401)
		if w := call(s, "GET", "/tile/0/000", ""); w.Code != 200 {
			t.Errorf("a tile of hashes: %d", w.Code)
		}
		open, _ := newServer(t, f, api.Config{OpenEntries: true})
		if w := call(open, "GET", "/tile/entries/000", ""); w.Code != 200 || w.Header().Get("Cache-Control") != "public, max-age=31536000, immutable" {
			t.Errorf("where entries are open: %d %v", w.Code, w.Header())
		}
		// The zero configuration opens nothing.
		closed, _ := newServer(t, f, api.Config{})
		recorded(t, call(closed, "GET", "/tile/entries/000", "", "Authorization", token), 401)
	})
}

// withToken sends a reader token with each request.
type withToken struct{ token string }

func (c withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", c.token)
	return http.DefaultTransport.RoundTrip(r)
}

// TestTorchwoodReadsServer: torchwood's client reads checkpoint and ledger of a server of ours, by
// a policy made of the document, and finds every entry under the certified root.
func TestTorchwoodReadsServer(t *testing.T) {
	f, r := certifiedLedger(t)
	s, _ := newServer(t, f, readers())
	srv := httptest.NewServer(s.Handler())
	defer srv.Close()
	fetcher, err := torchwood.NewTileFetcher(srv.URL, torchwood.WithHTTPClient(&http.Client{Transport: withToken{bearer(reader(), time.Hour)}}))
	if err != nil {
		t.Fatal(err)
	}
	text, err := fetcher.ReadEndpoint(t.Context(), "checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	policy, err := certificate.Policy(r.Document(), "a")
	if err != nil {
		t.Fatal(err)
	}
	checkpoint, _, err := torchwood.VerifyCheckpoint(text, policy)
	if err != nil {
		t.Fatal(err)
	}
	c, err := torchwood.NewClient(fetcher)
	if err != nil {
		t.Fatal(err)
	}
	read := int64(0)
	for i, entry := range c.AllEntries(t.Context(), checkpoint.Tree, 0) {
		want, err := f.ledger.Entry(i)
		if err != nil || i != read || !bytes.Equal(entry, want) {
			t.Fatalf("entry %d: %q: %v", i, entry, err)
		}
		read++
	}
	if err := c.Err(); err != nil || read != f.covers {
		t.Errorf("%d of %d entries were read: %v", read, f.covers, err)
	}
}

// TestBundlesBounded: bundles on their way out take no more memory than they may.
func TestBundlesBounded(t *testing.T) {
	f, _ := certifiedLedger(t)
	s, reg := newServer(t, f, api.Config{OpenEntries: true, BundlesBytesMax: 256 * 65537})
	block := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.Handler().ServeHTTP(slow{w, block}, r) }))
	defer srv.Close()
	bundle := call(s, "GET", "/tile/entries/000", "").Body.Len()
	fits := 256 * 65537 / bundle
	answers := make(chan int, 2*fits)
	for range fits + 8 {
		go func() {
			res, err := http.Get(srv.URL + "/tile/entries/000")
			if err != nil {
				answers <- 0
				return
			}
			_ = res.Body.Close()
			answers <- res.StatusCode
		}()
	}
	for i := range 8 { // those that do not fit are turned away while the others hang
		if status := <-answers; status != http.StatusServiceUnavailable {
			t.Errorf("answer %d: %d", i, status)
		}
	}
	close(block)
	for range fits {
		if status := <-answers; status != http.StatusOK {
			t.Errorf("one that fits: %d", status)
		}
	}
	if w := call(s, "GET", "/tile/entries/000", ""); w.Code != 200 {
		t.Errorf("afterwards: %d: memory was not given back", w.Code)
	}
	if n := counterWith(t, reg, "bizra_http_turned_away_total", "limit", "bundles"); n != 8 {
		t.Errorf("%v were counted as turned away", n)
	}
}

// slow writes large answers only when it is let.
type slow struct {
	http.ResponseWriter
	block chan struct{}
}

func (s slow) Write(b []byte) (int, error) {
	if len(b) > 4096 {
		<-s.block
	}
	return s.ResponseWriter.Write(b)
}
