package link

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/budget"
	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/fate"
	"github.com/bizra/bizra/fsm/ntu"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

// Every field of a receipt survives the way to the node that forwarded, those that a
// later version adds included: the conversion would not compile without them.
func TestOutcomesSurviveTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		outcomes := []Outcome{{Receipt: *receipts().Draw(t, "receipt")}, {Reject: &pci.Reject{
			Code: pci.Code(rapid.Uint16Range(1, 200).Draw(t, "code")), Detail: rapid.StringN(0, 100, detailBytesMax).Draw(t, "detail")}}}
		b, err := p2p.Marshal(&submitResponse{Outcomes: toWire(outcomes)})
		if err != nil {
			t.Fatal(err)
		}
		var response submitResponse
		if err := p2p.Unmarshal(b, &response); err != nil {
			t.Fatal(err)
		}
		got, err := fromWire(response.Outcomes)
		if err != nil || !reflect.DeepEqual(got, outcomes) {
			t.Fatalf("%+v became %+v, %v", outcomes, got, err)
		}
	})
}

// receipts fills every field, however deep.
func receipts() *rapid.Generator[*fsm.Receipt] {
	return rapid.Custom(func(t *rapid.T) *fsm.Receipt {
		r := &fsm.Receipt{}
		fill(t, "receipt", reflect.ValueOf(r).Elem())
		return r
	})
}

func fill(t *rapid.T, name string, f reflect.Value) {
	switch f.Kind() {
	case reflect.String:
		f.SetString(rapid.StringN(1, 20, 80).Draw(t, name))
	case reflect.Bool:
		f.SetBool(true)
	case reflect.Int, reflect.Int64:
		f.SetInt(rapid.Int64Min(1).Draw(t, name))
	case reflect.Uint8, reflect.Uint16:
		f.SetUint(uint64(rapid.Uint8Min(1).Draw(t, name)))
	case reflect.Float64:
		f.SetFloat(rapid.Float64Range(0.1, 1).Draw(t, name))
	case reflect.Array:
		for j := range f.Len() {
			f.Index(j).SetUint(uint64(rapid.Byte().Draw(t, name)))
		}
	case reflect.Slice:
		f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		fill(t, name+"[]", f.Index(0))
	case reflect.Pointer:
		f.Set(reflect.New(f.Type().Elem()))
		fill(t, name, f.Elem())
	case reflect.Struct:
		for i := range f.NumField() {
			fill(t, name+"."+f.Type().Field(i).Name, f.Field(i))
		}
	default:
		t.Fatalf("receipts have %s of kind %v that this test does not fill", name, f.Kind())
	}
}

// The largest answer that can be given fits in the message.
func TestLargestResponseFits(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	receipt := fsm.Receipt{EnvelopeID: long(36), Reason: long(512), Region: long(63), HasEntry: true, Index: 1 << 60, TimeMillis: 1 << 60,
		Action: long(64), AgentID: long(256), Session: long(128), Head: long(64), State: long(16), Repeated: true,
		RuleMessage: long(constitution.MessageBytesMax), NTU: &ntu.State{Belief: 0.1, Entropy: 0.1, Potential: 0.1},
		Budget: &fsm.Budget{Left: budget.Remaining{Tokens: 1 << 60}, Allocated: &budget.Allocation{Tokens: 1 << 60}, Over: &fsm.Over{Part: "tokens", Asked: 1 << 60}},
		Agent:  &fsm.Standing{Outcomes: 1 << 60, Measured: 0.1, ClaimMax: 0.1, EnoughMillis: 1 << 60, Reputation: 0.1, UntilMillis: 1 << 60}}
	gap := fate.Gap{Part: fate.PartToxicity, Gain: 0.1, Composite: 0.1, Least: 0.1, Rule: long(constitution.NameBytesMax)}
	receipt.Fate = &fate.Verdict{Composite: 0.1, Threshold: 0.1, Rule: gap.Rule, Gaps: slices.Repeat([]fate.Gap{gap}, 13)} // as many as there are parts
	receipt.Fate.Gaps[0].Words = slices.Repeat([]string{"xy"}, fate.IntentBytesMax/3)
	for name, o := range map[string]Outcome{"receipt": {Receipt: receipt}, "refusal": {Reject: &pci.Reject{Code: 1, Detail: long(10 * detailBytesMax)}}} {
		outcomes := make([]Outcome, SubmitProofsMax)
		for i := range outcomes {
			outcomes[i] = o
		}
		b, err := p2p.Marshal(&submitResponse{Outcomes: toWire(outcomes)})
		if err != nil || len(b) > submitResponseBytesMax {
			t.Errorf("%s: %d bytes, at most %d: %v", name, len(b), submitResponseBytesMax, err)
		}
	}
}

func TestLargestRequestFits(t *testing.T) {
	raw := make([][]byte, SubmitProofsMax)
	for i := range raw {
		raw[i] = make([]byte, SubmitBytesMax/SubmitProofsMax)
	}
	b, err := p2p.Marshal(&submitRequest{Proofs: raw, Hops: 1, TimeoutMillis: 1 << 60})
	if err != nil || len(b)+1 > submitRequestBytesMax {
		t.Errorf("%d bytes, at most %d: %v", len(b), submitRequestBytesMax, err)
	}
}

