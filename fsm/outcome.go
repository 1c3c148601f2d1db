package fsm

import (
	"strconv"

	"github.com/bizra/bizra/fsm/budget"
	"github.com/bizra/bizra/fsm/fate"
	"github.com/bizra/bizra/fsm/ntu"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/pci"
)

// Outcome is what the state machine decided about an entry.
type Outcome struct {
	Code    pci.Code
	Reason  string        // token; "" if accepted
	Session string        // "" where the action concerns none
	Head    string        // the node made, if any
	State   string        // that node's state
	NTU     *ntu.State    // of the session's unit, where a transition was taken
	Fate    *fate.Verdict // where FATE judged
	Budget  *Budget       // what the node made has left, or what was too little
	Agent   *Standing     // the sender's after this; nil for operators and strangers

	Market     *Trade      // what the step did in the market
	Unlicensed *Unlicensed // why the step was refused for want of a licence

	Breaker *Decision // kind breaker
	Epoch   *Epoch    // kind epoch

	DocumentDigest string // genesis: the federation document in force
	Document       int64  // genesis: its version
	StateVersion   int64  // genesis: the rules in force
}

// Budget is what a session's tip may spend.
type Budget struct {
	Task      budget.Task        `json:"task"`
	Tier      budget.Tier        `json:"tier"`
	Left      budget.Remaining   `json:"left"`
	Allocated *budget.Allocation `json:"allocated,omitempty"` // by this step
	Over      *Over              `json:"over,omitempty"`      // why the step was refused
}

// Over is a part of a budget that a use would exceed.
type Over struct {
	Part  string `json:"part"` // tokens or time_ms
	Asked int64  `json:"asked"`
	Left  int64  `json:"left"`
}

// Standing is how an agent has done, as of some log time.
type Standing struct {
	Outcomes     int64        `json:"outcomes"`                     // that were measured
	Measured     float64      `json:"measured_snr"`                 // their exponential mean, in [0,1]
	ClaimMax     float64      `json:"claim_max"`                    // the highest snr_score that it may claim next
	EnoughMillis int64        `json:"-" cbor:"enough_at,omitempty"` // log time from which on the claim refused would do; 0: none was
	Reputation   float64      `json:"reputation"`                   // in [0,1]
	Breaker      BreakerState `json:"breaker"`
	UntilMillis  int64        `json:"-" cbor:"until,omitempty"` // log time at which a mute ends, or a throttled minute; 0: no limit
}

func (o *Outcome) appendCanonical(b []byte, kind string) []byte {
	switch kind {
	case EntryGenesis:
		b = strconv.AppendInt(append(b, `{"document":`...), o.Document, 10)
		b = append(append(b, `,"document_digest":"`...), o.DocumentDigest...)
		b = strconv.AppendInt(append(b, `","state_version":`...), o.StateVersion, 10)
		return append(b, '}')
	case EntryBreaker:
		return o.Breaker.appendCanonical(b)
	case EntryEpoch:
		return o.Epoch.appendCanonical(b)
	}
	b = o.Agent.appendCanonical(append(b, `{"agent":`...))
	b = o.Budget.appendCanonical(append(b, `,"budget":`...))
	b = strconv.AppendUint(append(b, `,"code":`...), uint64(o.Code), 10)
	b = appendVerdict(append(b, `,"fate":`...), o.Fate)
	b = append(append(b, `,"head":"`...), o.Head...)
	b = o.Market.appendCanonical(append(b, '"'))
	b = session.AppendNTU(append(b, `,"ntu":`...), o.NTU)
	b = append(append(b, `,"reason":"`...), o.Reason...)
	b = pci.AppendString(append(b, `","session":`...), o.Session)
	b = append(append(append(b, `,"state":"`...), o.State...), '"')
	return append(o.Unlicensed.appendCanonical(b), '}')
}

const null = "null"

func (s *Standing) appendCanonical(b []byte) []byte {
	if s == nil {
		return append(b, null...)
	}
	b = append(append(b, `{"breaker":"`...), s.Breaker.String()...)
	b = pci.AppendFloat(append(b, `","claim_max":`...), s.ClaimMax)
	b = strconv.AppendInt(append(b, `,"enough_at":`...), s.EnoughMillis, 10)
	b = pci.AppendFloat(append(b, `,"measured_snr":`...), s.Measured)
	b = strconv.AppendInt(append(b, `,"outcomes":`...), s.Outcomes, 10)
	b = pci.AppendFloat(append(b, `,"reputation":`...), s.Reputation)
	b = strconv.AppendInt(append(b, `,"until":`...), s.UntilMillis, 10)
	return append(b, '}')
}

