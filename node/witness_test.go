package node

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/internal/testregion"
)

// standing is a witness as c2sp.org/tlog-witness has it: it keeps the newest tree of one
// log and cosigns what extends it.
type standing struct {
	log    note.Verifier
	signer *torchwood.CosignatureSigner

	mu       sync.Mutex
	tree     tlog.Tree
	requests int
	answer   func(w http.ResponseWriter) bool // answers instead, if it returns true
}

func newStanding(t *testing.T, fed *testfed.Federation) *standing {
	t.Helper()
	seed := testfed.Key("witness").Seed()
	signer, err1 := torchwood.NewCosignatureSigner("witness.example/w", ed25519.NewKeyFromSeed(seed[:]))
	log, err2 := checkpoint.Verifier("test/a", fed.LogKeys["a"].Public())
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return &standing{log: log, signer: signer}
}

func (s *standing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	if s.answer != nil && s.answer(w) {
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 10<<10))
	if err != nil || r.URL.Path != "/prefix/add-checkpoint" || r.Method != http.MethodPost {
		http.Error(w, "what is this", http.StatusBadRequest)
		return
	}
	head, signed, _ := bytes.Cut(body, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	old, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "old "), 10, 64)
	n, err2 := note.Open(signed, note.VerifierList(s.log))
	if err != nil || err2 != nil {
		http.Error(w, "not signed", http.StatusForbidden)
		return
	}
	c, err := torchwood.ParseCheckpoint(n.Text)
	if err != nil || old != s.tree.N {
		w.WriteHeader(http.StatusConflict)
		fmt.Fprintf(w, "%d\n", s.tree.N)
		return
	}
	var proof tlog.TreeProof
	for _, l := range lines[1:] {
		h, err := tlog.ParseHash(l)
		if err != nil {
			http.Error(w, "no hash", http.StatusBadRequest)
			return
		}
		proof = append(proof, h)
	}
	if old > 0 && tlog.CheckTree(proof, c.N, c.Hash, old, s.tree.Hash) != nil {
		http.Error(w, "no extension", http.StatusUnprocessableEntity)
		return
	}
	s.tree = c.Tree
	cosigned, err := note.Sign(&note.Note{Text: n.Text}, s.signer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(cosigned[len(n.Text)+1:])
}

