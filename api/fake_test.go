package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/api"
	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/pci"
)

// fake is a backend that decodes and verifies for real and accepts what passes,
// unless a test says otherwise.
type fake struct {
	mu       sync.Mutex
	batches  [][][]byte // as they came
	submit   func(ctx context.Context, raw [][]byte) ([]api.Outcome, error)
	view     func(ctx context.Context, c api.Consistency) (api.View, error)
	adopt    func(envelope, document []byte) (api.Outcome, error)
	ready    error
	sessions []client.Session
	nodes    []client.Node
	open     int // views
	ledger   ledger.View
	note     []byte // of the newest certificate
	covers   int64  // entries that it covers
	size     int64  // entries; 0: 42
	outlook  client.Outlook
	patterns []client.Pattern
	changed  chan struct{} // nil: never
	unborn   bool          // the known proof is not there yet
	gone     bool          // the state is being replaced
}

// change changes the backend and tells nobody.
func (f *fake) change(how func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how()
}

// move changes the backend and says so.
func (f *fake) move(how func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how()
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// allClosed demands that no view is open.
func (f *fake) allClosed(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open != 0 {
		t.Errorf("%d views were left open", f.open)
	}
}

func (f *fake) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.changed
}

func (f *fake) Outlook(context.Context) (*client.Outlook, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.outlook
	o.Certified, o.Alarms = slices.Clone(o.Certified), slices.Clone(o.Alarms)
	return &o, nil
}

func (f *fake) Patterns(_ context.Context, filter client.PatternFilter, from, limit int) ([]client.Pattern, error) {
	var list []client.Pattern
	for _, p := range f.patterns {
		if filter.Region == "" || p.Region == filter.Region {
			list = append(list, p)
		}
	}
	return list[min(from, len(list)):min(from+limit, len(list))], nil
}

func (f *fake) Pattern(_ context.Context, digest [32]byte) (*client.PatternRecord, error) {
	for _, p := range f.patterns {
		if p.Digest == hexOf(digest) {
			return &client.PatternRecord{Pattern: p, Proof: json.RawMessage(`{}`)}, nil
		}
	}
	return nil, api.ErrNotFound
}

func (f *fake) Submit(ctx context.Context, raw [][]byte) ([]api.Outcome, error) {
	f.mu.Lock()
	f.batches = append(f.batches, raw)
	f.mu.Unlock()
	if f.submit != nil {
		return f.submit(ctx, raw)
	}
	outs := make([]api.Outcome, len(raw))
	for i, b := range raw {
		env, err := pci.Decode(b)
		if err == nil {
			err = env.Verify()
		}
		if err != nil {
			outs[i].Err = err
			continue
		}
		outs[i] = receipt(pci.Success, hexOf(env.Digest()))
	}
	return outs, nil
}

func (f *fake) Adopt(_ context.Context, envelope, document []byte) (api.Outcome, error) {
	return f.adopt(envelope, document)
}

func hexOf(b [32]byte) string { return hex.EncodeToString(b[:]) }

// Judge knows no constitution: what names itself bad is denied.
func (f *fake) Judge(_ context.Context, q client.Question) (*client.Judgement, error) {
	if strings.Contains(string(q.Data), "bad") {
		return &client.Judgement{DecidedBy: client.DecidedByRule, Rule: "no-bad", PolicyHash: knownDigest}, nil
	}
	return &client.Judgement{Passed: true, DecidedBy: client.DecidedByNone, PolicyHash: knownDigest}, nil
}

type plainReceipt client.Receipt

func (r plainReceipt) MarshalJSON() ([]byte, error) { return json.Marshal(client.Receipt(r)) }

func receipt(code pci.Code, digest string) api.Outcome {
	index := int64(7)
	return api.Outcome{Code: code, Receipt: plainReceipt{Version: 1, Digest: digest, Code: code, Name: code.String(),
		Message: code.Sentence(), Finality: client.FinalityCommitted, Index: &index}}
}

func (f *fake) View(ctx context.Context, c api.Consistency) (api.View, error) {
	if f.view != nil {
		return f.view(ctx, c)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return nil, &api.Unavailable{Reason: "The state is being replaced"}
	}
	f.open++
	v := &fakeView{f, f.size, f.covers, f.unborn}
	if v.size == 0 {
		v.size = 42
	}
	return v, nil
}

func (f *fake) Status(context.Context) (*client.Status, error) {
	return &client.Status{Node: "a-1", Region: "a", Role: client.RoleVoter, Raft: client.RaftStatus{State: "leader"}}, nil
}

func (f *fake) Peers(context.Context) (*client.Peers, error) { return &client.Peers{}, nil }
func (f *fake) Ready(context.Context) error                  { return f.ready }

