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
	// certifiedState proves what the newest certified state holds, and gives its certificate.
	certifiedState func(key []byte) (*fsm.StateProof, []byte, error)
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

// Receipt implements [api.View].
func (v *apiView) Receipt(p api.Proof) (*api.Receipt, error) {
	var r fsm.Receipt
	var err error
	if p.EnvelopeID != "" {
		r, err = found(v.View.ReceiptByEnvelopeID(p.EnvelopeID))
	} else {
		r, err = found(v.View.Receipt(p.Digest))
	}
	if err != nil {
		return nil, err
	}
	told, err := v.told(r)
	return &api.Receipt{Marshaler: told, Index: r.Index}, err
}

// ReceiptAt implements [api.View].
func (v *apiView) ReceiptAt(index int64) (json.Marshaler, error) {
	r, recorded, err := v.View.ReceiptAt(index)
	if err != nil || !recorded {
		return nil, err
	}
	return v.told(r)
}

func (v *apiView) told(r fsm.Receipt) (json.Marshaler, error) {
	size, err := v.CertifiedSize()
	return fsm.Told{Receipt: r, CertifiedSize: size}, err
}

// Inclusion implements [api.View].
func (v *apiView) Inclusion(p api.Proof) (*client.Inclusion, error) {
	index, err := v.indexOf(p)
	if err != nil {
		return nil, err
	}
	return v.inclusion(index)
}

func (v *apiView) indexOf(p api.Proof) (int64, error) {
	if p.EnvelopeID != "" {
		return found(v.Ledger().IndexByEnvelopeID(p.EnvelopeID))
	}
	return found(v.Ledger().IndexByDigest(p.Digest))
}

// Bundle implements [api.View]. The newest certificate goes in: it is the one that whoever has the
// document in force can check.
func (v *apiView) Bundle(p api.Proof) ([]byte, error) {
	index, err := v.indexOf(p)
	if err != nil {
		return nil, err
	}
	next, err := v.Certified()
	if err != nil {
		return nil, err
	}
	seal, err := v.SealAt(next - 1)
	if errors.Is(err, fsm.ErrNotFound) || err == nil && seal.Size <= index {
		return nil, api.ErrNotAttested
	}
	if err != nil {
		return nil, err
	}
	b := &certificate.Bundle{}
	if b.Certificate, err = v.Certificate(seal.Number); err != nil {
		return nil, err
	}
	if b.Entry, err = certificate.Include(v.Ledger(), index, seal.Size); err != nil {
		return nil, err
	}
	return b.Marshal()
}

// SessionBundle implements [api.View]. The certified state is older than the view's, or newer.
func (v *apiView) SessionBundle(id string) ([]byte, error) {
	proof, note, err := v.certifiedState(fsm.SessionKey(id))
	if errors.Is(err, fsm.ErrNoSeal) {
		if next, err := v.Certified(); err != nil || next == 0 {
			return nil, errors.Join(api.ErrNotAttested, err)
		}
		return nil, &api.Unavailable{Reason: "this node has not seen a certificate since it started, and cannot prove what a session's state was before; ask again after the next certificate, or another voter of the region", Err: err}
	}
	if err != nil {
		return nil, err
	}
	return (&certificate.Bundle{Certificate: note, State: certificate.Hold(id, proof)}).Marshal()
}

// certified proves what the newest certified state holds under a key, and gives its certificate.
func (s *state) certified(key []byte) (*fsm.StateProof, []byte, error) {
	s.mu.Lock()
	o := s.current
	s.mu.Unlock()
	if o == nil {
		return nil, nil, errNoState
	}
	p, err := o.machine.ProveCertified(key)
	if err != nil {
		return nil, nil, err
	}
	// The certificate was recorded before the state of its seal was given for certified.
	v, err := o.View()
	if err != nil {
		return nil, nil, err
	}
	note, err := v.Certificate(p.Seal.Number)
	return p, note, errors.Join(err, v.Close())
}

// Certificates implements [api.View].
func (v *apiView) Certificates(after int64, limit int) ([]client.Certificate, error) {
	first, err := v.SealFrom(after + 1)
	if err != nil {
		return nil, err
	}
	list, err := v.CertificatesFrom(first, limit)
	shown := make([]client.Certificate, len(list))
	for i := range list {
		shown[i] = client.Certificate{Size: list[i].Seal.Size, Note: string(list[i].Note)}
	}
	return shown, err
}

// DocumentText implements [api.View].
func (v *apiView) DocumentText(digest [32]byte) ([]byte, error) {
	return found(v.View.DocumentText(digest))
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