func FuzzClip(f *testing.F) {
	f.Add("")
	f.Add(strings.Repeat("ü", detailBytesMax))
	f.Fuzz(func(t *testing.T, text string) {
		if got := clip(text); len(got) > detailBytesMax || !utf8.ValidString(got) {
			t.Errorf("%d bytes, valid %v", len(got), utf8.ValidString(got))
		}
	})
}

func seedWith(f *testing.F, messages ...any) {
	f.Helper()
	for _, m := range messages {
		b, err := p2p.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// Whatever a peer sends as a submission, each proof of one that is taken gets an outcome.
func FuzzSubmitRequest(f *testing.F) {
	raw := proof(testSigner())
	seedWith(f, &submitRequest{}, &submitRequest{Proofs: [][]byte{raw, forged(raw), {}}, Hops: 1, TimeoutMillis: 1000},
		&submitRequest{Proofs: [][]byte{raw}, Hops: 2}, &submitRequest{Proofs: [][]byte{nil}, TimeoutMillis: -1})
	self := raft.ServerID("self")
	r := &fakeRegion{self: self, leader: &atomic.Pointer[raft.ServerID]{}}
	r.leader.Store(&self)
	cfg := IntakeConfig{Region: receiptless{r}}.withDefaults()
	in := &Intake{cfg: cfg, verifier: newVerifier(2)}
	in.ctx, in.cancel = context.WithCancel(context.Background())
	f.Cleanup(in.cancel)
	f.Fuzz(func(t *testing.T, b []byte) {
		var request submitRequest
		if p2p.Unmarshal(b, &request) != nil {
			return
		}
		response, err := in.handle(t.Context(), "peer", &request)
		if err != nil {
			t.Fatal(err)
		}
		if response.Failure == nil && len(response.Outcomes) != len(request.Proofs) {
			t.Errorf("%d outcomes for %d proofs", len(response.Outcomes), len(request.Proofs))
		}
	})
}

func FuzzSubmitResponse(f *testing.F) {
	seedWith(f, &submitResponse{}, &submitResponse{Outcomes: []wireOutcome{{RejectCode: 2, Detail: "bad"}, {Receipt: &wireReceipt{Region: "a"}}}},
		&submitResponse{Failure: &wireFailure{Code: failNotLeader, Leader: "12D3KooW"}},
		&submitResponse{Failure: &wireFailure{Code: failOverloaded, RetryAfterMillis: -1}})
	access, err := p2p.NewAccess(p2p.AccessConfig{Region: "a"})
	if err != nil {
		f.Fatal(err)
	}
	in := &Intake{cfg: IntakeConfig{Access: access}, verifier: newVerifier(1)}
	f.Fuzz(func(t *testing.T, b []byte) {
		var response submitResponse
		if p2p.Unmarshal(b, &response) != nil {
			return
		}
		s := &submission{raw: make([][]byte, 2), source: &source{}}
		outcomes, err := in.answered(s, &response)
		if (err == nil) != (len(outcomes) == 2) || s.hint != "" {
			t.Errorf("%d outcomes, hint %v, %v", len(outcomes), s.hint, err)
		}
		for _, o := range outcomes {
			if o.Reject != nil && o.Reject.Code == pci.Success {
				t.Errorf("a refusal with the code of success")
			}
		}
	})
}

func FuzzStatus(f *testing.F) {
	seedWith(f, &Status{}, &Status{Version: "v1", ClockMillis: 1, Region: "a", Role: "Leader", Phase: 3, AppliedIndex: 7, Entries: 8,
		Seals: []SealSum{sumFor(1, "x")}})
	a := &Asker{AskerConfig{Region: "a"}}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Status
		if p2p.Unmarshal(b, &s) != nil || a.check("peer", &s) != nil {
			return
		}
		if s.Region != "a" || len(s.Seals) > statusSealsLast+SealsAskedMax || len(s.Role) > statusTextBytesMax {
			t.Errorf("taken: %+v", s)
		}
	})
}

func FuzzKeysRequest(f *testing.F) {
	k := newKeyCast(f)
	good := k.request()
	seedWith(f, &good, &keysRequest{}, &keysRequest{Region: "a", Entry: -1, Senders: []string{"x", peer.ID("y").String()}})
	f.Fuzz(func(t *testing.T, b []byte) {
		var request keysRequest
		if p2p.Unmarshal(b, &request) != nil {
			return
		}
		taker := k.taker(RaftNone)
		if _, err := taker.take(t.Context(), k.sender, &request); err == nil {
			if request.LogSeed != seed(k.fed.LogKeys["a"].Seed()) || request.CosignSeed != seed(k.fed.Cosign["a"].Seed()) {
				t.Error("keys that are not the region's were taken")
			}
		}
	})
}
