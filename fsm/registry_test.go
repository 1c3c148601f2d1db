package fsm_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/budget"
	"github.com/bizra/bizra/fsm/fate"
	"github.com/bizra/bizra/fsm/market"
	"github.com/bizra/bizra/fsm/ntu"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

// operator signs with a nonce for each call, whatever the rig did before.
type operator struct {
	*testfed.Signer
	r *rig
}

func (r *rig) operator() operator { return operator{r.fed.Operator("a", r.now), r} }

func hexKey(label string) string { return fmt.Sprintf("%x", testfed.Key(label).Public()) }

func register(id, key, owner string) map[string]any {
	return map[string]any{"region": "a", "agent_id": id, "agent_type": "PAT", "public_key": key, "owner": owner}
}

func (o operator) do(code pci.Code, action string, data map[string]any) fsm.Receipt {
	o.r.t.Helper()
	return o.r.want(code, o.Sign(action, data, ""))
}

func wantReason(t *testing.T, rec fsm.Receipt, reason string) {
	t.Helper()
	if rec.Reason != reason || !rec.HasEntry || rec.Message() == "" || strings.Contains(rec.Message(), reason) {
		t.Fatalf("receipt %+v (%s), want the reason %s in an entry, and a sentence for people", rec, rec.Message(), reason)
	}
}

func TestAgentRegistry(t *testing.T) {
	r := newRig(t, testfed.New(2, 3))
	op := r.operator()
	op.do(pci.Success, "agent.register", register("x", hexKey("agent-x"), "acme"))
	wantReason(t, op.do(pci.RejectInvariantFailed, "agent.register", register("x", hexKey("other"), "acme")), "agent-exists")
	for name, key := range map[string]string{"an agent": hexKey("agent-x"), "an operator": hexKey("a-operator"), "an operator elsewhere": hexKey("b-operator"),
		"a region": hexKey("b-log"), "a node": hexKey("a-2")} {
		if rec := op.do(pci.RejectInvariantFailed, "agent.register", register("y", key, "acme")); rec.Reason != "key-taken" {
			t.Errorf("the key of %s can be registered: %+v", name, rec)
		}
	}
	x := r.fed.Agent("x", r.now)
	head := r.want(pci.Success, x.Sign("session.open", open("s"), "")).Head
	wantReason(t, r.want(pci.RejectRoleViolation, x.Sign("agent.revoke", map[string]any{"region": "a", "agent_id": "x"}, "")), "operators-only")
	wantReason(t, r.want(pci.RejectRoleViolation, x.Sign("session.open", open("t"), "", func(d *pci.Draft) { d.AgentType = "SAT" })), "agent-type-differs")
	op.do(pci.Success, "agent.revoke", map[string]any{"region": "a", "agent_id": "x", "reason": "key lost"})
	if rec := r.want(pci.RejectRoleViolation, x.Sign("session.transition", to("s", "active"), head)); rec.HasEntry {
		t.Error("a revoked agent's proof made an entry")
	}
	wantReason(t, op.do(pci.RejectInvariantFailed, "agent.revoke", map[string]any{"region": "a", "agent_id": "x"}), "agent-revoked")
	wantReason(t, op.do(pci.RejectInvariantFailed, "agent.revoke", map[string]any{"region": "a", "agent_id": "nobody"}), "agent-unknown")
	wantReason(t, op.do(pci.RejectInvariantFailed, "agent.register", register("x", hexKey("new"), "evil corp")), "owner-differs")
	wantReason(t, op.do(pci.RejectInvariantFailed, "agent.register", register("x", hexKey("agent-x"), "acme")), "key-taken")
	op.do(pci.Success, "agent.register", register("x", hexKey("agent-x2"), "acme"))
	x.Key = testfed.Key("agent-x2")
	r.want(pci.Success, x.Sign("session.transition", to("s", "active"), head)) // the id goes on under its new key
	v := r.view()
	if a, err := v.AgentByKey(x.Key.Public()); err != nil || a.ID != "x" || a.RevokedMillis != 0 {
		t.Errorf("agent by key: %+v, %v", a, err)
	}
	if _, err := v.AgentByKey([32]byte{1}); !errors.Is(err, fsm.ErrNotFound) {
		t.Errorf("agent by an unknown key: %v", err)
	}
}

