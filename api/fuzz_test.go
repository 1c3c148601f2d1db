package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"filippo.io/torchwood"

	"github.com/bizra/bizra/api"
	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/pci"
)

// FuzzLines: whatever the body, there is one answer for each of its lines, in order,
// and the backend gets each line that it needs exactly once and unchanged.
func FuzzLines(f *testing.F) {
	good := envelope(f, map[string]any{"n": 1})
	for _, seed := range [][]byte{nil, []byte("\n"), []byte("\n\n"), []byte("{}\n{}"), []byte("a\r\nb\r\n"), []byte("\xff\n\x00"), good, append(append(good, '\n'), good...),
		[]byte(" \n \t\r\n"), []byte("{\"a\":\"\u2028\"}\n"), bytes.Repeat([]byte("{}\n"), 513)} {
		f.Add(seed)
	}
	backend := &fake{submit: func(_ context.Context, raw [][]byte) ([]api.Outcome, error) {
		outs := make([]api.Outcome, len(raw))
		for i := range raw {
			outs[i] = api.Outcome{Code: pci.Success, Receipt: json.RawMessage(`{"n":1}`)}
		}
		return outs, nil
	}}
	s, _ := newServer(f, backend, api.Config{})
	f.Fuzz(func(t *testing.T, body []byte) {
		backend.batches = nil
		w := call(s, "POST", "/v1/proofs", string(body), "Content-Type", client.MediaNDJSON)
		lines := bytes.Split(body, []byte{'\n'})
		if last := len(lines) - 1; len(bytes.Trim(lines[last], " \t\r")) == 0 {
			lines = lines[:last]
		}
		switch {
		case len(lines) == 0 && w.Code == 400, len(lines) > client.BatchLinesMax && w.Code == 413:
			return
		case w.Code != 200:
			t.Fatalf("%d for %d lines: %s", w.Code, len(lines), w.Body)
		}
		answers := bytes.Split(bytes.TrimSuffix(w.Body.Bytes(), []byte{'\n'}), []byte{'\n'})
		if len(answers) != len(lines) {
			t.Fatalf("%d answers for %d lines", len(answers), len(lines))
		}
		sent := 0
		for i, line := range lines {
			line = bytes.Trim(line, " \t\r")
			if !json.Valid(answers[i]) {
				t.Fatalf("answer %d is no JSON: %q", i, answers[i])
			}
			if len(line) == 0 || len(line) > pci.EnvelopeBytesMax {
				continue
			}
			if !bytes.Equal(backend.batches[0][sent], line) {
				t.Fatalf("line %d reached the backend as %q, was %q", i, backend.batches[0][sent], line)
			}
			sent++
		}
	})
}

// FuzzBody: no body, announced as whatever, panics or is answered without JSON.
func FuzzBody(f *testing.F) {
	good := envelope(f, map[string]any{"n": 1})
	f.Add(good, "application/json")
	f.Add(good, "application/x-ndjson")
	f.Add([]byte(`{"version":"1.0.0"`), "")
	f.Add([]byte("\x00"), "text/plain; charset=\"")
	s, reg := newServer(f, &fake{}, api.Config{})
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		w := call(s, "POST", "/v1/proofs", string(body), "Content-Type", contentType)
		for line := range bytes.Lines(w.Body.Bytes()) {
			if !json.Valid(line) {
				t.Fatalf("%d: %q", w.Code, line)
			}
		}
		if w.Code == 500 || counter(t, reg, "bizra_http_panics_total") != 0 {
			t.Fatalf("%d: %s", w.Code, w.Body)
		}
	})
}

// FuzzTilePath: whatever the path, a tile is there under one name only, and nothing panics.
func FuzzTilePath(f *testing.F) {
	for _, seed := range []string{"0/000", "entries/000", "0/000.p/7", "data/000", "x001/000", "63/x999/999", "-1/000", "8/0/000", "0/000.p/0"} {
		f.Add(seed)
	}
	backend, _ := certifiedLedger(f)
	s, _ := newServer(f, backend, api.Config{OpenEntries: true})
	f.Fuzz(func(t *testing.T, path string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Path = "/tile/" + path
		w := serve(s, r)
		if w.Code == 200 {
			tile, err := torchwood.ParseTilePath("tile/" + path)
			if err != nil || torchwood.TilePath(tile) != "tile/"+path || tile.L >= 0 && w.Body.Len() != 32*tile.W {
				t.Fatalf("/tile/%s: %d bytes of tile %+v: %v", path, w.Body.Len(), tile, err)
			}
		}
	})
}

// FuzzTarget: whatever path, query and headers a client sends, it gets an answer: JSON where it is a problem, and nothing panics.
func FuzzTarget(f *testing.F) {
	for _, seed := range [][2]string{{"/v1/proofs/" + knownDigest, "consistency=stale"}, {"/v1/sessions", "limit=1000&after=x"}, {"/v1/sessions/s/history", "from=-1&limit=x"},
		{"/v1/agents/a", "consistency=%zz"}, {"/v1/certificates", "from=9223372036854775808"}, {"/v1/patterns", "limit=0"}, {"/v1/events", "from=3&kinds=receipt,x"},
		{"/v1/documents/0", ""}, {"/v1/proofs/" + knownDigest + "/bundle", "wait=attested&timeout=-1s"}, {"/checkpoint", ""}, {"/nothing", "?"}} {
		f.Add(seed[0], seed[1], "Bearer x", "7")
	}
	backend, _ := certifiedLedger(f)
	s, reg := newServer(f, backend, api.Config{})
	f.Fuzz(func(t *testing.T, path, query, authorization, lastEvent string) {
		if !strings.HasPrefix(path, "/") {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond) // it may ask to wait, or for a stream of events
		defer cancel()
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Path, r.URL.RawQuery = path, query
		r.Header["Authorization"], r.Header["Last-Event-Id"] = []string{authorization}, []string{lastEvent}
		w := serve(s, r.WithContext(ctx))
		if w.Header().Get("Content-Type") == client.MediaProblem && !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%d: %q", w.Code, w.Body)
		}
		if counter(t, reg, "bizra_http_panics_total") != 0 {
			t.Fatalf("%d: %s", w.Code, w.Body)
		}
	})
}