func (g *Budget) appendCanonical(b []byte) []byte {
	if g == nil {
		return append(b, null...)
	}
	b = appendAllocation(append(b, `{"allocated":`...), g.Allocated)
	l := g.Left
	b = strconv.AppendInt(append(b, `,"left":{"depth":`...), l.Depth, 10)
	b = strconv.AppendInt(append(b, `,"iterations":`...), l.Iterations, 10)
	b = strconv.AppendInt(append(b, `,"time_ms":`...), l.TimeMillis, 10)
	b = strconv.AppendInt(append(b, `,"tokens":`...), l.Tokens, 10)
	b = strconv.AppendInt(append(b, `,"tracks":`...), l.Tracks, 10)
	b = append(b, `},"over":`...)
	if o := g.Over; o != nil {
		b = strconv.AppendInt(append(b, `{"asked":`...), o.Asked, 10)
		b = strconv.AppendInt(append(b, `,"left":`...), o.Left, 10)
		b = append(append(append(b, `,"part":"`...), o.Part...), `"}`...)
	} else {
		b = append(b, null...)
	}
	b = append(append(b, `,"task":"`...), g.Task.String()...)
	b = append(append(b, `","tier":"`...), g.Tier.String()...)
	return append(b, `"}`...)
}

func appendAllocation(b []byte, a *budget.Allocation) []byte {
	if a == nil {
		return append(b, null...)
	}
	b = pci.AppendFloat(append(b, `{"complexity":`...), a.Complexity)
	b = pci.AppendFloat(append(b, `,"confidence":`...), a.Confidence)
	b = strconv.AppendInt(append(b, `,"depth":`...), a.Depth, 10)
	b = strconv.AppendBool(append(b, `,"extended_thinking":`...), a.ExtendedThinking)
	b = strconv.AppendInt(append(b, `,"iterations":`...), a.Iterations, 10)
	b = strconv.AppendInt(append(b, `,"ntu_window":`...), int64(a.NTUWindow), 10)
	b = append(append(b, `,"task":"`...), a.Task.String()...)
	b = append(append(b, `","tier":"`...), a.Tier.String()...)
	b = strconv.AppendInt(append(b, `","time_ms":`...), a.TimeMillis, 10)
	b = pci.AppendFloat(append(b, `,"time_seconds":`...), a.TimeSeconds)
	b = strconv.AppendInt(append(b, `,"tokens":`...), a.Tokens, 10)
	b = strconv.AppendInt(append(b, `,"tracks":`...), a.Tracks, 10)
	return append(b, '}')
}

func appendVerdict(b []byte, v *fate.Verdict) []byte {
	if v == nil {
		return append(b, null...)
	}
	b = pci.AppendFloat(append(b, `{"composite":`...), v.Composite)
	b = append(b, `,"gaps":[`...)
	for i := range v.Gaps {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendGap(b, &v.Gaps[i])
	}
	b = strconv.AppendBool(append(b, `],"passed":`...), v.Passed)
	b = append(append(b, `,"rule":"`...), v.Rule...)
	s := v.Scores
	b = pci.AppendFloat(append(b, `","scores":{"accountability":`...), s.Accountability)
	b = pci.AppendFloat(append(b, `,"ethics":`...), s.Ethics)
	b = pci.AppendFloat(append(b, `,"fidelity":`...), s.Fidelity)
	b = pci.AppendFloat(append(b, `,"transparency":`...), s.Transparency)
	b = pci.AppendFloat(append(b, `},"threshold":`...), v.Threshold)
	b = append(append(b, `,"weakest":"`...), v.Weakest.String()...)
	return append(b, `"}`...)
}

func appendGap(b []byte, g *fate.Gap) []byte {
	b = pci.AppendFloat(append(b, `{"composite":`...), g.Composite)
	b = append(append(b, `,"dimension":"`...), g.Dimension.String()...)
	b = pci.AppendFloat(append(b, `","gain":`...), g.Gain)
	b = pci.AppendFloat(append(b, `,"least":`...), g.Least)
	b = strconv.AppendBool(append(b, `,"missing":`...), g.Missing)
	b = append(append(b, `,"part":"`...), g.Part...)
	b = strconv.AppendBool(append(b, `","required":`...), g.Required)
	b = append(append(b, `,"rule":"`...), g.Rule...)
	b = append(b, `","words":[`...)
	for i, w := range g.Words {
		if i > 0 {
			b = append(b, ',')
		}
		b = pci.AppendString(b, w)
	}
	return append(b, `]}`...)
}

// The readers below take what the writers above make. What they let pass that no writer
// makes, ParseEntry finds by writing it again.