func TestOpenRegistration(t *testing.T) {
	r := newRig(t, testfed.New(1, 3, testfed.Open))
	x := r.fed.Agent("x", r.now)
	r.want(pci.RejectIhsanBelowMin, x.Sign("session.open", open("s"), "", func(d *pci.Draft) { d.IhsanScore = 0.1 }))
	if agents, err := r.view().Agents("", 10); err != nil || len(agents) != 0 {
		t.Fatalf("a refused proof registered %v (%v)", agents, err)
	}
	r.want(pci.Success, x.Sign("session.open", open("s"), ""))
	if agents, err := r.view().Agents("", 10); err != nil || len(agents) != 1 || agents[0].ID != "x" {
		t.Fatalf("registered: %v (%v)", agents, err)
	}
	thief := r.fed.Agent("x", r.now)
	thief.Key = testfed.Key("thief")
	if rec := r.want(pci.RejectRoleViolation, thief.Sign("session.open", open("t"), "")); rec.HasEntry {
		t.Error("another key took over an agent's id")
	}
	twice := r.fed.Agent("y", r.now)
	twice.Key = x.Key
	if rec := r.want(pci.RejectRoleViolation, twice.Sign("session.open", open("t"), "", func(d *pci.Draft) { d.Nonce = [32]byte{5} })); rec.HasEntry {
		t.Error("one key registered two agents")
	}
}

func voter(op, node string, more ...string) map[string]any {
	d := map[string]any{"region": "a", "op": op, "node": hexKey(node)}
	if op == "add" || op == "replace" {
		d["name"] = node
		d["addresses"] = []any{"/ip4/127.0.0.1/tcp/4001"}
	}
	if len(more) > 0 {
		d["replaces"] = hexKey(more[0])
	}
	return d
}

func TestVoters(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	op := r.operator()
	names := func() (list []string) {
		vs, err := r.view().Voters()
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range vs {
			list = append(list, v.Name)
		}
		return list
	}
	wantReason(t, op.do(pci.RejectInvariantFailed, "region.voter", voter("add", "a-1")), "voter-exists")
	wantReason(t, op.do(pci.RejectInvariantFailed, "region.voter", voter("add", "a-operator")), "key-taken")
	wantReason(t, op.do(pci.RejectInvariantFailed, "region.voter", voter("remove", "n1")), "voter-unknown")
	wantReason(t, op.do(pci.RejectInvariantFailed, "region.voter", voter("transfer", "n1")), "voter-unknown")
	op.do(pci.Success, "region.voter", voter("replace", "n1", "a-2"))
	if got := fmt.Sprint(names()); got != "[a-1 a-3 n1]" {
		t.Fatalf("after replacing a-2: %s", got)
	}
	wantReason(t, op.do(pci.RejectInvariantFailed, "region.voter", voter("add", "a-2")), "voter-id-spent")
	wantReason(t, op.do(pci.RejectInvariantFailed, "region.voter", voter("replace", "a-2", "a-3")), "voter-id-spent")
	if got := fmt.Sprint(names()); got != "[a-1 a-3 n1]" {
		t.Fatalf("a refused replacement removed a voter: %s", got)
	}
	op.do(pci.Success, "region.voter", voter("add", "n2"))
	op.do(pci.Success, "region.voter", voter("add", "n3"))
	wantReason(t, op.do(pci.RejectInvariantFailed, "region.voter", voter("add", "n4")), "too-many-voters")
	op.do(pci.Success, "region.voter", voter("transfer", "n3"))
	for _, n := range []string{"n1", "n2", "n3", "a-1"} {
		op.do(pci.Success, "region.voter", voter("remove", n))
	}
	wantReason(t, op.do(pci.RejectInvariantFailed, "region.voter", voter("remove", "a-3")), "last-voter")
}

