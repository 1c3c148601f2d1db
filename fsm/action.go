package fsm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bizra/bizra/fsm/budget"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/pattern"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/pci"
)

// Actions that this state version knows.
const (
	ActionAgentRegister     = "agent.register"
	ActionAgentRevoke       = "agent.revoke"
	ActionSessionOpen       = "session.open"
	ActionSessionTransition = "session.transition"
	ActionSessionBranch     = "session.branch"
	ActionSessionMerge      = "session.merge"
	ActionSessionRollback   = "session.rollback"
	ActionPatternElevate    = pattern.Action
	ActionMarketIssue       = "market.issue"
	ActionMarketReassess    = "market.reassess"
	ActionMarketBuy         = "market.buy"
	ActionMarketRelease     = "market.release"
	ActionMarketPay         = "market.pay"
	ActionRegionVoter       = "region.voter"
	ActionFederationAdopt   = "federation.adopt"
)

// Changes of a region's voters, as data.op of region.voter names them.
const (
	VoterAdd      = "add"
	VoterRemove   = "remove"
	VoterReplace  = "replace"
	VoterTransfer = "transfer" // hands leadership to the node; changes no state
)

// Limits of payload.data.
const (
	agentIDBytesMax = 256
	ownerBytesMax   = 256
	wordsBytesMax   = 1024
	aboutBytesMax   = 4 << 10 // a description or a rationale
	metaMembersMax  = 64
	voterNameBytes  = 80
)

// action is payload.data, checked for the form that its action demands.
type action struct {
	name     string
	operator bool // only an operator of the region may
	anyone   bool // an agent and an operator may
	step     session.Step
	work     work // of a transition
	register Agent
	revoke   string // agent_id
	voter    voterChange
	adopt    adoption
	trade    trade    // in the market
	needs    resource // what a transition computes with
}

type voterChange struct {
	op       string
	voter    Voter
	replaces federation.Key
}

// readAction is the second half of the SCHEMA gate: payload.data by its action, in a region with or without a market.
func readAction(env *pci.Envelope, region string, hasMarket bool) (*action, error) {
	o := pci.ReadObject(env.Payload.Data)
	a := &action{name: env.Payload.Action}
	headed := false
	switch a.name {
	case ActionSessionOpen:
		a.readOpen(o)
	case ActionSessionTransition, ActionSessionBranch, ActionSessionMerge, ActionSessionRollback:
		headed = true
		a.readStep(o)
	case ActionPatternElevate:
		pattern.Read(o) // the state holds nothing of it: nodes keep what they are told
	case ActionAgentRegister:
		a.operator = true
		a.readRegister(o)
	case ActionAgentRevoke:
		a.operator = true
		a.revoke = agentID(o, "agent_id")
		o.OptionalText("reason", session.ReasonBytesMax)
	case ActionRegionVoter:
		a.operator = true
		a.readVoter(o)
	case ActionFederationAdopt:
		a.operator = true
		a.readAdopt(o)
	case ActionMarketIssue, ActionMarketReassess, ActionMarketBuy, ActionMarketRelease, ActionMarketPay:
		if !hasMarket {
			return nil, pci.Rejectf(pci.RejectSchema, "payload.action %s: %s", a.name, noMarket(region))
		}
		a.readTrade(o)
	default:
		return nil, pci.Rejectf(pci.RejectSchema, "payload.action %q is not known to state version %d", clip(env.Payload.Action), StateVersion)
	}
	if !headed {
		if r := o.Text("region", 63); r != region {
			o.Fault("data.region is %q: this proof was sent to region %q", r, region)
		}
	}
	if (a.operator || a.trade != nil || a.name == ActionPatternElevate) && env.Payload.StateHash != "" {
		o.Fault("payload.state_hash must be empty for %s", a.name)
	}
	if err := o.Done(); err != nil {
		return nil, err
	}
	a.step.Agent, a.step.Region = env.Sender.AgentID, region
	if headed {
		if a.needs.quantity > 0 && !hasMarket {
			return nil, pci.Rejectf(pci.RejectSchema, "data.resource names %v: %s", a.needs.kind, noMarket(region))
		}
		h, err := session.ParseHash(env.Payload.StateHash)
		if err != nil {
			// An empty state_hash is well formed for the envelope; no session has such a head.
			h = session.Hash{}
		}
		a.step.StateHash = h
	}
	return a, nil
}

