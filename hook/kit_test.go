package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/client/judge"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/internal/testnode"
)

// newHome makes a home whose node nobody runs, unless the configuration names one.
func newHome(t testing.TB, cfg Config) *Home {
	t.Helper()
	if cfg.AgentID == "" {
		cfg.AgentID = "builder"
	}
	if len(cfg.Nodes) == 0 {
		cfg.Nodes = []string{"http://127.0.0.1:1"}
	}
	h, err := Create(t.TempDir()+"/.bizra", cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func mustCall(t testing.TB, h *Home, e *Event) *call {
	t.Helper()
	c, err := h.newCall(e, &verdict{where: whereHere}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// region starts a node of a region whose agents may fail as they like.
func region(t testing.TB, change ...func(*federation.Document)) *testnode.Node {
	t.Helper()
	n, err := testnode.Start(t.Context(), append([]func(*federation.Document){testfed.Lenient}, change...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// here judges in this process.
func here(_ context.Context, constitution []byte, questions []client.Question) (*client.Judgement, error) {
	by, err := judge.Parse(constitution)
	if err != nil {
		return nil, err
	}
	var j *client.Judgement
	for _, q := range questions {
		if j, err = by.Judge(q, judge.Standing{}); err != nil || !j.Passed {
			break
		}
	}
	return j, err
}

// said is what the hook answered to an event.
type said struct {
	code     int
	out, err string
	output   output
}

func (s *said) denied() bool {
	return s.code == ExitBlocked || s.output.Decision == "deny" || s.output.Specific != nil && s.output.Specific.Decision == "deny"
}

func (s *said) reason() string {
	if s.output.Specific != nil {
		return s.output.Specific.Reason
	}
	return s.output.Reason + s.err
}

// tell runs the hook on an event.
func tell(t testing.TB, h *Home, event string) *said {
	t.Helper()
	var out, errOut bytes.Buffer
	s := &said{}
	s.code = Run(t.Context(), Options{Dir: h.Dir, In: strings.NewReader(event), Out: &out, Err: &errOut, Local: here})
	s.out, s.err = out.String(), errOut.String()
	if s.code == ExitDone {
		if err := json.Unmarshal(out.Bytes(), &s.output); err != nil {
			t.Fatalf("the answer %q: %v", s.out, err)
		}
	}
	return s
}

func eventOf(name, session, tool, call string, members ...string) string {
	text := fmt.Sprintf(`{"session_id":%q,"transcript_path":"/t.jsonl","cwd":"/p","hook_event_name":%q,"tool_name":%q,"tool_use_id":%q`, session, name, tool, call)
	for _, m := range members {
		text += "," + m
	}
	return text + "}"
}

func bashBefore(session, call, command string) string {
	return eventOf("PreToolUse", session, "Bash", call, fmt.Sprintf(`"tool_input":{"command":%q}`, command))
}

func bashAfter(session, call, command, response string) string {
	return eventOf("PostToolUse", session, "Bash", call, fmt.Sprintf(`"tool_input":{"command":%q}`, command), `"tool_response":`+response)
}

func stop(session string) string {
	return fmt.Sprintf(`{"session_id":%q,"hook_event_name":"Stop"}`, session)
}

const wentWell = `{"stdout":"ok","stderr":"","interrupted":false,"isImage":false}`

// recordedProof is what the ledger has of one proof.
type recordedProof struct {
	name, action, to, session string
	digest                    string
	data                      map[string]any
}

// ledger reads every proof of a region, in order, with its data.
func ledger(t testing.TB, n *testnode.Node) []recordedProof {
	t.Helper()
	proofs, _ := ledgerFrom(t, n, 0)
	return proofs
}

// ledgerFrom reads the proofs from an entry on, and says how many entries there are.
func ledgerFrom(t testing.TB, n *testnode.Node, first int64) (all []recordedProof, size int64) {
	t.Helper()
	c, err := client.New(client.Config{URLs: []string{n.URL}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for size = s.Ledger.Size; first < size; {
		tile := tlog.Tile{H: torchwood.TileHeight, L: -1, N: first / torchwood.TileWidth}
		tile.W = int(min(torchwood.TileWidth, size-tile.N*torchwood.TileWidth))
		text, err := c.Tile(t.Context(), tile, "")
		if err != nil {
			t.Fatal(err)
		}
		for at := tile.N * torchwood.TileWidth; len(text) > 1; at++ {
			length := int(text[0])<<8 | int(text[1])
			if at == first {
				all = append(all, proofsOf(t, text[2:2+length])...)
				first++
			}
			text = text[2+length:]
		}
	}
	return all, size
}

// proofsOf is the proof that an entry records, if it records one.
func proofsOf(t testing.TB, text []byte) []recordedProof {
	t.Helper()
	e, err := fsm.ParseEntry(text)
	if err != nil {
		t.Fatal(err)
	}
	if e.Envelope == nil {
		return nil
	}
	p := recordedProof{name: e.Outcome.Code.String(), action: e.Envelope.Payload.Action, session: e.Outcome.Session, digest: fmt.Sprintf("%x", e.Envelope.Digest())}
	if err := json.Unmarshal(e.Envelope.Payload.Data.AppendCanonical(nil), &p.data); err != nil {
		t.Fatal(err)
	}
	p.to, _ = p.data["to"].(string)
	if p.session == "" {
		p.session, _ = p.data["session"].(string)
	}
	return []recordedProof{p}
}

// story tells proofs in short.
func story(proofs []recordedProof) string {
	var parts []string
	for _, p := range proofs {
		what := p.to
		if p.action == "session.open" {
			what = "open"
		}
		if p.name != "SUCCESS" {
			what += "!" + strings.TrimPrefix(p.name, "REJECT_")
		}
		parts = append(parts, what)
	}
	return strings.Join(parts, " ")
}

func waiting(t testing.TB, h *Home) int {
	t.Helper()
	items, err := h.list()
	if err != nil {
		t.Fatal(err)
	}
	return len(items)
}

func TestMain(m *testing.M) {
	if os.Getenv(crashAt) != "" {
		os.Exit(crashing()) //nolint:forbidigo // here the test's program is the hook
	}
	m.Run()
}