// TestDataOfEveryAction tries each member of each action missing, of another type,
// too long, and one too many: SCHEMA, and no entry.
func TestDataOfEveryAction(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	a, op := r.registered("alice"), r.operator()
	head := strings.Repeat("0", 64)
	long := strings.Repeat("x", 2000)
	full := map[string]map[string]any{
		"session.open": {"region": "a", "session": "s", "agents": []any{"b"}, "reason": "r"},
		"session.transition": {"session": "s", "to": "active", "type": "standard", "reason": "r", "operation": "o", "operation_type": "t", "intent": "i",
			"input": map[string]any{}, "meta": map[string]any{"k": 1}, "observation": 0.5, "task": "plan", "use": map[string]any{"tokens": 1, "time_ms": 2}},
		"session.branch":   {"session": "s", "name": "n", "reason": "r"},
		"session.merge":    {"session": "s", "heads": []any{head, strings.Repeat("1", 64)}, "reason": "r"},
		"session.rollback": {"session": "s", "ancestor": head, "reason": "r"},
		"agent.register":   register("z", hexKey("z"), "o"),
		"agent.revoke":     {"region": "a", "agent_id": "alice", "reason": "r"},
		"region.voter":     voter("replace", "n1", "a-1"),
	}
	optional := "agents reason type operation operation_type intent input meta observation task use addresses"
	tried := 0
	for action, data := range full {
		signer := a
		stateHash := head
		if strings.HasPrefix(action, "agent.") || action == "region.voter" {
			signer, stateHash = op.Signer, ""
		}
		try := func(what string, d map[string]any, schema bool) {
			t.Helper()
			tried++
			size := r.size()
			rec := r.submit(signer.Sign(action, d, stateHash))[0]
			if schema != (rec.Code == pci.RejectSchema) || schema && (r.size() != size || rec.HasEntry) {
				t.Errorf("%s with %s: %v %s", action, what, rec.Code, rec.Reason)
			}
		}
		changed := func(name string, v any) map[string]any {
			d := map[string]any{}
			for k, x := range data {
				d[k] = x
			}
			if d[name] = v; v == nil {
				delete(d, name)
			}
			return d
		}
		try("an unknown member", changed("resource", map[string]any{"type": "cpu"}), true)
		for name := range data {
			try("no "+name, changed(name, nil), !strings.Contains(" "+optional+" ", " "+name+" ") || action == "session.rollback")
			if name != "input" {
				try("another type of "+name, changed(name, true), true)
				try("a long "+name, changed(name, long), true)
			}
		}
	}
	for action, d := range map[string]map[string]any{
		"session.merge":      {"session": "s", "heads": []any{head}},
		"session.transition": {"session": "s", "to": "init"},
	} {
		if rec := r.submit(a.Sign(action, d, head))[0]; rec.Code != pci.RejectSchema {
			t.Errorf("%s %v: %v", action, d, rec.Code)
		}
	}
	for _, meta := range []map[string]any{{"description": 1}, {"description": strings.Repeat("x", 4097)}, {"rationale": []any{}}, {"pii_detected": "no"}, {"toxicity_detected": 0},
		{"ethics_violation": nil}, {"knowledge_gap": "big"}, {"knowledge_gap": 1.01}, {"knowledge_gap": -0.01}} {
		if rec := r.submit(a.Sign("session.transition", to("s", "active", "meta", meta), head))[0]; rec.Code != pci.RejectSchema || rec.HasEntry {
			t.Errorf("meta %v: %v", meta, rec.Code)
		}
	}
	for _, use := range []map[string]any{{"tokens": -1}, {"time_ms": 1.5}, {"tokens": 1, "iterations": 1}} {
		if rec := r.submit(a.Sign("session.transition", to("s", "active", "use", use), head))[0]; rec.Code != pci.RejectSchema {
			t.Errorf("use %v: %v", use, rec.Code)
		}
	}
	if tried < 60 {
		t.Fatalf("only %d variants were tried", tried)
	}
}

