// Package testfed makes federations for tests: documents with all their secret
// keys, drawn from a seed, and agents that sign. It is imported by tests alone.
package testfed

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/market"
	"github.com/bizra/bizra/pci"
)

// Federation is a document and the secret keys behind it.
type Federation struct {
	Document  *federation.Document
	LogKeys   map[string]*pci.PrivateKey   // by region
	Cosign    map[string]*pci.PrivateKey   // by region
	Operators map[string]*pci.PrivateKey   // by region
	Nodes     map[string][]*pci.PrivateKey // by region, in the order of its voters
}

// RegionNames are the names of the regions of a federation of so many: a, b, c, …, of more than 26 r000, r001, ….
func RegionNames(regions int) []string {
	names := make([]string, regions)
	for i := range names {
		names[i] = string(rune('a' + i))
		if regions > 26 {
			names[i] = fmt.Sprintf("r%03d", i)
		}
	}
	return names
}

// Key draws a key from a label; equal labels give equal keys.
func Key(label string) *pci.PrivateKey {
	return pci.NewKeyFromSeed(sha256.Sum256([]byte("testfed:" + label)))
}

// Constitution parses a constitution that a test has written down.
func Constitution(yaml string) constitution.Constitution {
	c, err := constitution.Parse([]byte(yaml))
	if err != nil {
		panic(fmt.Sprintf("testfed: %v", err))
	}
	return *c
}

// New makes a federation of so many regions ([RegionNames]) with so many voters each.
// Its constitution has the default's numbers, but no rules, which take some 30 ms to compile: see [DefaultRules].
func New(regions, voters int, change ...func(*federation.Document)) *Federation {
	return NewDrawn("", regions, voters, change...)
}

// NewDrawn is [New] with keys that are drawn from a label besides.
func NewDrawn(label string, regions, voters int, change ...func(*federation.Document)) *Federation {
	f := &Federation{Document: &federation.Document{Version: 1, Name: "test", Constitution: Constitution("version: 2")},
		LogKeys: map[string]*pci.PrivateKey{}, Cosign: map[string]*pci.PrivateKey{}, Operators: map[string]*pci.PrivateKey{},
		Nodes: map[string][]*pci.PrivateKey{}}
	for _, name := range RegionNames(regions) {
		f.LogKeys[name], f.Cosign[name], f.Operators[name] = Key(label+name+"-log"), Key(label+name+"-cosign"), Key(label+name+"-operator")
		r := federation.Region{Name: name, LogKey: f.LogKeys[name].Public(), CosignKey: f.Cosign[name].Public(),
			Operators: []federation.Key{f.Operators[name].Public()}}
		for v := range voters {
			k := Key(fmt.Sprintf("%s%s-%d", label, name, v+1))
			f.Nodes[name] = append(f.Nodes[name], k)
			r.Voters = append(r.Voters, federation.Voter{Name: fmt.Sprintf("%s-%d", name, v+1), NodeKey: k.Public()})
		}
		slices.SortFunc(r.Operators, func(a, b federation.Key) int { return bytes.Compare(a[:], b[:]) })
		f.Document.Regions = append(f.Document.Regions, r)
	}
	for _, c := range change {
		c(f.Document)
	}
	if err := f.Document.Check(); err != nil {
		panic(fmt.Sprintf("testfed: %v", err)) // a test asked for a document that cannot be
	}
	return f
}

// Open lets unknown agents register by their first proof.
func Open(d *federation.Document) { d.Constitution.Limits.OpenRegistration = true }

// Lenient lets agents fail as often as they like: no breaker, and what they claim counts.
func Lenient(d *federation.Document) {
	d.Constitution.Thresholds.MeasuredSNRMargin = 1
	d.Constitution.Breaker.ThrottleBelow, d.Constitution.Breaker.MuteBelow = 0, 0
}

// Market gives every region a market: a million credits, 1,000 cpu at a credit each, 64 gpu at two.
func Market(d *federation.Document) {
	for i := range d.Regions {
		rules := market.Rules{Supply: 1_000_000 * market.Credit}
		rules.Capacity[market.CPU], rules.UnitPrice[market.CPU] = 1000, market.Credit
		rules.Capacity[market.GPU], rules.UnitPrice[market.GPU] = 64, 2*market.Credit
		d.Regions[i].Market = &rules
	}
}