const knownUUID = "6f1c2f0e-0c39-4c5c-9d0e-3b7d6c2b9a11"

var knownDigest = strings.Repeat("ab", 32)

// fakeView is the backend as it was when the view was opened.
type fakeView struct {
	f      *fake
	size   int64
	covers int64
	unborn bool
}

func (v *fakeView) Entries() int64 { return v.size }

func (v *fakeView) CertifiedSize() (int64, error) { return v.covers, nil }

// knows says whether a name is that of the one known proof, which is entry 7.
func (v *fakeView) knows(p api.Proof) error {
	if v.unborn || p.EnvelopeID == "" && hexOf(p.Digest) != knownDigest || p.EnvelopeID != "" && p.EnvelopeID != knownUUID {
		return api.ErrNotFound
	}
	return nil
}

func (v *fakeView) Receipt(p api.Proof) (*api.Receipt, error) {
	if err := v.knows(p); err != nil {
		return nil, err
	}
	m, err := v.ReceiptAt(7)
	return &api.Receipt{Marshaler: m, Index: 7}, err
}

// ReceiptAt knows every second entry for a proof's.
func (v *fakeView) ReceiptAt(index int64) (json.Marshaler, error) {
	if index%2 == 0 {
		return nil, nil
	}
	r := client.Receipt(receipt(pci.Success, knownDigest).Receipt.(plainReceipt))
	r.Index = &index
	if index < v.covers {
		r.Finality = client.FinalityAttested
	}
	return plainReceipt(r), nil
}

func (v *fakeView) Inclusion(p api.Proof) (*client.Inclusion, error) {
	return &client.Inclusion{Index: 0, Size: 1, Root: knownDigest, LeafHash: knownDigest, Path: []string{}}, v.knows(p)
}

func (v *fakeView) Bundle(p api.Proof) ([]byte, error) {
	if err := v.knows(p); err != nil {
		return nil, err
	}
	if v.covers <= 7 {
		return nil, api.ErrNotAttested
	}
	return fmt.Appendf(nil, "{\"bundle\":%d}\n", v.covers), nil
}

func (v *fakeView) SessionBundle(id string) ([]byte, error) {
	if v.covers == 0 {
		return nil, api.ErrNotAttested
	}
	return fmt.Appendf(nil, "{\"session\":%q,\"bundle\":%d}\n", id, v.covers), nil
}

// Certificates are at every tenth size.
func (v *fakeView) Certificates(after int64, limit int) ([]client.Certificate, error) {
	var list []client.Certificate
	for size := after/10*10 + 10; size <= v.covers && len(list) < limit; size += 10 {
		list = append(list, client.Certificate{Size: size, Note: fmt.Sprint("note ", size)})
	}
	return list, nil
}

func (v *fakeView) DocumentText(digest [32]byte) ([]byte, error) {
	if hexOf(digest) != knownDigest {
		return nil, api.ErrNotFound
	}
	return []byte(`{"version":3}`), nil
}

func (v *fakeView) Session(id string) (*client.Session, error) {
	for _, s := range v.f.sessions {
		if s.ID == id {
			return &s, nil
		}
	}
	return nil, api.ErrNotFound
}

func (v *fakeView) Sessions(after string, limit int) ([]client.Session, error) {
	var page []client.Session
	for _, s := range v.f.sessions {
		if s.ID > after && len(page) < limit {
			page = append(page, s)
		}
	}
	return page, nil
}

func (v *fakeView) History(id string, from int64, limit int) ([]client.Node, error) {
	if _, err := v.Session(id); err != nil {
		return nil, err
	}
	from = min(from, int64(len(v.f.nodes)))
	return v.f.nodes[from:min(int(from)+limit, len(v.f.nodes))], nil
}

func (v *fakeView) Agent(id string) (*client.AgentRecord, error) {
	if id != "alice" {
		return nil, api.ErrNotFound
	}
	return &client.AgentRecord{Agent: client.Agent{AgentID: id}, Standing: client.Standing{Breaker: "clear", MeasuredSNR: 1}}, nil
}

func (v *fakeView) Agents(string, int) ([]client.Agent, error) { return nil, nil }

// Market is none where there are no sessions.
func (v *fakeView) Market() (*client.Market, error) {
	if len(v.f.sessions) == 0 {
		return nil, api.ErrNotFound
	}
	return &client.Market{Region: "a", Gini: 1}, nil
}

func (v *fakeView) Holder(owner string) (*client.Holder, error) {
	if owner != "acme" {
		return nil, api.ErrNotFound
	}
	return &client.Holder{Owner: owner}, nil
}