func FuzzParseEntry(f *testing.F) {
	fed := testfed.New(1, 1)
	e := fsm.Entry{Kind: fsm.EntryGenesis, Region: "a", Outcome: fsm.Outcome{Document: 1, DocumentDigest: strings.Repeat("0", 64), StateVersion: 1}}
	f.Add(e.AppendCanonical(nil))
	e = fsm.Entry{Kind: fsm.EntryProof, Region: "a", Index: 7, TimeMillis: start, Envelope: fed.Agent("x", start).Sign("session.open", open("s"), "")}
	f.Add(e.AppendCanonical(nil))
	e.Outcome = fsm.Outcome{Code: pci.RejectFateViolation, Reason: "fate-below-min", Session: "s", NTU: &ntu.State{Belief: 0.5, Entropy: 1, Potential: 0},
		Fate:   &fate.Verdict{Composite: 0.5, Threshold: 0.95, Rule: "r", Gaps: []fate.Gap{{Part: fate.PartIntent, Required: true, Words: []string{"naïve", "😀"}}, {Part: fate.PartSNR, Least: 0.95}}},
		Budget: &fsm.Budget{Task: budget.Plan, Tier: budget.Macro, Allocated: &budget.Allocation{Complexity: 0.75, ExtendedThinking: true}, Over: &fsm.Over{Part: "tokens", Asked: 2, Left: 1}},
		Agent:  &fsm.Standing{Outcomes: 3, Measured: 0.9, ClaimMax: 1, EnoughMillis: start, Reputation: 0.7, Breaker: fsm.Probation, UntilMillis: start}}
	f.Add(e.AppendCanonical(nil))
	e = fsm.Entry{Kind: fsm.EntryBreaker, Region: "a", Index: 8, TimeMillis: start, Outcome: fsm.Outcome{Breaker: &fsm.Decision{AgentID: "x", From: fsm.Throttled, To: fsm.Muted, Belief: 0.4, UntilMillis: start}}}
	f.Add(e.AppendCanonical(nil))
	e = fsm.Entry{Kind: fsm.EntryEpoch, Region: "a", Index: 9, TimeMillis: start, Outcome: fsm.Outcome{Epoch: &fsm.Epoch{Number: 3, Epochs: 2, GiniAfter: 350_000, Cap: 5}}}
	f.Add(e.AppendCanonical(nil))
	licence := int64(4)
	e = fsm.Entry{Kind: fsm.EntryProof, Region: "a", Index: 10, TimeMillis: start, Envelope: fed.Agent("x", start).Sign("market.release", inMarket("licence", 4), "")}
	for _, e.Outcome = range []fsm.Outcome{{Market: &fsm.Trade{Licence: &licence, Paid: 1, Tax: 2, Lapsed: []int64{5}, Revoked: []int64{6, 7}}}, {Market: &fsm.Trade{}},
		{Code: pci.RejectADLInvalidTx, Reason: "unlicensed", Unlicensed: &fsm.Unlicensed{Owner: "öwner", Resource: market.GPU, Asked: 2, Held: 1}}} {
		f.Add(e.AppendCanonical(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := fsm.ParseEntry(b)
		if err == nil && string(e.AppendCanonical(nil)) != string(b) {
			t.Fatalf("accepted %q, which is not the canonical form", b)
		}
	})
}

// FuzzApply gives the machine any command. It must apply it, or stop with ErrStop;
// and what it holds must stay sound.
func FuzzApply(f *testing.F) {
	fed := testfed.New(1, 1, testfed.Open)
	f.Add(fsm.EncodeSeal())
	f.Add(fsm.EncodeProofs(start, [][]byte{fed.Agent("x", start).Sign("session.open", open("s"), "").Canonical()}))
	f.Add(fsm.EncodeProofs(start, [][]byte{fed.Agent("x", start).Sign("session.open", open("s"), "").Canonical(),
		fed.Agent("x", start).Sign("session.transition", to("s", "active"), strings.Repeat("0", 64)).Canonical()}))
	f.Add(fsm.EncodeGenesis(start, fed.Document.Canonical()))
	next := fed.Next(testfed.Stricter)
	f.Add(fsm.EncodeAdopt(start, fed.Operator("a", start).Sign(fsm.ActionFederationAdopt, next.Adopts(), "").Canonical(), next.Document.Canonical()))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := newRig(t, fed)
		if _, err := r.m.Apply([]fsm.Command{{Index: 2, Term: 1, Data: data}}); err != nil && !errors.Is(err, fsm.ErrStop) {
			t.Fatal(err)
		}
		r.open()
		if err := fsm.Check(t.Context(), r.st, fsm.Config{Region: "a"}, quiet); err != nil {
			t.Fatal(err)
		}
	})
}
