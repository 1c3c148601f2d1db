package judge_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/client/judge"
	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/pci"
)

const listing = `{"session":"s","to":"computing","operation":"list_files","operation_type":"shell","intent":"list files",
	"input":{"command":"ls"},"meta":{"description":"see what is there"}}`

func ask(data string) client.Question {
	return client.Question{AgentID: "alice", Action: "session.transition", Data: json.RawMessage(data), IhsanScore: 0.99, SNRScore: 0.95}
}

// TestJudge: the gates decide in their order, and what the region knows stands where it stands there.
func TestJudge(t *testing.T) {
	law, err := constitution.Default()
	if err != nil {
		t.Fatal(err)
	}
	j, err := judge.New(law)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := judge.Parse(law.Canonical()); err != nil || again.PolicyHash() != j.PolicyHash() || j.PolicyHash() != law.PolicyHash() {
		t.Fatalf("parsed from its canonical form it is another: %v", err)
	}
	agent := func(edit func(*client.AgentRecord)) judge.Standing {
		a := &client.AgentRecord{Agent: client.Agent{AgentID: "alice", AgentType: "PAT", Owner: "acme"}, Standing: client.Standing{ClaimMax: 1, MeasuredSNR: 1, Breaker: "clear"},
			LogTime: "2026-03-02T12:00:00.000Z"}
		edit(a)
		return judge.Standing{Region: "eu", Known: true, Agent: a, Now: time.Date(2026, 3, 2, 12, 1, 0, 0, time.UTC)}
	}
	removal := strings.Replace(listing, `"ls"`, `"rm -rf /"`, 1)
	fine := agent(func(*client.AgentRecord) {})
	for _, c := range []struct {
		name   string
		q      client.Question
		s      judge.Standing
		by     string
		says   string
		toPass int
	}{
		{"all well", ask(listing), fine, client.DecidedByNone, "Nothing speaks against it", 0},
		{"the region was not asked", ask(listing), judge.Standing{}, client.DecidedByNone, "", 0},
		{"unknown agent", ask(listing), judge.Standing{Known: true}, client.DecidedByAgent, "not registered", 1},
		{"unknown agent where registration is open", ask(listing), judge.Standing{Known: true, Open: true}, client.DecidedByNone, "", 0},
		{"a rule", ask(removal), fine, client.DecidedByRule, `"delete-system"`, 1},
		{"the scores", ask(strings.Replace(listing, "list files", "look around", 1)), fine, client.DecidedByFate, "fidelity", 1},
		{"revoked", ask(removal), agent(func(a *client.AgentRecord) { a.Revoked = "2026-03-02T11:00:00.000Z" }), client.DecidedByAgent, "revoked", 2},
		{"muted", ask(listing), agent(func(a *client.AgentRecord) { a.Breaker, a.Until = "muted", "2026-03-02T12:05:00.000Z" }), client.DecidedByAgent, "muted until", 1},
		{"a mute that is over", ask(listing), agent(func(a *client.AgentRecord) { a.Breaker, a.Until = "muted", "2026-03-02T12:00:30.000Z" }), client.DecidedByNone, "", 0},
		{"a claim above the record", ask(listing), agent(func(a *client.AgentRecord) { a.ClaimMax, a.MeasuredSNR = 0.9, 0.8 }), client.DecidedBySNR, "at most 0.9100", 1},
		{"the claim before the rule", ask(removal), agent(func(a *client.AgentRecord) { a.ClaimMax, a.MeasuredSNR = 0.9, 0.8 }), client.DecidedBySNR, "at most 0.9100", 2},
		{"a record that is mended since", ask(listing), agent(func(a *client.AgentRecord) {
			a.ClaimMax, a.MeasuredSNR, a.LogTime = 0.9, 0.8, "2026-03-02T11:50:00.000Z"
		}), client.DecidedByNone, "", 0},
	} {
		got, err := j.Judge(c.q, c.s)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got.DecidedBy != c.by || got.Passed != (c.by == client.DecidedByNone) || !strings.Contains(got.Message, c.says) || len(got.ToPass) != c.toPass ||
			got.Fate == nil || got.PolicyHash != law.PolicyHash() {
			t.Errorf("%s: %+v", c.name, got)
		}
		if denied := c.by == client.DecidedByRule; denied != (got.Rule != "") || denied != (got.Dimension != "") {
			t.Errorf("%s: rule %q, dimension %q", c.name, got.Rule, got.Dimension)
		}
	}
	low := ask(removal)
	low.IhsanScore = 0.5
	if got, err := j.Judge(low, fine); err != nil || got.DecidedBy != client.DecidedByIhsan {
		t.Errorf("ihsan: %+v, %v", got, err)
	}
	old := ask(listing)
	old.PolicyHash = "x"
	if got, err := j.Judge(old, fine); err != nil || got.DecidedBy != client.DecidedByPolicy {
		t.Errorf("policy: %+v, %v", got, err)
	}
	for _, data := range []string{"", "x", `"x"`, `{"to":"nowhere","session":"s"}`} {
		if _, err := j.Judge(ask(data), fine); pci.CodeOf(err) != pci.RejectSchema {
			t.Errorf("data %q: %v", data, err)
		}
	}
}
