package fsm_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

// example is one block of the worked example: what it shows, and the line above it.
type example struct{ under, text string }

// TestWorkedExample recomputes every line of the worked example in docs/protocol.md.
// It also pins the formats of the state version: a change that moves a byte fails here.
// UPDATE_DOCS=1 writes the blocks anew.
func TestWorkedExample(t *testing.T) {
	const path = "../docs/protocol.md"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	doc := string(page)
	for _, e := range workedExample(t) {
		_, after, found := strings.Cut(doc, e.under+"\n\n```\n")
		shown, _, ended := strings.Cut(after, "```\n")
		if !found || !ended {
			t.Fatalf("no block stands under %q", e.under)
		}
		if shown == e.text {
			continue
		}
		if os.Getenv("UPDATE_DOCS") == "" {
			t.Errorf("under %q the document has\n%sand it should be\n%s", e.under, shown, e.text)
		}
		doc = strings.Replace(doc, e.under+"\n\n```\n"+shown, e.under+"\n\n```\n"+e.text, 1)
	}
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(path, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func workedExample(t *testing.T) []example {
	r := newRig(t, testfed.New(1, 3, testfed.DefaultRules))
	a := r.registered("alice")
	opened := r.want(pci.Success, a.Sign("session.open", open("s1"), ""))
	r.want(pci.Success, a.Sign("session.transition", to("s1", "active"), opened.Head))
	seal := r.apply(fsm.EncodeSeal()).Seal
	v := r.view()
	entries, err := v.Ledger().Entries(0, 4, 1<<20)
	if err != nil || len(entries) != 4 {
		t.Fatalf("%d entries: %v", len(entries), err)
	}
	steps, err := v.History("s1", 0, 10)
	if err != nil || len(steps) != 2 {
		t.Fatalf("%d nodes: %v", len(steps), err)
	}
	nodes := ""
	for _, s := range steps {
		nodes += fmt.Sprintf("%s\n%v\n", s.Node.AppendCanonical(nil), s.Hash)
	}
	return []example{
		{"Document digest and policy hash:", fmt.Sprintf("%x\n%s\n", r.fed.Document.Digest(), r.fed.Document.Constitution.PolicyHash())},
		{"Entry 0:", string(entries[0]) + "\n"},
		{"Entry 1 registers the agent alice; entry 2 is her proof that opens the session s1:", string(entries[2]) + "\n"},
		{"The session's genesis node and its hash, then the node that entry 3 (a transition to active) makes, and its hash:", nodes},
		{"The body of the seal over these four entries:", string(seal.Body())},
	}
}

// TestGovernanceNumbers holds the defaults that docs/governance.md names against the constitution's.
func TestGovernanceNumbers(t *testing.T) {
	doc, err := os.ReadFile("../docs/governance.md")
	if err != nil {
		t.Fatal(err)
	}
	c, err := constitution.Default()
	if err != nil {
		t.Fatal(err)
	}
	b, th := c.Breaker, c.Thresholds
	for name, value := range map[string]any{"after": b.After, "throttle_below": b.ThrottleBelow, "restore_above": b.RestoreAbove, "mute_after": b.MuteAfter,
		"mute_below": b.MuteBelow, "probation_failures": b.ProbationFailures, "throttled_per_minute": b.ThrottledPerMinute,
		"mute_ms": fmt.Sprintf("%d minutes", b.MuteMillis/60_000), "mute_ms_max": fmt.Sprintf("%d hour", b.MuteMillisMax/3_600_000)} {
		if want := fmt.Sprintf("%#q (%v)", name, value); !strings.Contains(string(doc), want) {
			t.Errorf("the document does not say %s", want)
		}
	}
	for _, want := range []string{fmt.Sprintf("After %d outcomes\n(`measured_after`)", th.MeasuredAfter), fmt.Sprintf("m + %.2f (`measured_snr_margin`)", th.MeasuredSNRMargin)} {
		if !strings.Contains(string(doc), want) {
			t.Errorf("the document does not say %s", want)
		}
	}
}

// TestProtocolTables holds the tables of docs/protocol.md against the code.
func TestProtocolTables(t *testing.T) {
	doc, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	for s := session.Init; s <= session.Terminated; s++ {
		var names []string
		for _, n := range s.Successors() {
			names = append(names, n.String())
		}
		row := fmt.Sprintf("| %v | %s |", s, strings.Join(names, ", "))
		if len(names) == 0 {
			row = fmt.Sprintf("| %v | nothing |", s)
		}
		if !strings.Contains(string(doc), row) {
			t.Errorf("no row %q", row)
		}
	}
	for _, a := range []string{fsm.ActionAgentRegister, fsm.ActionAgentRevoke, fsm.ActionRegionVoter, fsm.ActionSessionOpen,
		fsm.ActionSessionTransition, fsm.ActionSessionBranch, fsm.ActionSessionMerge, fsm.ActionSessionRollback} {
		if !strings.Contains(string(doc), "| `"+a+"` |") {
			t.Errorf("action %s has no row", a)
		}
	}
}
