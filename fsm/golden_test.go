package fsm_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"hash"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/market"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

var rewriteGolden = flag.Bool("rewrite-golden", false, "write testdata/*.golden anew, after a change of the state version")

const (
	goldenCommands = 10_000
	goldenSeed     = 7369
)

// TestGoldenCommands applies two logs of 10,000 mixed commands, one of a region without a market and one of a region that has
// one. The log, what every proof in it was answered, the ledger and the
// state commitment are the same on every processor: `make processors` runs it for amd64 at two levels and for arm64.
//
// The log is made while it is applied, since a step names the head that it builds on. So a difference in the first line that
// differs, not only in the last, tells where two processors part.
func TestGoldenCommands(t *testing.T) {
	met := []pci.Code{pci.RejectSchema, pci.RejectNonceReplay, pci.RejectTimestampStale, pci.RejectIhsanBelowMin,
		pci.RejectSNRBelowMin, pci.RejectPolicyMismatch, pci.RejectStateMismatch, pci.RejectRoleViolation, pci.RejectInvariantFailed,
		pci.RejectRateLimited, pci.RejectFateViolation, pci.RejectBudgetExceeded}
	t.Run("commands", func(t *testing.T) {
		newGolden(t, testfed.New(1, 3, testfed.DefaultRules)).check(t, "testdata/commands.golden", met)
	})
	t.Run("market", func(t *testing.T) {
		g := newGolden(t, testfed.New(1, 3, testfed.DefaultRules, testfed.Lenient, testfed.Market))
		g.market = true
		g.check(t, "testdata/market.golden", append(met, pci.RejectADLGiniExceeded, pci.RejectADLNegativeHolding, pci.RejectADLInvalidTx, pci.RejectADLDustAmount))
		epochs, err := g.r.view().Epochs(1<<40, fsm.PageMax)
		if err != nil || len(epochs) < 10 {
			t.Errorf("%d epochs: %v", len(epochs), err)
		}
	})
}

// check makes the log, and holds what came of it against the file.
func (g *golden) check(t *testing.T, file string, met []pci.Code) {
	for g.commands < goldenCommands {
		g.next()
	}
	got := g.summary()
	if g.codes[pci.Success] < goldenCommands/3 {
		t.Errorf("%d proofs were accepted: the log does not test much", g.codes[pci.Success])
	}
	for _, c := range met {
		if g.codes[c] == 0 {
			t.Errorf("no proof met %v", c)
		}
	}
	if *rewriteGolden {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("this processor, or this program, computes\n%sand not\n%sIf the state version has changed, run: go test ./fsm -run TestGoldenCommands -rewrite-golden", got, want)
	}
}

// golden makes the log from a seed and applies it.
type golden struct {
	r        *rig
	rng      *rand.Rand
	agents   []*testfed.Signer // two that flood, two that make mistakes, the others seldom do
	operator *testfed.Signer
	market   bool                   // the region has one
	tips     map[string][]goldenTip // by session: heads that a proof was told of, stale ones among them
	opened   int
	careless bool // what is being made may be wrong
	names    int
	trades   int             // issues that were tried: licences have lower numbers
	sent     []*pci.Envelope // some of them, to be sent again
	commands int
	log      hash.Hash
	receipts hash.Hash
	codes    map[pci.Code]int
}

type goldenTip struct {
	head  string
	state session.State
}

func newGolden(t *testing.T, fed *testfed.Federation) *golden {
	g := &golden{r: newRig(t, fed), rng: rand.New(rand.NewPCG(goldenSeed, 0)), operator: fed.Operator("a", start),
		tips: map[string][]goldenTip{}, log: sha256.New(), receipts: sha256.New(), codes: map[pci.Code]int{}}
	for range 12 {
		g.enrol()
	}
	return g
}

func (g *golden) apply(data []byte) fsm.Result {
	g.commands++
	var size [8]byte
	binary.BigEndian.PutUint64(size[:], uint64(len(data)))
	g.log.Write(size[:])
	g.log.Write(data)
	return g.r.apply(data)
}

