package fsm_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

// TestWorkedExample recomputes every line of the worked example in docs/protocol.md.
// It also pins the formats of state version 1: a change that moves a byte fails here.
func TestWorkedExample(t *testing.T) {
	doc, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, testfed.New(1, 3))
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
	for what, text := range map[string]string{
		"document and policy": fmt.Sprintf("%x\n%s\n", r.fed.Document.Digest(), r.fed.Document.Constitution.PolicyHash()),
		"entry 0":             string(entries[0]) + "\n",
		"entry 2":             string(entries[2]) + "\n",
		"session nodes":       nodes,
		"seal":                string(seal.Body()),
	} {
		if !strings.Contains(string(doc), "```\n"+text+"```") {
			t.Errorf("%s: the document does not have\n%s", what, text)
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
