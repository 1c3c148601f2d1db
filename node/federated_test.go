package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/bizra/bizra/api"
	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/internal/testregion"
)

func TestAlarms(t *testing.T) {
	var a alarms
	for i := range alarmsMax + 3 {
		a.raise(attest.Alarm{Kind: attest.AlarmForked, Region: fmt.Sprint("r", i), Detail: "first"})
	}
	a.raise(attest.Alarm{Kind: attest.AlarmForked, Region: "r9", Detail: "second"})
	a.raise(attest.Alarm{Kind: attest.AlarmRefused, Region: "r9"}) // read from the status, while it holds
	a.raise(attest.Alarm{Kind: attest.AlarmCertificate, Region: "r9", Detail: "two"})
	list := a.all(&attest.Status{Regions: []attest.RegionStatus{
		{Region: "b", Refuses: "diverged: entry 3"}, {Region: "c", Refused: "time", Diverged: "time: goes back"}, {Region: "d", Evidence: true}, {Region: "e"}}})
	if len(list) != alarmsMax+4 {
		t.Fatalf("%d alarms", len(list))
	}
	for _, want := range []client.AlarmEvent{{Kind: client.AlarmForked, Region: "r9", Detail: "second"}, {Kind: client.AlarmCertificate, Region: "r9", Detail: "two"},
		{Kind: client.AlarmRefused, Region: "b", Detail: "diverged: entry 3"}, {Kind: client.AlarmRefuses, Region: "c", Detail: "time"},
		{Kind: client.AlarmDiverged, Region: "c", Detail: "time: goes back"}, {Kind: client.AlarmEvidence, Region: "d", Detail: evidenceText}} {
		if !slices.Contains(list, want) {
			t.Errorf("no %+v", want)
		}
	}
	if slices.ContainsFunc(list, func(e client.AlarmEvent) bool {
		return e.Region == "r0" || e.Region == "e" || e.Detail == "first" && e.Region == "r9"
	}) {
		t.Error("an alarm that is past is kept, or one that is none")
	}
}