func (g *golden) submit(envs ...*pci.Envelope) {
	canonical := make([][]byte, len(envs))
	for i, e := range envs {
		canonical[i] = e.Canonical()
		if len(g.sent) < 500 {
			g.sent = append(g.sent, e)
		}
	}
	for _, rec := range g.apply(fsm.EncodeProofs(g.r.now, canonical)).Receipts {
		g.codes[rec.Code]++
		b, err := json.Marshal(rec)
		if err != nil {
			g.r.t.Fatal(err)
		}
		g.receipts.Write(b)
		if s, ok := session.ParseState(rec.State); ok && rec.Head != "" {
			tips := g.tips[rec.Session]
			g.tips[rec.Session] = append(tips[max(0, len(tips)-19):], goldenTip{rec.Head, s})
		}
	}
}

func (g *golden) enrol() {
	g.names++
	a := g.r.fed.Agent(fmt.Sprintf("agent-%d", g.names), g.r.now)
	g.operator.NowMillis = g.r.now
	g.submit(g.operator.Register("a", a))
	g.agents = append(g.agents, a)
}

func (g *golden) dice(sides int) int { return g.rng.IntN(sides) }

func pick[T any](g *golden, from []T) T { return from[g.dice(len(from))] }

// next makes one command.
func (g *golden) next() {
	if g.dice(4) == 0 {
		g.r.now += int64(g.dice(4000))
	}
	if g.market && g.dice(300) == 0 {
		g.r.now += market.EpochMillis
	}
	switch g.dice(100) {
	case 0:
		g.apply(fsm.EncodeSeal())
	case 1:
		g.r.now += int64(g.dice(400_000)) // nonces are forgotten
		g.apply(fsm.EncodeSeal())
	case 2:
		g.operate()
	case 3, 4, 5, 6:
		var batch []*pci.Envelope
		for range 2 + g.dice(6) {
			batch = append(batch, g.proof())
		}
		g.submit(batch...)
	case 7, 8:
		g.submit(pick(g, g.sent))
	case 9:
		if g.dice(6) == 0 {
			g.flood()
		}
		g.submit(g.proof())
	default:
		g.submit(g.proof())
	}
}

// operate does what only an operator may, with some that it may not.
func (g *golden) operate() {
	g.operator.NowMillis = g.r.now
	voter := map[string]any{"region": "a", "op": "add", "name": fmt.Sprintf("n%d", g.commands),
		"node": fmt.Sprintf("%x", testfed.Key(fmt.Sprintf("voter-%d", g.commands%9)).Public())}
	switch g.dice(6) {
	case 0:
		g.enrol()
	case 1:
		if len(g.agents) > 8 {
			last := g.agents[len(g.agents)-1]
			g.submit(g.operator.Sign("agent.revoke", map[string]any{"region": "a", "agent_id": last.AgentID, "reason": "it left"}, ""))
			last.NowMillis = g.r.now
			g.submit(last.Sign("session.open", open("s-of-the-revoked"), ""))
			g.agents = g.agents[:len(g.agents)-1]
		}
	case 2:
		g.submit(g.operator.Sign("region.voter", voter, ""))
	case 3:
		voter["op"] = "remove"
		delete(voter, "name")
		g.submit(g.operator.Sign("region.voter", voter, ""))
	case 4:
		a := pick(g, g.agents)
		a.NowMillis = g.r.now
		g.submit(a.Sign("region.voter", voter, "")) // no operator
	default:
		g.submit(g.operator.Register("a", pick(g, g.agents))) // known already
	}
}

// flood is an agent that is refused more often than a minute allows.
func (g *golden) flood() {
	a := pick(g, g.agents[:2])
	a.NowMillis = g.r.now
	var batch []*pci.Envelope
	for range 65 {
		batch = append(batch, a.Sign("session.open", open("s-flood"), "", func(d *pci.Draft) { d.IhsanScore = 0.1 }))
	}
	g.submit(batch...)
}

