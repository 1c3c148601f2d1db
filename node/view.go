package node

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/api"
	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/fsm/ntu"
	"github.com/bizra/bizra/fsm/session"
)

const timeForm = "2006-01-02T15:04:05.000Z"

func timeText(millis int64) string { return time.UnixMilli(millis).UTC().Format(timeForm) }

// apiView shows a view of the state in the forms of the HTTP interface.
type apiView struct {
	*fsm.View
	region    string
	size      int64
	witnesses *witnesses // nil: no lines of witnesses are shown
}

var _ api.View = (*apiView)(nil)

func newAPIView(v *fsm.View, regionName string) (*apiView, error) {
	size, err := v.Ledger().Size()
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return &apiView{View: v, region: regionName, size: size}, nil
}

// found turns the state's ErrNotFound into the interface's.
func found[T any](item T, err error) (T, error) {
	if errors.Is(err, fsm.ErrNotFound) {
		err = errors.Join(api.ErrNotFound, err)
	}
	return item, err
}

func (v *apiView) Entries() int64 { return v.size }

func (v *apiView) ReceiptByDigest(digest [32]byte) (json.Marshaler, error) {
	return found(v.Receipt(digest))
}

func (v *apiView) ReceiptByEnvelopeID(id string) (json.Marshaler, error) {
	return found(v.View.ReceiptByEnvelopeID(id))
}

func (v *apiView) InclusionByDigest(digest [32]byte) (*client.Inclusion, error) {
	index, err := found(v.Ledger().IndexByDigest(digest))
	if err != nil {
		return nil, err
	}
	return v.inclusion(index)
}

func (v *apiView) InclusionByEnvelopeID(id string) (*client.Inclusion, error) {
	index, err := found(v.Ledger().IndexByEnvelopeID(id))
	if err != nil {
		return nil, err
	}
	return v.inclusion(index)
}

func (v *apiView) inclusion(index int64) (*client.Inclusion, error) {
	l := v.Ledger()
	root, err := l.Root(v.size)
	if err != nil {
		return nil, err
	}
	leaf, err := l.LeafHash(index)
	if err != nil {
		return nil, err
	}
	proof, err := l.InclusionProof(index, v.size)
	if err != nil {
		return nil, err
	}
	in := &client.Inclusion{Index: index, Size: v.size, Root: hexText(root), LeafHash: hexText(leaf), Path: make([]string, len(proof))}
	for i, h := range proof {
		in.Path[i] = hexText(h)
	}
	return in, nil
}

func hexText(h ledger.Hash) string { return hex.EncodeToString(h[:]) }

func (v *apiView) Session(id string) (*client.Session, error) {
	s, err := found(v.View.Session(id))
	if err != nil {
		return nil, err
	}
	shown := v.session(s)
	layers, err := v.SessionLayers(id)
	if err != nil {
		return nil, err
	}
	shown.Failed, shown.NTU = layers.Failed, ntuOf(layers.NTU)
	for i, t := range s.Tips {
		if b, has := layers.Budgets[t.Hash]; has {
			shown.Tips[i].Budget = &client.Budget{Task: b.Task.String(), Tier: b.Tier.String(), Left: client.BudgetLeft(b.Left)}
		}
	}
	return &shown, nil
}

func ntuOf(s *ntu.State) *client.NTU {
	if s == nil {
		return nil
	}
	n := client.NTU(*s)
	return &n
}

func (v *apiView) session(s *session.Session) client.Session {
	shown := client.Session{ID: s.ID, Region: v.region, Opener: s.Opener, Agents: append([]string{}, s.Agents...), Tips: []client.Tip{},
		Last: tip(s.Last), Nodes: int64(s.Nodes), Opened: timeText(s.OpenedMillis)} //nolint:gosec // nodes are counted one by one
	for _, t := range s.Tips {
		shown.Tips = append(shown.Tips, tip(t))
	}
	return shown
}

func tip(t session.Tip) client.Tip {
	return client.Tip{Head: t.Hash.String(), State: t.State.String(), Clock: t.Clock}
}

func (v *apiView) Sessions(after string, limit int) ([]client.Session, error) {
	list, err := v.View.Sessions(after, limit)
	shown := make([]client.Session, len(list))
	for i := range list {
		shown[i] = v.session(&list[i])
	}
	return shown, err
}