func (v *fakeView) Holders(after string, limit int) ([]client.Holder, error) {
	var list []client.Holder
	for _, s := range v.f.sessions {
		if s.ID > after && len(list) < limit {
			list = append(list, client.Holder{Owner: s.ID})
		}
	}
	return list, nil
}

func (v *fakeView) Licence(number int64) (*client.Licence, error) {
	if number >= int64(len(v.f.nodes)) {
		return nil, api.ErrNotFound
	}
	return &client.Licence{Number: number}, nil
}

func (v *fakeView) Licences(from int64, limit int) ([]client.Licence, error) {
	var list []client.Licence
	for n := from; n < int64(len(v.f.nodes)) && len(list) < limit; n++ {
		list = append(list, client.Licence{Number: n})
	}
	return list, nil
}

func (v *fakeView) Epochs(before int64, limit int) ([]client.Epoch, error) {
	var list []client.Epoch
	for n := min(before-1, int64(len(v.f.nodes))); n >= 1 && len(list) < limit; n-- {
		list = append(list, client.Epoch{Number: n})
	}
	return list, nil
}

func (v *fakeView) Federation() (*client.Federation, error) {
	return &client.Federation{Federation: "f", Region: "a", Version: 3, Digest: knownDigest, PolicyHash: knownDigest, Document: json.RawMessage(`{}`)}, nil
}

func (v *fakeView) Policy() (*client.Policy, error) {
	return &client.Policy{PolicyHash: knownDigest, Region: "a", Constitution: json.RawMessage(`{"version":1}`)}, nil
}

func (v *fakeView) Checkpoint() ([]byte, int64, error) {
	if v.f.note == nil {
		return nil, 0, api.ErrNotFound
	}
	return v.f.note, v.f.covers, nil
}

func (v *fakeView) Tile(t tlog.Tile) ([]byte, error) {
	if v.f.ledger.Reader == nil {
		return nil, api.ErrNotFound
	}
	b, err := v.f.ledger.Tile(t)
	if errors.Is(err, ledger.ErrOutOfRange) {
		err = errors.Join(api.ErrNotFound, err)
	}
	return b, err
}

func (v *fakeView) Close() error {
	v.f.mu.Lock()
	defer v.f.mu.Unlock()
	v.f.open--
	return nil
}

// newServer makes a server over the backend; cfg needs no registry.
func newServer(t testing.TB, b api.Backend, cfg api.Config) (*api.Server, *prometheus.Registry) {
	t.Helper()
	cfg.Registry = prometheus.NewRegistry()
	s, err := api.New(b, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, cfg.Registry
}

// call sends one request without a network. headers alternate names and values.
func call(s *api.Server, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

// problemOf demands that an answer is a problem document that says what to do.
func problemOf(t *testing.T, res *http.Response, body []byte, status int) client.Problem {
	t.Helper()
	if res.StatusCode != status || res.Header.Get("Content-Type") != client.MediaProblem {
		t.Fatalf("%d %s: %s; want a problem with status %d", res.StatusCode, res.Header.Get("Content-Type"), body, status)
	}
	var p client.Problem
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		t.Fatalf("problem %s: %v", body, err)
	}
	if p.Status != status || p.Title == "" || p.Detail == "" || p.Type == "" || p.Instance == "" {
		t.Fatalf("problem %s: status, type, title, detail and instance must be filled in", body)
	}
	return p
}

func recorded(t *testing.T, w *httptest.ResponseRecorder, status int) client.Problem {
	t.Helper()
	return problemOf(t, w.Result(), w.Body.Bytes(), status)
}

// envelope signs a proof with a fixed key.
func envelope(t testing.TB, data map[string]any) []byte {
	t.Helper()
	v, err := pci.FromGo(data)
	if err != nil {
		t.Fatal(err)
	}
	env, err := pci.Sign(pci.Draft{AgentType: "PAT", AgentID: "agent", Action: "session.open", Data: v, PolicyHash: knownDigest,
		IhsanScore: 0.99, SNRScore: 0.95, Timestamp: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, pci.NewKeyFromSeed([32]byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	return env.Canonical()
}

// pipeListener is a network without a kernel, so that its deadlines are virtual time.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// dial gives the client's end of a new connection.
func (l *pipeListener) dial() (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, errors.Join(net.ErrClosed, near.Close(), far.Close())
	}
}

// exchange sends text as it is and reads one answer.
func exchange(t *testing.T, c net.Conn, text string) (*http.Response, []byte) {
	t.Helper()
	go func() { _, _ = io.WriteString(c, text) }()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("read the answer: %v", err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("read the body: %v", err)
	}
	return res, body
}