// proof makes one proof of an agent; most of them are steps that stand a chance.
func (g *golden) proof() *pci.Envelope {
	who := 2 + g.dice(len(g.agents)-2)
	a := g.agents[who]
	a.NowMillis = g.r.now
	g.careless = who < 4 || g.dice(25) == 0
	change := g.fault()
	if g.market && g.dice(4) == 0 {
		return g.trade(a, change)
	}
	if g.opened < 20 || g.dice(8) == 0 {
		return g.open(a, change)
	}
	id := fmt.Sprintf("s%d", max(0, g.opened-1-g.dice(40)))
	tips := g.tips[id]
	if len(tips) == 0 || tips[len(tips)-1].state == session.Terminated && g.dice(20) > 0 {
		return g.open(a, change)
	}
	at := tips[len(tips)-1]
	if g.dice(12) == 0 {
		at = pick(g, tips) // a stale one, or another branch
	}
	switch g.dice(20) {
	case 0:
		return a.Sign("session.branch", map[string]any{"session": id, "name": "b", "reason": "två vägar 二"}, at.head, change)
	case 1:
		for _, other := range tips {
			if other.state == at.state && other.head != at.head {
				return a.Sign("session.merge", map[string]any{"session": id, "heads": []any{at.head, other.head}}, at.head, change)
			}
		}
		fallthrough
	case 2:
		return a.Sign("session.rollback", map[string]any{"session": id, "ancestor": pick(g, tips).head, "reason": "undo"}, at.head, change)
	default:
		return a.Sign("session.transition", g.transition(id, at), at.head, change)
	}
}

// trade is a step in the market, of an agent for its owner or of the operator for the treasury.
func (g *golden) trade(a *testfed.Signer, change func(*pci.Draft)) *pci.Envelope {
	price := int64(market.Credit)*int64(5+g.dice(10)) + int64(g.dice(1000))
	if g.careless || g.dice(12) == 0 {
		price = pick(g, []int64{market.Credit - 1, market.Credit, 40 * market.Credit, 400 * market.Credit})
	}
	licence := g.dice(g.trades + 1)
	switch kind := g.dice(10); {
	case kind < 2:
		g.operator.NowMillis = g.r.now
		return g.operator.Sign("market.pay", map[string]any{"region": "a", "to": "owner-of-" + a.AgentID, "amount_micro": 20 * price}, "")
	case kind < 6:
		g.trades++
		return a.Sign("market.issue", map[string]any{"region": "a", "resource": pick(g, []string{"cpu", "gpu"}), "quantity": 1 + g.dice(4), "price_micro": price}, "", change)
	case kind < 7:
		return a.Sign("market.buy", map[string]any{"region": "a", "licence": licence, "limit_micro": 2 * price, "price_micro": price}, "", change)
	case kind < 8:
		return a.Sign("market.reassess", map[string]any{"region": "a", "licence": licence, "price_micro": price}, "", change)
	case kind < 9:
		return a.Sign("market.pay", map[string]any{"region": "a", "to": "owner-of-" + pick(g, g.agents).AgentID, "amount_micro": price}, "", change)
	default:
		return a.Sign("market.release", map[string]any{"region": "a", "licence": licence}, "", change)
	}
}

func (g *golden) open(a *testfed.Signer, change func(*pci.Draft)) *pci.Envelope {
	var others []string
	for _, o := range g.agents {
		if o != a && g.dice(16) > 0 {
			others = append(others, o.AgentID)
		}
	}
	id := fmt.Sprintf("s%d", g.opened)
	if g.careless && g.dice(6) == 0 {
		id = fmt.Sprintf("s%d", g.dice(g.opened+1)) // there is one already
	} else {
		g.opened++
	}
	return a.Sign("session.open", open(id, others...), "", change)
}

// fault is what is wrong with a proof's envelope, mostly nothing.
func (g *golden) fault() func(*pci.Draft) {
	score := func() float64 { return float64(g.dice(1001)) / 1000 }
	if !g.careless {
		return func(d *pci.Draft) { d.SNRScore = float64(95+len(d.AgentID)%5) / 100 }
	}
	switch g.dice(24) {
	case 0:
		s := score()
		return func(d *pci.Draft) { d.IhsanScore = s }
	case 1:
		s := score()
		return func(d *pci.Draft) { d.SNRScore = s }
	case 2:
		return func(d *pci.Draft) { d.PolicyHash = "" }
	case 3:
		return func(d *pci.Draft) { d.Nonce = [32]byte{7} }
	case 4:
		return func(d *pci.Draft) { d.Timestamp = d.Timestamp.Add(-121_000_000_000) }
	case 5:
		return func(d *pci.Draft) { d.Timestamp = d.Timestamp.Add(119_999_000_000); d.Urgency = "BATCH" }
	case 6, 7:
		return func(d *pci.Draft) { d.AgentID += "-else" }
	default:
		return func(d *pci.Draft) { d.SNRScore = float64(85+g.commands%16) / 100 }
	}
}