func readOutcome(o *pci.Object, kind string) Outcome {
	var out Outcome
	switch kind {
	case EntryGenesis:
		out = Outcome{Document: o.Int("document"), DocumentDigest: o.Text("document_digest", 64), StateVersion: o.Int("state_version")}
	case EntryBreaker:
		out.Breaker = readDecision(o)
	case EntryEpoch:
		out.Epoch = readEpoch(o)
	default:
		code := o.Int("code")
		if code < 0 || code > 104 {
			o.Fault("outcome.code %d is no reject code", code)
			code = 0
		}
		out = Outcome{Code: pci.Code(code), Head: o.Text("head", 64), Reason: o.Text("reason", 64),
			Session: o.Text("session", session.IDBytesMax), State: o.Text("state", 16),
			NTU: session.ReadNTU(o, "ntu"), Fate: readVerdict(o), Budget: readBudget(o), Agent: readStanding(o), Market: readTrade(o), Unlicensed: readUnlicensed(o)}
	}
	_ = o.Done()
	return out
}

// member reads a member that is an object; nil if it is null.
func member(o *pci.Object, name string) *pci.Object {
	if v, _ := o.Any(name); v.Kind() == pci.NullKind {
		return nil
	}
	return o.Object(name)
}

func readStanding(o *pci.Object) *Standing {
	a := member(o, "agent")
	if a == nil {
		return nil
	}
	s := &Standing{Outcomes: a.Int("outcomes"), Measured: a.Float("measured_snr"), ClaimMax: a.Float("claim_max"),
		EnoughMillis: a.Int("enough_at"), Reputation: a.Float("reputation"), UntilMillis: a.Int("until")}
	s.Breaker = readBreakerState(a, "breaker")
	_ = a.Done()
	return s
}

func readBudget(o *pci.Object) *Budget {
	g := member(o, "budget")
	if g == nil {
		return nil
	}
	b := &Budget{Task: readTask(g), Tier: readTier(g)}
	l := g.Object("left")
	b.Left = budget.Remaining{TimeMillis: l.Int("time_ms"), Tokens: l.Int("tokens"), Iterations: l.Int("iterations"), Depth: l.Int("depth"), Tracks: l.Int("tracks")}
	_ = l.Done()
	if a := member(g, "allocated"); a != nil {
		b.Allocated = &budget.Allocation{Task: readTask(a), Tier: readTier(a), Complexity: a.Float("complexity"), TimeSeconds: a.Float("time_seconds"),
			TimeMillis: a.Int("time_ms"), Tokens: a.Int("tokens"), Depth: a.Int("depth"), Tracks: a.Int("tracks"), Iterations: a.Int("iterations"),
			Confidence: a.Float("confidence"), ExtendedThinking: a.Bool("extended_thinking"), NTUWindow: int(a.Int("ntu_window"))}
		_ = a.Done()
	}
	if v := member(g, "over"); v != nil {
		b.Over = &Over{Part: v.Text("part", 16), Asked: v.Int("asked"), Left: v.Int("left")}
		_ = v.Done()
	}
	_ = g.Done()
	return b
}

func readTask(o *pci.Object) budget.Task {
	t, ok := budget.ParseTask(o.Text("task", 16))
	if !ok {
		o.Fault("outcome: a task that this program does not know")
	}
	return t
}

func readTier(o *pci.Object) budget.Tier {
	t, ok := budget.ParseTier(o.Text("tier", 16))
	if !ok {
		o.Fault("outcome: a tier that this program does not know")
	}
	return t
}

func readVerdict(o *pci.Object) *fate.Verdict {
	f := member(o, "fate")
	if f == nil {
		return nil
	}
	v := &fate.Verdict{Composite: f.Float("composite"), Threshold: f.Float("threshold"), Passed: f.Bool("passed"), Rule: f.Text("rule", 64),
		Weakest: readDimension(f, "weakest")}
	s := f.Object("scores")
	v.Scores = fate.Scores{Fidelity: s.Float("fidelity"), Accountability: s.Float("accountability"), Transparency: s.Float("transparency"), Ethics: s.Float("ethics")}
	_ = s.Done()
	for _, e := range f.Array("gaps", gapsMax) {
		g := f.Element("gaps", e)
		words := g.Texts("words", fate.IntentBytesMax, 4*fate.IntentBytesMax)
		if len(words) == 0 {
			words = nil // as the judge leaves it
		}
		v.Gaps = append(v.Gaps, fate.Gap{Dimension: readDimension(g, "dimension"), Part: fate.Part(g.Text("part", 32)), Missing: g.Bool("missing"),
			Gain: g.Float("gain"), Composite: g.Float("composite"), Required: g.Bool("required"), Least: g.Float("least"),
			Words: words, Rule: g.Text("rule", 64)})
		_ = g.Done()
	}
	_ = f.Done()
	return v
}

// gapsMax is how many parts the scores have, and room for denials.
const gapsMax = 32

func readDimension(o *pci.Object, name string) fate.Dimension {
	d, ok := fate.ParseDimension(o.Text(name, 16))
	if !ok {
		o.Fault("outcome: a dimension that this program does not know")
	}
	return d
}