func (v *apiView) History(id string, from int64, limit int) ([]client.Node, error) {
	steps, err := found(v.View.History(id, from, limit))
	nodes := make([]client.Node, len(steps))
	for i, s := range steps {
		n := client.Node{Number: s.Number, Head: s.Hash.String(), Parents: []string{}, Clock: s.Node.Clock, State: s.Node.State.String(),
			Type: s.Node.Type.String(), Reason: s.Node.Reason, Data: s.Node.Data.String(), Time: timeText(s.Node.TimeMillis), Index: s.Index}
		for _, p := range s.Node.Parents {
			n.Parents = append(n.Parents, p.String())
		}
		n.NTU = ntuOf(s.Node.NTU)
		if f := s.Node.Fate; f != nil {
			scores := client.Scores(f.Scores)
			n.Scores, n.Composite = &scores, f.Composite
		}
		nodes[i] = n
	}
	return nodes, err
}

func (v *apiView) Agents(after string, limit int) ([]client.Agent, error) {
	list, err := v.View.Agents(after, limit)
	shown := make([]client.Agent, len(list))
	for i := range list {
		shown[i] = agentOf(&list[i])
	}
	return shown, err
}

func agentOf(a *fsm.Agent) client.Agent {
	shown := client.Agent{AgentID: a.ID, AgentType: a.Type, Owner: a.Owner, PublicKey: federation.Key(a.PublicKey).String(),
		Registered: timeText(a.RegisteredMillis)}
	if a.RevokedMillis != 0 {
		shown.Revoked = timeText(a.RevokedMillis)
	}
	return shown
}

func (v *apiView) Agent(id string) (*client.AgentRecord, error) {
	a, err := found(v.View.Agent(id))
	if err != nil {
		return nil, err
	}
	c, err := found(v.Conduct(id))
	if err != nil {
		return nil, err
	}
	r := &client.AgentRecord{Agent: agentOf(a), Accepted: c.Accepted, Refused: c.Refused, Failed: c.Failed, NTU: client.NTU(c.NTU),
		Observed: c.Observed, LogTime: timeText(v.LogTimeMillis()), Standing: client.Standing{Outcomes: c.Outcomes, MeasuredSNR: c.Measured,
			ClaimMax: c.ClaimMax, Reputation: c.Reputation, Breaker: c.Breaker.String()}}
	if c.UntilMillis != 0 {
		r.Until = timeText(c.UntilMillis)
	}
	if c.SinceMillis != 0 {
		r.DecidedAt = timeText(c.SinceMillis)
	}
	return r, nil
}

func (v *apiView) Policy() (*client.Policy, error) {
	d, err := found(v.Document())
	if err != nil {
		return nil, err
	}
	return &client.Policy{PolicyHash: d.Constitution.PolicyHash(), Federation: d.Name, Region: v.region, Document: d.Version,
		Constitution: d.Constitution.Canonical()}, nil
}

// Checkpoint implements [api.View].
func (v *apiView) Checkpoint() (note []byte, size int64, err error) {
	certified, err := v.Certified()
	if err != nil {
		return nil, 0, err
	}
	if certified == 0 {
		return nil, 0, api.ErrNotFound
	}
	seal, err := v.SealAt(certified - 1)
	if err != nil {
		return nil, 0, err
	}
	if note, err = v.Certificate(certified - 1); err != nil {
		return nil, 0, err
	}
	return certificate.WithWitnesses(note, v.witnesses.lines(seal.Body())...), seal.Size, nil
}

// Tile implements [api.View].
func (v *apiView) Tile(t tlog.Tile) ([]byte, error) {
	b, err := v.Ledger().Tile(t)
	if errors.Is(err, ledger.ErrOutOfRange) {
		err = errors.Join(api.ErrNotFound, err)
	}
	return b, err
}

func (v *apiView) Federation() (*client.Federation, error) {
	d, err := found(v.Document())
	if err != nil {
		return nil, err
	}
	return &client.Federation{Federation: d.Name, Region: v.region, Version: d.Version, Digest: hex.EncodeToString(digestOf(d)),
		PolicyHash: d.Constitution.PolicyHash(), Document: d.Canonical()}, nil
}
