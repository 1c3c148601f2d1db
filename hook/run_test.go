package hook

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/client/bundle"
	"github.com/bizra/bizra/fsm/federation"
)

// TestTurn takes an agent through a turn: a call that is denied, one that goes well, one that
// fails, one of which nothing is heard; and looks at all of it in the ledger.
func TestTurn(t *testing.T) {
	n := region(t)
	h := newHome(t, Config{Nodes: []string{n.URL}})

	if s := tell(t, h, bashBefore("s1", "t1", "rm -rf /")); !s.denied() || s.code != ExitDone || !strings.Contains(s.reason(), "delete-system") {
		t.Errorf("a call that a rule denies: %+v", s)
	}
	for _, e := range []string{bashBefore("s1", "t2", "go test ./..."), bashAfter("s1", "t2", "go test ./...", wentWell), bashBefore("s1", "t3", "go vet ./..."),
		eventOf("PostToolUseFailure", "s1", "Bash", "t3", `"tool_input":{"command":"go vet ./..."}`, `"error":"exit status 1"`), bashBefore("s1", "t4", "ls"), stop("s1")} {
		if s := tell(t, h, e); s.code != ExitDone || s.out != "{}\n" {
			t.Errorf("%s: %+v", e, s)
		}
	}
	if waiting(t, h) != 0 {
		t.Error("items wait, though the node answers")
	}
	proofs := ledger(t, n)
	want := "open active computing!FATE_VIOLATION computing validated committed active computing failed recovered active suspended terminated"
	if got := story(proofs); got != want {
		t.Fatalf("the ledger has\n%s, want\n%s", got, want)
	}
	if text, err := json.Marshal(proofs[2].data); err != nil || strings.Contains(string(text), "rm -rf") || !strings.Contains(string(text), `"rule":"delete-system"`) ||
		!strings.Contains(string(text), whereNode) {
		t.Errorf("the denied call is recorded as %s", text)
	}
	checkBundles(t, n.Fed.Document, n.URL, proofs[2], proofs[3])
	checkDigest(t, h, proofs[3], `{ "command": "go test ./..." }`)

	c, err := client.New(client.Config{URLs: []string{n.URL}})
	if err != nil {
		t.Fatal(err)
	}
	session, err := c.Session(t.Context(), proofs[0].session)
	if err != nil || session.NTU == nil || session.NTU.Entropy == 0 {
		t.Errorf("the unit of the session saw nothing: %+v, %v", session, err)
	}
	s := tell(t, h, `{"session_id":"s2","hook_event_name":"SessionStart","source":"startup"}`)
	for _, part := range []string{proofs[0].session, "3 tool calls were let pass (Bash 3); 1 failed, 1 had no result, 1 were denied", "denied Bash by rule delete-system"} {
		if s.output.Specific == nil || !strings.Contains(s.output.Specific.Context, part) {
			t.Errorf("the next session is told %q, without %q", s.out, part)
		}
	}
	// The next turn is a session of its own, and one in which nothing happens is none.
	tell(t, h, stop("s1"))
	tell(t, h, bashBefore("s1", "t5", "ls"))
	tell(t, h, bashAfter("s1", "t5", "ls", wentWell))
	again := ledger(t, n)[len(proofs):]
	if got := story(again); got != "open active computing validated" || again[0].session == proofs[0].session {
		t.Errorf("the next turn: %s in %s", got, again[0].session)
	}
}

// checkBundles: a denied call and one that was made can both be shown to who has the document alone.
func checkBundles(t *testing.T, doc *federation.Document, url string, proofs ...recordedProof) {
	t.Helper()
	trust, err := bundle.NewTrust(doc.Canonical(), "")
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{URLs: []string{url}})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range proofs {
		text, err := c.Bundle(t.Context(), p.digest, true)
		if err != nil {
			t.Fatal(err)
		}
		v, err := trust.Verify(text)
		if err != nil || v.Entry.Outcome.Code.String() != p.name {
			t.Errorf("the bundle of %s: %+v, %v", p.digest, v, err)
		}
	}
}