// shown opens the interface's view of a region of a test.
func shown(t *testing.T, r *testregion.Region) *apiView {
	t.Helper()
	state, err := r.Machine.View()
	if err != nil {
		t.Fatal(err)
	}
	v, err := newAPIView(state, r.Name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	v.certifiedState = func(key []byte) (*fsm.StateProof, []byte, error) {
		p, err := r.Machine.ProveCertified(key)
		if err != nil {
			return nil, nil, err
		}
		note, err := r.View().Certificate(p.Seal.Number)
		return p, note, err
	}
	return v
}

func certify(t *testing.T, r *testregion.Region, seal *fsm.Seal) {
	t.Helper()
	if res := r.Apply(fsm.EncodeCertify(seal.Number, r.Certify(seal))).Attested; !res.Accepted() {
		t.Fatalf("%+v", res)
	}
}

func finality(t *testing.T, m json.Marshaler) string {
	t.Helper()
	text, err := m.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var r client.Receipt
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return r.Finality
}

// wantBundle demands a bundle that holds, and gives what it shows.
func wantBundle(t *testing.T, r *testregion.Region, text []byte, err error) *certificate.Verdict {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	v := certificate.VerifyBundle(text, r.Document())
	if err := v.Err(); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestViewOfWhatIsAttested follows a session through seals and certificates.
func TestViewOfWhatIsAttested(t *testing.T) {
	r := testregion.New(t, testfed.New(4, 1), "a")
	agent, active := r.Session("alice", "s1")
	proof := api.Proof{Digest: active.Digest}
	first := r.Seal()
	before := shown(t, r)
	if rec, err := before.Receipt(proof); err != nil || rec.Index != active.Index || finality(t, rec) != client.FinalityCommitted {
		t.Errorf("%+v, %v", rec, err)
	}
	for what, err := range map[string]error{"proof": second(before.Bundle(proof)), "session": second(before.SessionBundle("s1"))} {
		if !errors.Is(err, api.ErrNotAttested) {
			t.Errorf("bundle of a %s before the first certificate: %v", what, err)
		}
	}
	if list, err := before.Certificates(0, 10); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	certify(t, r, first)
	next := r.Accept(agent.Sign("session.transition", testfed.Transition("s1", "computing"), active.Head))
	v := shown(t, r)
	for p, want := range map[api.Proof]string{proof: "attested", {EnvelopeID: active.EnvelopeID}: "attested", {Digest: next.Digest}: "committed"} {
		if rec, err := v.Receipt(p); err != nil || finality(t, rec) != want {
			t.Errorf("%+v, %v, want %s", rec, err, want)
		}
	}
	if m, err := v.ReceiptAt(0); err != nil || m != nil {
		t.Errorf("the receipt of the founding: %v, %v", m, err)
	}
	if m, err := v.ReceiptAt(active.Index); err != nil || finality(t, m) != client.FinalityAttested {
		t.Errorf("%v, %v", m, err)
	}
	text, err := v.Bundle(api.Proof{EnvelopeID: active.EnvelopeID})
	if got := wantBundle(t, r, text, err); got.Entry.Index != active.Index || got.Checkpoint.Size != first.Size {
		t.Errorf("%+v", got)
	}
	if _, err := v.Bundle(api.Proof{Digest: next.Digest}); !errors.Is(err, api.ErrNotAttested) {
		t.Errorf("bundle of what is not certified: %v", err)
	}
	for _, err := range []error{second(v.Bundle(api.Proof{})), second(v.Receipt(api.Proof{EnvelopeID: "x"})), second(v.Inclusion(api.Proof{})), second(v.DocumentText([32]byte{}))} {
		if !errors.Is(err, api.ErrNotFound) {
			t.Errorf("what is not there: %v", err)
		}
	}
	text, err = v.SessionBundle("s1")
	if got := wantBundle(t, r, text, err); got.Session.Tips[0].Hash.String() != active.Head || got.Checkpoint.Size != first.Size {
		t.Errorf("the session is %+v at %d entries", got.Session, got.Checkpoint.Size)
	}
	newer := r.Seal()
	text, err = v.SessionBundle("s1") // the newest seal waits, and the certified state is still the one before
	wantBundle(t, r, text, err)
	certify(t, r, newer)
	text, err = v.SessionBundle("s1") // newer than the view
	if got := wantBundle(t, r, text, err); got.Session.Tips[0].Hash.String() != next.Head || got.Checkpoint.Size != newer.Size {
		t.Errorf("the session is %+v at %d entries", got.Session, got.Checkpoint.Size)
	}
	text, err = v.SessionBundle("nobody")
	if got := wantBundle(t, r, text, err); got.Session != nil {
		t.Errorf("%+v", got.Session)
	}
	list, err := shown(t, r).Certificates(first.Size-1, 1)
	if err != nil || len(list) != 1 || list[0].Size != first.Size {
		t.Errorf("%+v, %v", list, err)
	}
	list, err = shown(t, r).Certificates(first.Size, 10)
	if err != nil || len(list) != 1 || list[0].Size != newer.Size {
		t.Errorf("%+v, %v", list, err)
	}
	digest := r.Document().Digest()
	if text, err := v.DocumentText(digest); err != nil || string(text) != string(r.Document().Canonical()) {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	v.certifiedState = func([]byte) (*fsm.StateProof, []byte, error) { return nil, nil, fsm.ErrNoSeal }
	var un *api.Unavailable
	if _, err := v.SessionBundle("s1"); !errors.As(err, &un) || un.Reason == "" {
		t.Errorf("the state is not at hand: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestWhatANodeShowsOfItsFederation runs two regions of one voter each.
func TestWhatANodeShowsOfItsFederation(t *testing.T) {
	fed := testfed.New(2, 1, testfed.Open)
	homeB := newHomeIn(t, fed, "b")
	a := startNode(t, newHomeIn(t, fed, "a"))
	defer func() { closeNode(t, a) }()
	b := startNode(t, homeB, a.Addresses()...)
	awaitReady(t, a)
	awaitReady(t, b)
	agent := fed.Agent("alice", time.Now().UnixMilli())
	proof := agent.Sign("session.open", map[string]any{"region": "a", "session": "s"}, "")
	submit := func() json.Marshaler {
		t.Helper()
		out, err := backend{a}.Submit(t.Context(), [][]byte{proof.Canonical()})
		if err != nil || out[0].Err != nil {
			t.Fatalf("%+v, %v", out, err)
		}
		return out[0].Receipt
	}
	if got := finality(t, submit()); got != client.FinalityCommitted {
		t.Errorf("first %s", got)
	}
	until := func(what string, n *Node, is func(*client.Status) bool) *client.Status {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(time.Minute); ; <-tick.C {
			s, err := n.Status()
			if err == nil && is(s) {
				return s
			}
			if time.Now().After(deadline) || n.Failure() != nil {
				t.Fatalf("waited in vain until %s: %+v, %v", what, s, err)
			}
		}
	}
	size := a.ledgerSize()
	s := until("a is certified", a, func(s *client.Status) bool {
		return s.Attestation.Certified >= size && len(s.Regions) == 1 && s.Regions[0].Certified > 0 && s.Regions[0].Connected == 1
	})
	if at := s.Attestation; at.Needed != 1 || at.Time == "" || at.Evidence || len(at.Missing) != 0 || s.Local == nil || s.Local.Local || s.Local.Since == "" {
		t.Errorf("%+v, %+v", at, s.Local)
	}
	if got := finality(t, submit()); got != client.FinalityAttested {
		t.Errorf("given again: %s", got)
	}
	s = until("b knows it", b, func(s *client.Status) bool { return len(s.Regions) == 1 && s.Regions[0].Certified >= size })
	if r := s.Regions[0]; r.Region != "a" || r.Voted < size || r.Refuses != "" || r.Refusal != "" || r.Evidence {
		t.Errorf("%+v", r)
	}
	o, err := backend{a}.Outlook(t.Context())
	if err != nil || len(o.Certified) != 2 || o.Certified[0].Region != "a" || o.Certified[0].Size < size || o.Certified[1].Region != "b" || o.Local.Local || len(o.Alarms) != 0 {
		t.Errorf("%+v, %v", o, err)
	}
	p, err := backend{a}.Peers(t.Context())
	if err != nil || len(p.Peers) != 1 || p.Peers[0].Name != "b-1" || !p.Peers[0].Connected || p.Peers[0].State == "" || len(p.Regions) == 0 {
		t.Errorf("%+v, %v", p, err)
	}
	closeNode(t, b)
	again := agent.Sign("session.open", map[string]any{"region": "a", "session": "t"}, "")
	if _, err := (backend{a}).Submit(t.Context(), [][]byte{again.Canonical()}); err != nil {
		t.Fatal(err)
	}
	s = until("b's votes are missing", a, func(s *client.Status) bool { return len(s.Attestation.Missing) == 1 })
	if at := s.Attestation; at.Missing[0] != "b" || at.Waiting < 1 || s.Regions[0].Missing < 1 {
		t.Errorf("%+v, %+v", at, s.Regions[0])
	}
}
