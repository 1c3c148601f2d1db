package client

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/bizra/bizra/pci"
)

// Scores that a signer claims where the caller names none. They pass the gates of
// the default constitution (0.95 and 0.85) and, for SNR, are high enough for the
// ethics score of the layers. They are claims: who can measure should say so instead.
const (
	IhsanScoreDefault = 0.99
	SNRScoreDefault   = 0.95
)

// Signer is who signs, and what it claims.
type Signer struct {
	Key        *pci.PrivateKey
	AgentID    string  // "": "agent-" and the first 16 digits of the public key
	AgentType  string  // PAT or SAT; "": PAT
	IhsanScore float64 // 0: [IhsanScoreDefault]
	SNRScore   float64 // 0: [SNRScoreDefault]
	Urgency    string  // REAL_TIME or BATCH; "": REAL_TIME
}

func (s Signer) withDefaults() Signer {
	if s.AgentID == "" && s.Key != nil {
		s.AgentID = "agent-" + hexKey(s.Key)[:16]
	}
	if s.AgentType == "" {
		s.AgentType = pci.AgentPAT
	}
	if s.IhsanScore == 0 {
		s.IhsanScore = IhsanScoreDefault
	}
	if s.SNRScore == 0 {
		s.SNRScore = SNRScoreDefault
	}
	return s
}

// Context is what a bare payload may leave out because the region knows it.
type Context struct {
	PolicyHash string
	Region     string
	StateHash  string // head of the payload's session, where it builds on one
}

// Payload is a bare payload: what a sender wants done, before it is signed.
type Payload struct {
	Action     string
	Data       pci.Value
	PolicyHash *string // nil: left out
	StateHash  *string // nil: left out
}

// ParsePayload reads {"action", "data", and optionally "policy_hash", "state_hash"}.
func ParsePayload(text []byte) (*Payload, error) {
	v, err := pci.Parse(text, pci.Limits{})
	if err != nil {
		return nil, fmt.Errorf("bare payload: %w", err)
	}
	o := pci.ReadObject(v)
	p := &Payload{Action: o.Text("action", 128)}
	p.Data, _ = o.Any("data")
	if p.Data.Kind() != pci.ObjectKind {
		o.Fault("member data must be there and be an object")
	}
	for name, into := range map[string]**string{"policy_hash": &p.PolicyHash, "state_hash": &p.StateHash} {
		if o.Has(name) {
			text := o.Text(name, 128)
			*into = &text
		}
	}
	if err := o.Done(); err != nil {
		return nil, fmt.Errorf("bare payload: %w", err)
	}
	return p, nil
}

// Builds reports whether the action builds on a head of its session, so that it
// needs a state_hash.
func (p *Payload) Builds() bool {
	switch p.Action {
	case "session.transition", "session.branch", "session.merge", "session.rollback":
		return true
	}
	return false
}

// Session is the session that the payload names, or "".
func (p *Payload) Session() string {
	if !strings.HasPrefix(p.Action, "session.") {
		return ""
	}
	v, ok := p.Data.Get("session")
	if !ok || v.Kind() != pci.StringKind {
		return ""
	}
	return v.String()
}

// Complete fills in what the payload left out and signs it. Actions that do not
// build on a session's head get data.region. It asks nobody: [Client.Complete] does.
func Complete(p *Payload, s Signer, c Context) (*pci.Envelope, error) {
	if s.Key == nil {
		return nil, errors.New("sign a payload: no key was given")
	}
	s = s.withDefaults()
	d := pci.Draft{AgentType: s.AgentType, AgentID: s.AgentID, Action: p.Action, Data: p.Data, PolicyHash: c.PolicyHash, StateHash: c.StateHash,
		IhsanScore: s.IhsanScore, SNRScore: s.SNRScore, Urgency: s.Urgency}
	if p.PolicyHash != nil {
		d.PolicyHash = *p.PolicyHash
	}
	if p.StateHash != nil {
		d.StateHash = *p.StateHash
	}
	if _, has := p.Data.Get("region"); !has && !p.Builds() && c.Region != "" {
		members := map[string]pci.Value{}
		for _, m := range p.Data.Members() {
			members[m.Name] = m.Value
		}
		region, err := pci.FromGo(c.Region)
		if err != nil {
			return nil, fmt.Errorf("sign a payload: %w", err)
		}
		members["region"] = region
		if d.Data, err = pci.FromGo(members); err != nil {
			return nil, fmt.Errorf("sign a payload: %w", err)
		}
	}
	env, err := pci.Sign(d, s.Key)
	if err != nil {
		return nil, fmt.Errorf("sign a payload: %w", err)
	}
	return env, nil
}

// Complete is the function [Complete] with what the region says: the policy_hash in
// force and, for a step without a state_hash, the single tip of its session.
func (c *Client) Complete(ctx context.Context, p *Payload, s Signer) (*pci.Envelope, error) {
	policy, err := c.Policy(ctx)
	if err != nil {
		return nil, err
	}
	known := Context{PolicyHash: policy.PolicyHash, Region: policy.Region}
	if p.Builds() && p.StateHash == nil {
		if known.StateHash, err = c.Tip(ctx, p.Session()); err != nil {
			return nil, err
		}
	}
	return Complete(p, s, known)
}

// Tip is the head of a session that has exactly one.
func (c *Client) Tip(ctx context.Context, id string) (string, error) {
	if id == "" {
		return "", errors.New("the payload leaves out state_hash and names no session in data.session: add one of them")
	}
	s, err := c.Session(ctx, id)
	if err != nil {
		return "", err
	}
	switch len(s.Tips) {
	case 1:
		return s.Tips[0].Head, nil
	case 0:
		return "", fmt.Errorf("session %s is over: it has no tip to build on", id)
	}
	var heads strings.Builder
	for _, t := range s.Tips {
		fmt.Fprintf(&heads, "\n  %s %s", t.Head, t.State)
	}
	return "", fmt.Errorf("session %s has %d tips: name in state_hash the one to build on:%s", id, len(s.Tips), heads.String())
}