// checkDigest: the owner can show what was digested; who does not know the text cannot guess it.
func checkDigest(t *testing.T, h *Home, p recordedProof, text string) {
	t.Helper()
	input, ok := p.data["input"].(map[string]any)
	if !ok {
		t.Fatalf("no input in %v", p.data)
	}
	ref, digest := input["ref"].(string), input["digest"].(string)
	if o, err := h.Open(ref, digest, []byte(text)); err != nil || o.Digest != digest {
		t.Errorf("the digest does not open: %v", err)
	}
	if _, err := h.Open(ref, digest, []byte(`{"command":"another"}`)); !errors.Is(err, ErrDigest) {
		t.Errorf("another text opens it: %v", err)
	}
	if _, err := h.Open("xx", digest, nil); err == nil {
		t.Error("no reference opens it")
	}
	other := newHome(t, Config{})
	if _, err := other.Open(ref, digest, []byte(text)); !errors.Is(err, ErrDigest) {
		t.Errorf("another home's salts open it: %v", err)
	}
}

// TestFullRecords: the text goes into the ledger, where the region's own rules deny it.
func TestFullRecords(t *testing.T) {
	n := region(t)
	h := newHome(t, Config{Nodes: []string{n.URL}, Record: RecordFull, OnPass: PassAllow})
	if s := tell(t, h, bashBefore("s1", "t1", "rm -rf /")); !s.denied() {
		t.Errorf("%+v", s)
	}
	if s := tell(t, h, bashBefore("s1", "t2", "make")); s.output.Specific == nil || s.output.Specific.Decision != "allow" {
		t.Errorf("%+v", s)
	}
	tell(t, h, bashAfter("s1", "t2", "make", wentWell))
	long := `"` + strings.Repeat("x", recordedBytesMax) + `"`
	tell(t, h, bashBefore("s1", "t3", "cat big"))
	tell(t, h, bashAfter("s1", "t3", "cat big", long))
	proofs := ledger(t, n)
	if got := story(proofs); got != "open active computing!FATE_VIOLATION computing validated committed active computing validated" {
		t.Fatalf("the ledger has %s", got)
	}
	text := func(p recordedProof) string {
		b, err := json.Marshal(p.data)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if s := text(proofs[2]); !strings.Contains(s, `"command":"rm -rf /"`) || strings.Contains(s, "ethics_violation") {
		t.Errorf("the denied call: %s", s)
	}
	if s := text(proofs[4]); !strings.Contains(s, `"stdout":"ok"`) {
		t.Errorf("the result: %s", s)
	}
	if s := text(proofs[8]); !strings.Contains(s, `"digest":`) || !strings.Contains(s, "longer than a proof may be") {
		t.Errorf("a result too long for a proof: %.200s", s)
	}
}

// TestClosed: no node, no call; and what was withheld is recorded once one answers.
func TestClosed(t *testing.T) {
	n := region(t)
	h := newHome(t, Config{Nodes: []string{n.URL}})
	if err := n.Down(); err != nil {
		t.Fatal(err)
	}
	if s := tell(t, h, bashBefore("s1", "t1", "ls")); !s.denied() || !strings.Contains(s.reason(), "No node answers") {
		t.Errorf("%+v", s)
	}
	tell(t, h, stop("s1"))
	if waiting(t, h) != 2 {
		t.Errorf("%d items wait", waiting(t, h))
	}
	st, err := h.Status()
	if err != nil || len(st.Waiting) != 2 || st.Waiting[0].Problem == "" || st.Decisions["withheld"] != 1 {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := h.Flush(t.Context()); !errors.Is(err, errLater) {
		t.Errorf("flush without a node: %v", err)
	}
	if err := n.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c, err := h.Flush(t.Context()); err != nil || c != 2 {
		t.Errorf("flush: %d, %v", c, err)
	}
	if got := story(ledger(t, n)); got != "open active suspended terminated" {
		t.Errorf("the ledger has %s", got)
	}
}

// TestLocal: without a node the constitution heard last decides, and everything is submitted later, in order.
func TestLocal(t *testing.T) {
	n := region(t)
	h := newHome(t, Config{Nodes: []string{n.URL}, Offline: OfflineLocal})
	if err := n.Down(); err != nil {
		t.Fatal(err)
	}
	if s := tell(t, h, bashBefore("s1", "t0", "ls")); !s.denied() || !strings.Contains(s.reason(), "no constitution") {
		t.Errorf("before any node was heard: %+v", s)
	}
	if err := n.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Learn(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.Down(); err != nil {
		t.Fatal(err)
	}
	if s := tell(t, h, bashBefore("s1", "t1", "rm -rf /")); !s.denied() || !strings.Contains(s.reason(), "delete-system") {
		t.Errorf("%+v", s)
	}
	for _, call := range []string{"t2", "t3"} {
		if s := tell(t, h, bashBefore("s1", call, "ls")); s.denied() {
			t.Errorf("%+v", s)
		}
		tell(t, h, bashAfter("s1", call, "ls", wentWell))
	}
	tell(t, h, stop("s1"))
	if s := tell(t, h, `{"session_id":"s2","hook_event_name":"SessionStart"}`); s.output.Specific == nil || !strings.Contains(s.output.Specific.Context, "5 items wait") {
		t.Errorf("the memory of a turn that waits: %+v", s)
	}
	if err := n.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	proofs := ledger(t, n)
	if got := story(proofs); got != "open active suspended resumed active computing!FATE_VIOLATION computing validated committed active computing validated committed terminated" {
		t.Errorf("the ledger has %s", got)
	}
	meta, ok := proofs[6].data["meta"].(map[string]any)
	if !ok || meta["offline"] != true || meta["rules"] != whereHere {
		t.Errorf("a call that was judged here says %v", meta)
	}
}

// TestJudgedHere: where the text must not leave the machine, the region is asked for its rules only.
func TestJudgedHere(t *testing.T) {
	n := region(t)
	h := newHome(t, Config{Nodes: []string{n.URL}, Judge: JudgeLocal})
	if s := tell(t, h, bashBefore("s1", "t1", "rm -rf /")); !s.denied() || !strings.Contains(s.reason(), "delete-system") {
		t.Errorf("%+v", s)
	}
	if s := tell(t, h, bashBefore("s1", "t2", "ls")); s.denied() {
		t.Errorf("%+v", s)
	}
}

// TestStrangers: an agent that nobody registered may do nothing; its calls are withheld and wait.
func TestStrangers(t *testing.T) {
	n := region(t, func(d *federation.Document) { d.Constitution.Limits.OpenRegistration = false })
	h := newHome(t, Config{Nodes: []string{n.URL}})
	if s := tell(t, h, bashBefore("s1", "t1", "ls")); !s.denied() || !strings.Contains(s.reason(), "not registered") {
		t.Errorf("%+v", s)
	}
	if waiting(t, h) != 1 {
		t.Errorf("%d items wait", waiting(t, h))
	}
}

// TestProtected: the hook's own is not for the agent that it governs.
func TestProtected(t *testing.T) {
	n := region(t)
	h := newHome(t, Config{Nodes: []string{n.URL}})
	for tool, input := range map[string]string{
		"Bash":  `{"command":"cat .bizra/agent.key"}`,
		"Read":  `{"file_path":"/p/.bizra/salt.key"}`,
		"Write": `{"file_path":"/p/.claude/settings.json","content":"{}"}`,
		"Edit":  `{"file_path":"/p/.bizra/hook.json","old_string":"closed","new_string":"local"}`,
		// Names in another case are the same files on some machines; a patch names its files in its text.
		"Glob":        `{"pattern":"/p/.BIZRA/*"}`,
		"apply_patch": `{"patch":"*** Begin Patch\n*** Update File: .bizra/hook.json\n@@\n-closed\n+local\n*** End Patch"}`,
		"edit_files":  `{"edits":[{"diff":"--- a/.claude/settings.json\n+++ b/.claude/settings.json\n@@ -1 +1 @@\n-x\n+y\n"}]}`,
	} {
		if s := tell(t, h, eventOf("PreToolUse", "s1", tool, tool, `"tool_input":`+input)); !s.denied() || !strings.Contains(s.reason(), "belongs to the hook") {
			t.Errorf("%s %s: %+v", tool, input, s)
		}
	}
	for tool, input := range map[string]string{
		"Write": `{"file_path":"/p/README.md","content":"The folder .bizra is the hook's."}`,
		"Bash":  `{"command":"ls my.bizra.d"}`,
		"Patch": `{"patch":"*** Begin Patch\n*** Update File: README.md\n@@\n+.bizra is the hook's\n*** End Patch"}`,
		"Read":  `{"file_path":"/p/.claude/settings.json"}`,
	} {
		if s := tell(t, h, eventOf("PreToolUse", "s1", tool, tool+"2", `"tool_input":`+input)); s.denied() {
			t.Errorf("%s %s: %+v", tool, input, s)
		}
	}
	if got := story(ledger(t, n)); strings.Count(got, "computing!FATE_VIOLATION") != 7 {
		t.Errorf("the ledger has %s", got)
	}
}

// TestLongTexts: a file that is longer than a proof is judged whole, in parts.
func TestLongTexts(t *testing.T) {
	n := region(t)
	h := newHome(t, Config{Nodes: []string{n.URL}})
	write := func(call, content string) *said {
		in, err := json.Marshal(map[string]string{"file_path": "/p/run.sh", "content": content})
		if err != nil {
			t.Fatal(err)
		}
		return tell(t, h, eventOf("PreToolUse", "s1", "Write", call, `"tool_input":`+string(in)))
	}
	line := "echo hello from a long file\n"
	if s := write("t1", strings.Repeat(line, 8000)); s.denied() {
		t.Errorf("a long file: %+v", s)
	}
	if s := write("t2", strings.Repeat(line, 4000)+"rm -rf /\n"+strings.Repeat(line, 4000)); !s.denied() || !strings.Contains(s.reason(), "delete-system") {
		t.Errorf("a long file with something in the middle: %+v", s)
	}
	if s := write("t3", strings.Repeat(line, windowsMax*windowBytesMax/len(line)+1)); !s.denied() || !strings.Contains(s.reason(), "cannot be judged") {
		t.Errorf("a file that is too long: %+v", s)
	}
	if s := tell(t, h, bashBefore("s1", "t4", "echo "+strings.Repeat("x", judgedBytesMax))); !s.denied() || !strings.Contains(s.reason(), "cannot be judged") {
		t.Errorf("a long command: %+v", s)
	}
}

// TestFailClosed: before a tool call every fault blocks, by exit code where nothing else can be said.
func TestFailClosed(t *testing.T) {
	n := region(t)
	h := newHome(t, Config{Nodes: []string{n.URL}})
	for name, event := range map[string]string{"nothing": "", "no JSON": "x", "a name twice": `{"session_id":"s","hook_event_name":"PreToolUse","tool_name":"Bash","tool_input":{"a":1,"a":2}}`} {
		if s := tell(t, h, event); s.code != ExitBlocked || s.err == "" {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if s := tell(t, h, eventOf("PostToolUse", "s", "Bash", "t", `"tool_input":{"a":1,"a":2}`)); s.code != ExitFailed {
		t.Errorf("a fault after a call: %+v", s)
	}
	nowhere := &Home{Dir: t.TempDir() + "/none"}
	if s := tell(t, nowhere, bashBefore("s", "t", "ls")); s.code != ExitBlocked || !strings.Contains(s.err, "bizra hook install") {
		t.Errorf("no home: %+v", s)
	}
	if err := os.WriteFile(h.path(FileConfig), []byte(`{"offlin":"local"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if s := tell(t, h, bashBefore("s", "t", "ls")); s.code != ExitBlocked || !strings.Contains(s.err, "offlin") {
		t.Errorf("a mistake in the configuration: %+v", s)
	}
}

// TestUnwritable: a call that cannot be written down does not happen.
func TestUnwritable(t *testing.T) {
	n := region(t)
	h := newHome(t, Config{Nodes: []string{n.URL}})
	if err := os.RemoveAll(h.path(dirPending)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.path(dirPending), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s := tell(t, h, bashBefore("s1", "t1", "ls")); !s.denied() {
		t.Errorf("%+v", s)
	}
}

// TestFullOutbox: with as much as it may hold waiting, every call is denied, one less and it is not.
func TestFullOutbox(t *testing.T) {
	n := region(t)
	h := newHome(t, Config{Nodes: []string{n.URL}})
	i := Item{Version: itemVersion, Turn: turn{CLI: "other"}}
	for i.Seq = 1; i.Seq <= OutboxItemsMax-1; i.Seq++ {
		if err := h.save(&i, false); err != nil {
			t.Fatal(err)
		}
	}
	if s := tell(t, h, bashBefore("s1", "t1", "ls")); s.denied() {
		t.Errorf("one below the limit: %+v", s)
	}
	if err := h.save(&i, false); err != nil {
		t.Fatal(err)
	}
	if s := tell(t, h, bashBefore("s1", "t2", "ls")); !s.denied() || !strings.Contains(s.reason(), "outbox is full") {
		t.Errorf("at the limit: %+v", s)
	}
	if err := h.put(t.Context(), "s1", func(*turn, *Item) (bool, error) { return true, nil }); !errors.Is(err, errFull) {
		t.Errorf("append: %v", err)
	}
}

// TestGemini answers a CLI in its own words.
func TestGemini(t *testing.T) {
	n := region(t)
	h := newHome(t, Config{Nodes: []string{n.URL}})
	event := strings.Replace(string(recordedEvent(t, "gemini-before-shell")), "npm test", "rm -rf /", 1)
	if s := tell(t, h, event); s.output.Decision != "deny" || s.output.Specific != nil || !strings.Contains(s.output.Reason, "delete-system") {
		t.Errorf("%+v", s)
	}
	for _, name := range []string{"gemini-before-shell", "gemini-after-shell", "gemini-after-agent"} {
		if s := tell(t, h, string(recordedEvent(t, name))); s.denied() || s.code != ExitDone {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if got := story(ledger(t, n)); got != "open active computing!FATE_VIOLATION computing validated committed terminated" {
		t.Errorf("the ledger has %s", got)
	}
}

// TestOldEnvelopes: what was signed under another constitution, or on another head, is signed again.
func TestOldEnvelopes(t *testing.T) {
	n := region(t)
	h := newHome(t, Config{Nodes: []string{n.URL}})
	p, err := h.Learn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.PolicyHash = strings.Repeat("ab", 32)
	if err := h.keepPolicy(p); err != nil {
		t.Fatal(err)
	}
	tell(t, h, bashBefore("s1", "t1", "ls"))
	tell(t, h, bashAfter("s1", "t1", "ls", wentWell))
	if got := story(ledger(t, n)); got != "open!POLICY_MISMATCH open active computing validated" {
		t.Errorf("the ledger has %s", got)
	}
	// A session that moved on without this home: the region says where it stands.
	var st stand
	items := ledger(t, n)
	session := items[len(items)-1].session
	if _, err := readJSON(h.path(dirHeads, session+".json"), &st); err != nil {
		t.Fatal(err)
	}
	st.State, st.Head = stateActive, strings.Repeat("cd", 32)
	if err := writeJSON(h.path(dirHeads, session+".json"), &st, false); err != nil {
		t.Fatal(err)
	}
	tell(t, h, bashBefore("s1", "t2", "ls"))
	tell(t, h, bashAfter("s1", "t2", "ls", wentWell))
	if got := story(ledger(t, n)[len(items):]); got != "computing!STATE_MISMATCH committed active computing validated" || waiting(t, h) != 0 {
		t.Errorf("the ledger has %s, %d items wait", got, waiting(t, h))
	}
}

// TestPause: after no node answered, the next event does not wait for one again; flush does.
func TestPause(t *testing.T) {
	h := newHome(t, Config{})
	tell(t, h, bashBefore("s1", "t1", "ls"))
	items, err := h.list()
	if err != nil || len(items) != 1 {
		t.Fatalf("%v, %v", items, err)
	}
	i, err := h.load(items[0].file)
	if err != nil || time.Until(i.NotBefore) <= 0 || time.Until(i.NotBefore) > pauseUnreachable || i.Problem == "" {
		t.Fatalf("%+v, %v", i, err)
	}
	if n, err := h.drain(t.Context(), false); n != 0 || !errors.Is(err, errLater) || !strings.Contains(err.Error(), "waits another") {
		t.Errorf("%d, %v", n, err)
	}
}

// TestRecord: an agent whose record supports less than proofs claim is withheld, and nothing is sent that
// would make the record worse.
func TestRecord(t *testing.T) {
	n := region(t, func(d *federation.Document) { d.Constitution.Thresholds.MeasuredSNRMargin = 0.1 })
	h := newHome(t, Config{Nodes: []string{n.URL}})
	denials := 0
	for ; denials < 60 && waiting(t, h) == 0; denials++ {
		if s := tell(t, h, bashBefore("s1", fmt.Sprint("t", denials), "rm -rf /")); !s.denied() {
			t.Fatalf("%+v", s)
		}
	}
	if waiting(t, h) == 0 || denials < 20 {
		t.Fatalf("after %d denials nothing waits", denials)
	}
	_, size := ledgerFrom(t, n, 1<<40)
	if s := tell(t, h, bashBefore("s1", "last", "ls")); !s.denied() || !strings.Contains(s.reason(), "above what the agent's record supports") {
		t.Errorf("%+v", s)
	}
	if _, err := h.Flush(t.Context()); !errors.Is(err, errLater) || !strings.Contains(err.Error(), "each minute mends") {
		t.Errorf("flush: %v", err)
	}
	if _, now := ledgerFrom(t, n, 1<<40); now != size {
		t.Errorf("%d entries more", now-size)
	}
}