// DefaultRules gives a document the default constitution with all its rules.
func DefaultRules(d *federation.Document) {
	d.Constitution = Constitution(string(constitution.DefaultText()))
}

// Signer signs proofs at a time of its own, with nonces and envelope ids that are
// drawn from its label and a count.
type Signer struct {
	Key        *pci.PrivateKey
	AgentID    string
	AgentType  string
	PolicyHash string
	NowMillis  int64
	count      uint64
}

// Agent makes an agent's signer.
func (f *Federation) Agent(id string, nowMillis int64) *Signer {
	return &Signer{Key: Key("agent-" + id), AgentID: id, AgentType: "PAT", PolicyHash: f.Document.Constitution.PolicyHash(), NowMillis: nowMillis}
}

// Operator makes the signer of a region's operator.
func (f *Federation) Operator(region string, nowMillis int64) *Signer {
	s := f.Agent("operator."+region, nowMillis)
	s.Key, s.AgentType = f.Operators[region], "SAT"
	return s
}

// Sign makes a proof; change may alter the draft.
func (s *Signer) Sign(action string, data map[string]any, stateHash string, change ...func(*pci.Draft)) *pci.Envelope {
	v, err := pci.FromGo(data)
	if err != nil {
		panic(fmt.Sprintf("testfed: %v", err))
	}
	s.count++
	pub := s.Key.Public()
	n := sha256.Sum256(binary.BigEndian.AppendUint64(pub[:], s.count))
	d := pci.Draft{Action: action, Data: v, PolicyHash: s.PolicyHash, StateHash: stateHash, IhsanScore: 0.99, SNRScore: 0.95,
		Urgency: "REAL_TIME", AgentType: s.AgentType, AgentID: s.AgentID, Timestamp: time.UnixMilli(s.NowMillis).UTC(), Nonce: n,
		EnvelopeID: fmt.Sprintf("%08x-0000-4000-8000-%012x", n[:4], n[4:10])}
	for _, c := range change {
		c(&d)
	}
	env, err := pci.Sign(d, s.Key)
	if err != nil {
		panic(fmt.Sprintf("testfed: %v", err))
	}
	return env
}

// Transition is payload.data of a step that FATE lets pass with an snr_score of 0.95: it says what is
// done, on what, and what for. More members may be given as pairs of name and value.
func Transition(session, to string, more ...any) map[string]any {
	data := map[string]any{"session": session, "to": to, "operation": "advance_session", "operation_type": "control",
		"intent": "advance session", "input": to, "meta": map[string]any{"description": "takes a session of a test to its next state"}}
	for i := 0; i+1 < len(more); i += 2 {
		data[fmt.Sprint(more[i])] = more[i+1]
	}
	return data
}

// Register is the operator's proof that registers the agent.
func (s *Signer) Register(region string, agent *Signer) *pci.Envelope {
	key := federation.Key(agent.Key.Public())
	return s.Sign("agent.register", map[string]any{"region": region, "agent_id": agent.AgentID, "agent_type": agent.AgentType,
		"public_key": key.String(), "owner": "owner-of-" + agent.AgentID}, "")
}

// Next is the federation with the next version of its document, as change makes it.
func (f *Federation) Next(change func(*federation.Document)) *Federation {
	next, err := federation.Parse(f.Document.Canonical())
	if err != nil {
		panic(fmt.Sprintf("testfed: %v", err))
	}
	d := &federation.Document{Version: next.Version + 1, Name: next.Name, Constitution: next.Constitution, Regions: next.Regions}
	change(d)
	again := *f
	again.Document = d
	return &again
}

// Adopts is payload.data of the proof by which region a adopts the federation's document.
func (f *Federation) Adopts() map[string]any {
	return map[string]any{"region": "a", "version": f.Document.Version, "digest": fmt.Sprintf("%x", f.Document.Digest())}
}

// Stricter raises the least ihsan_score.
func Stricter(d *federation.Document) { d.Constitution.Thresholds.IhsanMin = 0.96 }