// watched is a region with a witness beside it.
func watched(t *testing.T) (*testregion.Region, *standing, *witnesses) {
	t.Helper()
	r := testregion.New(t, testfed.New(4, 1), "a")
	s := newStanding(t, r.Fed)
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	w, err := newWitnesses([]Witness{{Key: s.signer.Verifier().String(), URL: srv.URL + "/prefix/"}}, r.Machine.View, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r, s, w
}

// certified has the region certify one more seal.
func certified(t *testing.T, r *testregion.Region) *fsm.Seal {
	t.Helper()
	seal := r.Seal()
	if res := r.Apply(fsm.EncodeCertify(seal.Number, r.Certify(seal))); !res.Attested.Accepted() {
		t.Fatalf("certify: %+v", res.Attested)
	}
	return seal
}

// TestWitnessCosigns: each newest certificate is shown with a proof, once, and its line is served behind it.
func TestWitnessCosigns(t *testing.T) {
	r, s, w := watched(t)
	x := w.all[0]
	if err := w.ask(t.Context(), x); err != nil || s.requests != 0 {
		t.Fatalf("without a certificate: %d requests: %v", s.requests, err)
	}
	for i := range 3 {
		r.Session(fmt.Sprint("alice", i), fmt.Sprint("s", i))
		seal := certified(t, r)
		for range 2 {
			if err := w.ask(t.Context(), x); err != nil || s.requests != i+1 || s.tree.N != seal.Size {
				t.Fatalf("certificate %d: %d requests, the witness is at %d of %d: %v", i, s.requests, s.tree.N, seal.Size, err)
			}
		}
		v, err := newAPIView(r.View(), "a")
		if err != nil {
			t.Fatal(err)
		}
		v.witnesses = w
		served, _, err := v.Checkpoint()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := torchwood.VerifyCheckpoint(served, torchwood.ThresholdPolicy(2, torchwood.OriginPolicy("test/a"), torchwood.SingleVerifierPolicy(s.signer.Verifier()))); err != nil {
			t.Errorf("certificate %d: the witness's line is not there: %v\n%s", i, err, served)
		}
		if _, c, _, err := certificate.WithoutWitnesses(served, r.Document()); err != nil || c.Size != seal.Size {
			t.Errorf("certificate %d: without witnesses: %v", i, err)
		}
	}
}

// TestWitnessKnowsOtherSize: a witness that another node has shown more or less than we know is asked again from there.
func TestWitnessKnowsOtherSize(t *testing.T) {
	r, s, w := watched(t)
	r.Session("alice", "s1")
	certified(t, r)
	if err := w.ask(t.Context(), w.all[0]); err != nil {
		t.Fatal(err)
	}
	r.Session("bob", "s2")
	seal := certified(t, r)
	w.all[0].known, w.all[0].body = 0, "" // a node that starts again knows nothing
	if err := w.ask(t.Context(), w.all[0]); err != nil || s.requests != 3 || s.tree.N != seal.Size {
		t.Errorf("%d requests, the witness is at %d of %d: %v", s.requests, s.tree.N, seal.Size, err)
	}
	w.all[0].known, w.all[0].body = 0, ""
	s.tree.N = seal.Size + 100
	if err := w.ask(t.Context(), w.all[0]); err != nil || len(w.lines(seal.Body())) != 0 {
		t.Errorf("a witness that is ahead of us: %v", err)
	}
}

// TestWitnessFails: whatever a witness answers, nothing is served that does not hold.
func TestWitnessFails(t *testing.T) {
	r, s, w := watched(t)
	r.Session("alice", "s1")
	seal := certified(t, r)
	says := func(status int, text string) func(http.ResponseWriter) bool {
		return func(w http.ResponseWriter) bool {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
			return true
		}
	}
	other, err := certificate.Cosign(seal.Body(), "b", r.Fed.Cosign["b"], testregion.CosignSeconds)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		answer func(http.ResponseWriter) bool
		want   string
	}{
		"unknown log":         {says(404, "unknown"), "does not know the log"},
		"unknown key":         {says(403, ""), "does not accept the log key"},
		"no extension":        {says(422, ""), "do not extend"},
		"broken":              {says(500, "oops"), `answers 500: "oops"`},
		"a redirect":          {func(w http.ResponseWriter) bool { w.Header().Set("Location", "/x"); w.WriteHeader(302); return true }, "answers 302"},
		"a size of nothing":   {says(409, "soon"), "without its size"},
		"a negative size":     {says(409, "-1"), "without its size"},
		"nothing":             {says(200, ""), "not an outside witness's line"},
		"garbage":             {says(200, strings.Repeat("x", 1<<20)), "not an outside witness's line"},
		"another's signature": {says(200, string(other)), "not an outside witness's line"},
	} {
		s.answer = tt.answer
		w.all[0].known = 0
		if err := w.ask(t.Context(), w.all[0]); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
		if len(w.lines(seal.Body())) != 0 {
			t.Errorf("%s: a line is served", name)
		}
	}
	s.answer, w.all[0].known = nil, 0
	if err := w.ask(t.Context(), w.all[0]); err != nil || len(w.lines(seal.Body())) != 1 {
		t.Errorf("afterwards: %v", err)
	}
}

func TestWitnessConfig(t *testing.T) {
	key := newStanding(t, testfed.New(4, 1)).signer.Verifier().String()
	for name, tt := range map[string]struct {
		list []Witness
		ok   bool
	}{
		"none":           {nil, true},
		"one":            {[]Witness{{key, "https://witness.example"}}, true},
		"no key":         {[]Witness{{"", "https://witness.example"}}, false},
		"a log's key":    {[]Witness{{strings.Replace(key, "+", "+0", 1), "https://witness.example"}}, false},
		"no URL":         {[]Witness{{key, ""}}, false},
		"another scheme": {[]Witness{{key, "file:///etc/passwd"}}, false},
		"a query":        {[]Witness{{key, "https://witness.example/?a=b"}}, false},
		"as many":        {many(key, WitnessesMax), true},
		"too many":       {many(key, WitnessesMax+1), false},
	} {
		if _, err := newWitnesses(tt.list, nil, nil); (err == nil) != tt.ok {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func many(key string, count int) (list []Witness) {
	for range count {
		list = append(list, Witness{key, "https://witness.example"})
	}
	return list
}
