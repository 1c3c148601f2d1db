package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bizra/bizra/api"
	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/client/judge"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/pci"
)

// judgingMax is how many questions are judged at a time: they cost processor time, and anybody may ask.
const judgingMax = 4

// judges keeps the constitution in force compiled for questions, apart from the machine's
// own: a question must not wait for what is being applied.
type judges struct {
	slots chan struct{}
	mu    sync.Mutex
	now   *judge.Judge // under mu; nil before the first question
}

func newJudges() *judges { return &judges{slots: make(chan struct{}, judgingMax)} }

// in gives the judge of a document's constitution.
func (j *judges) in(doc *federation.Document) (*judge.Judge, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.now != nil && j.now.PolicyHash() == doc.Constitution.PolicyHash() {
		return j.now, nil
	}
	made, err := judge.New(&doc.Constitution)
	if err != nil {
		return nil, fmt.Errorf("compile the constitution in force: %w", err)
	}
	j.now = made
	return made, nil
}

// Judge implements [api.Backend]. It reads what this node has applied.
func (b backend) Judge(ctx context.Context, q client.Question) (*client.Judgement, error) {
	select {
	case b.n.judges.slots <- struct{}{}:
		defer func() { <-b.n.judges.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to judge: %w", context.Cause(ctx))
	}
	v, err := b.View(ctx, api.Stale)
	if err != nil {
		return nil, err
	}
	shown, ok := v.(*apiView)
	if !ok {
		return nil, errors.Join(errNoState, v.Close())
	}
	j, err := b.judge(shown, &q)
	return j, errors.Join(err, v.Close())
}

func (b backend) judge(v *apiView, q *client.Question) (*client.Judgement, error) {
	doc, err := v.Document()
	if errors.Is(err, fsm.ErrNotFound) {
		return nil, &api.Unavailable{Reason: noLedgerYet, Err: err}
	}
	if err != nil {
		return nil, err
	}
	by, err := b.n.judges.in(doc)
	if err != nil {
		return nil, err
	}
	s := judge.Standing{Region: v.region, Known: true, Open: doc.Constitution.Limits.OpenRegistration, Now: time.Now()}
	if s.Agent, err = v.Agent(q.AgentID); err != nil && !errors.Is(err, api.ErrNotFound) {
		return nil, err
	}
	if s.Session, err = v.acted(q); err != nil {
		return nil, err
	}
	return by.Judge(*q, s)
}

// acted is the session that a question is about, as rules see it; empty where there is none.
func (v *apiView) acted(q *client.Question) (constitution.Session, error) {
	if q.Action == fsm.ActionSessionOpen {
		return constitution.Session{}, nil
	}
	data, err := pci.Parse(q.Data, pci.Limits{})
	if err != nil {
		return constitution.Session{}, err
	}
	id, ok := data.Get("session")
	if !ok || id.Kind() != pci.StringKind {
		return constitution.Session{}, nil
	}
	s, err := v.View.Session(id.String())
	if errors.Is(err, fsm.ErrNotFound) {
		return constitution.Session{}, nil
	}
	if err != nil {
		return constitution.Session{}, err
	}
	return constitution.Session{ID: s.ID, State: s.Last.State.String(), Opener: s.Opener, Nodes: int64(s.Nodes)}, nil //nolint:gosec // nodes are counted one by one
}