// transition is a step with what the governance layers look at.
func (g *golden) transition(id string, at goldenTip) map[string]any {
	next := "active"
	if ways := at.state.Successors(); len(ways) > 0 {
		// The last ways are out of the session, or to failure, which is held against the agent.
		way := ways[min(g.dice(2*len(ways)), g.dice(len(ways)))]
		if way == session.Failed && !g.careless && g.dice(10) > 0 {
			way = ways[0]
		}
		next = way.String()
	}
	if g.careless && g.dice(12) == 0 {
		next = pick(g, states)
	}
	words := []string{"read", "write", "plan", "review", "build", "test", "deploy", "ask"}
	operation := pick(g, words) + "_" + pick(g, words)
	d := to(id, next)
	d["operation"], d["operation_type"] = operation, pick(g, []string{"tool", "model", "shell", "http"})
	d["intent"] = strings.ReplaceAll(operation, "_", " ")
	d["task"] = pick(g, []string{"echo", "lookup", "summarize", "plan", "debug", "architect", "proof", "transform"})
	d["input"] = map[string]any{"text": g.text(), "n": g.dice(1 << 20), "share": float64(g.dice(1<<20)) / (1 << 18)}
	d["meta"] = map[string]any{"description": g.text(), "knowledge_gap": float64(g.dice(101)) / 100}
	d["observation"] = float64(g.dice(1<<16)) / (1 << 16)
	switch at.state { // in these a budget has been allocated
	case session.Computing, session.Validated, session.Committed:
		d["use"] = map[string]any{"tokens": g.dice(30), "time_ms": g.dice(100)}
	}
	if g.market && g.dice(3) == 0 {
		d["resource"] = map[string]any{"type": pick(g, []string{"cpu", "gpu"}), "quantity": 1 + g.dice(2)}
	}
	if !g.careless {
		return d
	}
	switch g.dice(16) {
	case 0:
		delete(d, "intent")
	case 1:
		d["meta"] = map[string]any{"pii_detected": true}
	case 2:
		d["meta"] = map[string]any{"rationale": "x", "toxicity_detected": true, "ethics_violation": false}
	case 3:
		d["use"] = map[string]any{"tokens": 1 << 40, "time_ms": 0}
	case 4:
		d["observation"] = 1.5
	case 5:
		d["resource"] = map[string]any{"type": "gpu", "quantity": 1}
	case 6:
		d["type"], d["reason"] = "recovery", "again"
	case 7:
		for _, name := range []string{"operation", "operation_type", "intent", "task", "input", "meta", "observation", "use"} {
			delete(d, name)
		}
	}
	return d
}

func (g *golden) text() string {
	letters := []rune("abcdefghijklmnop äöß ñ 語 🜁 \"\\\n")
	b := make([]rune, g.dice(120))
	for i := range b {
		b[i] = letters[min(g.dice(len(letters)), g.dice(len(letters)))]
	}
	return string(b)
}

// summary is what the golden file holds.
func (g *golden) summary() string {
	state, err := g.r.m.StateRoot()
	if err != nil {
		g.r.t.Fatal(err)
	}
	root, err := g.r.view().Ledger().Root(g.r.size())
	if err != nil {
		g.r.t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "state version %d\ncommands %d, sha256 %x\nreceipts sha256 %x\n", fsm.StateVersion, g.commands, g.log.Sum(nil), g.receipts.Sum(nil))
	var codes []pci.Code
	for c := range g.codes {
		codes = append(codes, c)
	}
	slices.Sort(codes)
	for _, c := range codes {
		fmt.Fprintf(&b, "  %d %v\n", g.codes[c], c)
	}
	fmt.Fprintf(&b, "ledger of %d entries, root %x\nstate %x\n", g.r.size(), root[:], state)
	return b.String()
}