func sessionID(o *pci.Object) string {
	id := o.Text("session", session.IDBytesMax)
	if !isSessionID(id) {
		o.Fault("data.session %q must have 1 to %d letters, digits, '.', '_' and '-' of ASCII", id, session.IDBytesMax)
	}
	return id
}

func isSessionID(id string) bool {
	for i := range len(id) {
		switch c := id[i]; {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return id != "" && len(id) <= session.IDBytesMax
}

func agentID(o *pci.Object, name string) string {
	id := o.Text(name, agentIDBytesMax)
	if err := CheckAgentID(id); err != nil {
		o.Fault("data.%s: %v", name, err)
	}
	return id
}

// CheckAgentID refuses what cannot be an agent's id: 1 to 256 bytes without
// control characters or ':'.
func CheckAgentID(id string) error {
	if id == "" || len(id) > agentIDBytesMax {
		return fmt.Errorf("an agent id has 1 to %d bytes, not %d", agentIDBytesMax, len(id))
	}
	for _, r := range id {
		if r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == ':' {
			return fmt.Errorf("an agent id has no control characters and no ':'")
		}
	}
	return nil
}

func (a *action) readOpen(o *pci.Object) {
	a.step.Type = session.Genesis
	a.step.Session = sessionID(o)
	a.step.Reason = o.OptionalText("reason", session.ReasonBytesMax)
	if !o.Has("agents") {
		return
	}
	agents := o.Texts("agents", session.AgentsMax, agentIDBytesMax)
	for _, id := range agents {
		if err := CheckAgentID(id); err != nil {
			o.Fault("data.agents: %v", err)
		}
	}
	slices.Sort(agents)
	if len(slices.Compact(slices.Clone(agents))) != len(agents) {
		o.Fault("data.agents names an agent twice")
	}
	a.step.Agents = agents
}

func (a *action) readStep(o *pci.Object) {
	a.step.Session = sessionID(o)
	switch a.name {
	case ActionSessionTransition:
		a.readTransition(o)
	case ActionSessionBranch:
		a.step.Type = session.Branch
		if o.Text("name", session.NameBytesMax) == "" {
			o.Fault("data.name of a branch must not be empty")
		}
		a.step.Reason = o.OptionalText("reason", session.ReasonBytesMax)
	case ActionSessionMerge:
		a.step.Type = session.Merge
		a.step.Heads = hashes(o, "heads", session.TipsMax)
		if len(a.step.Heads) < 2 {
			o.Fault("data.heads must name two or more distinct tips")
		}
		a.step.Reason = o.OptionalText("reason", session.ReasonBytesMax)
	case ActionSessionRollback:
		a.step.Type = session.Rollback
		h, err := session.ParseHash(o.Text("ancestor", 64))
		if err != nil {
			o.Fault("data.ancestor: %v", err)
		}
		a.step.Ancestor = h
		if a.step.Reason = o.Text("reason", session.ReasonBytesMax); a.step.Reason == "" {
			o.Fault("data.reason of a rollback must not be empty")
		}
	}
}

func hashes(o *pci.Object, name string, countMax int) []session.Hash {
	var hs []session.Hash
	for _, text := range o.Texts(name, countMax, 64) {
		h, err := session.ParseHash(text)
		if err != nil {
			o.Fault("data.%s: %v", name, err)
		}
		if slices.Contains(hs, h) {
			o.Fault("data.%s names %s twice", name, text)
		}
		hs = append(hs, h)
	}
	return hs
}

func (a *action) readTransition(o *pci.Object) {
	to, ok := session.ParseState(o.Text("to", 16))
	if !ok || to == session.Init {
		o.Fault("data.to must name a state that a step leads to: active, computing, validated, committed, suspended, resumed, failed, recovered or terminated")
	}
	a.step.To, a.step.Type = to, session.Standard
	switch typ := o.OptionalText("type", 16); typ {
	case "", "standard":
	case "recovery":
		a.step.Type = session.Recovery
	default:
		o.Fault("data.type %q of a transition must be standard or recovery", typ)
	}
	a.step.Reason = o.OptionalText("reason", session.ReasonBytesMax)
	w := &a.work
	w.operation.Name, w.operation.Type = o.OptionalText("operation", wordsBytesMax), o.OptionalText("operation_type", wordsBytesMax)
	w.operation.Intent = o.OptionalText("intent", wordsBytesMax)
	if w.task, ok = budget.ParseTask(o.OptionalText("task", wordsBytesMax)); !ok {
		o.Fault("data.task is no task that a budget is known for: %s", taskNames())
	}
	w.input, _ = o.Any("input")
	w.operation.HasInput = w.input.Kind() != pci.NullKind
	if o.Has("meta") {
		meta, _ := o.Any("meta")
		w.readMeta(o, meta)
	}
	if o.Has("observation") {
		w.observation, w.observed = o.Float("observation"), true
		if !(w.observation >= 0 && w.observation <= 1) {
			o.Fault("data.observation must be from 0 to 1")
		}
	}
	if o.Has("use") {
		use := o.Object("use")
		w.use = budget.Use{Tokens: use.OptionalInt("tokens", 0), TimeMillis: use.OptionalInt("time_ms", 0)}
		if w.use.Tokens < 0 || w.use.TimeMillis < 0 {
			o.Fault("data.use must not be negative")
		}
		_ = use.Done()
	}
	a.readNeeds(o)
}

func taskNames() string {
	names := make([]string, 0, budget.Consensus+1)
	for t := budget.Transform; t <= budget.Consensus; t++ {
		names = append(names, t.String())
	}
	return strings.Join(names, ", ")
}

// readMeta reads the members of meta that the layers look at; others are the sender's own.
func (w *work) readMeta(o *pci.Object, meta pci.Value) {
	if meta.Kind() != pci.ObjectKind || len(meta.Members()) > metaMembersMax {
		o.Fault("data.meta must be an object of at most %d members", metaMembersMax)
		return
	}
	w.operation.HasMetadata = len(meta.Members()) > 0
	text := func(name string) bool {
		v, ok := meta.Get(name)
		if ok && (v.Kind() != pci.StringKind || len(v.String()) > aboutBytesMax) {
			o.Fault("data.meta.%s must be a text of at most %d bytes", name, aboutBytesMax)
		}
		return ok && v.String() != ""
	}
	flag := func(name string) bool {
		v, ok := meta.Get(name)
		if ok && v.Kind() != pci.BoolKind {
			o.Fault("data.meta.%s must be true or false", name)
		}
		return ok && v.Kind() == pci.BoolKind && v.Bool()
	}
	w.operation.HasDescription, w.operation.HasRationale = text("description"), text("rationale")
	w.operation.PIIDetected, w.operation.ToxicityDetected = flag("pii_detected"), flag("toxicity_detected")
	w.operation.EthicsViolation = flag("ethics_violation")
	if v, ok := meta.Get("knowledge_gap"); ok {
		if w.gap, w.hasGap = v.Float64(); v.Kind() != pci.NumberKind || !(w.gap >= 0 && w.gap <= 1) {
			o.Fault("data.meta.knowledge_gap must be a number from 0 to 1")
		}
	}
}

func (a *action) readRegister(o *pci.Object) {
	a.register = Agent{ID: agentID(o, "agent_id"), Type: o.Text("agent_type", 3), Owner: o.Text("owner", ownerBytesMax)}
	key, err := federation.ParseKey(o.Text("public_key", 64))
	if err != nil {
		o.Fault("data.public_key: %v", err)
	}
	a.register.PublicKey = key
	if t := a.register.Type; t != "PAT" && t != "SAT" {
		o.Fault("data.agent_type must be PAT or SAT")
	}
	if err := CheckAgentID(a.register.Owner); err != nil {
		o.Fault("data.owner: %v", err)
	}
}

func (a *action) readVoter(o *pci.Object) {
	c := voterChange{op: o.Text("op", 16)}
	key, err := federation.ParseKey(o.Text("node", 64))
	if err != nil {
		o.Fault("data.node: %v", err)
	}
	c.voter = Voter{NodeKey: key}
	switch c.op {
	case VoterAdd, VoterReplace:
		c.voter.Name = o.Text("name", voterNameBytes)
		if err := CheckAgentID(c.voter.Name); err != nil {
			o.Fault("data.name: %v", err)
		}
		if o.Has("addresses") {
			c.voter.Addresses = o.Texts("addresses", federation.AddressesMax, federation.AddressBytesMax)
		}
		if err := federation.CheckAddresses(c.voter.Addresses); err != nil {
			o.Fault("data.addresses: %v", err)
		}
		if c.op == VoterReplace {
			if c.replaces, err = federation.ParseKey(o.Text("replaces", 64)); err != nil {
				o.Fault("data.replaces: %v", err)
			}
		}
	case VoterRemove, VoterTransfer:
	default:
		o.Fault("data.op %q must be add, remove, replace or transfer", c.op)
	}
	a.voter = c
}
