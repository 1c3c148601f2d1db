package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/pci"
)

// Pauses before an item that was left is looked at again; `bizra hook flush` does not wait for them.
const (
	pauseUnreachable = 3 * time.Second
	pauseRefused     = 30 * time.Second
	// pauseMax is the longest. One that seems longer was set by a clock that has been put back since.
	pauseMax = 10 * time.Minute
	triesMax = 5 // refusals in a row, each with a mended envelope, before the pause
)

// stand is where a session of the ledger stands, as the receipts said.
type stand struct {
	State       string  `json:"state"` // "": not opened
	Head        string  `json:"head"`
	ClaimMax    float64 `json:"claim_max"` // that the agent's record supported; 0: not told
	Observation float64 `json:"observation"`
}

// errAside ends the work on an item that was set aside.
var errAside = errors.New("the item was set aside")

// errLater is matched where an item waits: what follows it waits too.
var errLater = errors.New("it is submitted later")

// drainer submits what waits, in order. It holds the drain lock.
type drainer struct {
	*Home
	region *client.Client
	policy *client.Policy // in force as far as is known; nil: ask
	force  bool           // pauses do not count
	done   int            // items
}

// drain submits items until none waits. An error that matches [errLater] says why some still do.
func (h *Home) drain(ctx context.Context, force bool) (submitted int, err error) {
	l, err := acquire(ctx, h.path(lockDrain))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.release()) }()
	retries := max(len(h.Config.Nodes)-1, 2)
	region, err := client.New(client.Config{URLs: h.Config.Nodes, RetriesMax: retries, AttemptTimeout: h.Config.submitWithin(), UserAgent: "bizra-hook"})
	if err != nil {
		return 0, err
	}
	defer region.Close()
	d := &drainer{Home: h, region: region, force: force}
	if d.policy, err = h.knownPolicy(); err != nil {
		return 0, err
	}
	for {
		items, err := h.list()
		if err != nil || len(items) == 0 {
			return d.done, err
		}
		for _, at := range items {
			i, err := h.load(at.file)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return d.done, err
			}
			if err := d.submit(ctx, i); err != nil && !errors.Is(err, errAside) {
				return d.done, err
			}
			d.done++
		}
	}
}

// submit takes an item to its end.
func (d *drainer) submit(ctx context.Context, i *Item) error {
	if wait := time.Until(i.NotBefore); wait > 0 && wait <= pauseMax && !d.force {
		return fmt.Errorf("%w: item %d waits another %v: %s", errLater, i.Seq, wait.Round(time.Second), i.Problem)
	}
	var st stand
	if _, err := readJSON(d.standPath(i.Session), &st); err != nil {
		return err
	}
	for i.Next < len(i.Steps) || len(i.Signed) > 0 {
		if len(i.Signed) == 0 {
			if err := d.prepare(ctx, i, &st); err != nil {
				return err
			}
		}
		d.reached("before-send")
		r, err := d.region.Submit(ctx, i.Signed)
		d.reached("sent")
		if err != nil {
			if err := d.unanswered(ctx, i, err); err != nil {
				return err
			}
			continue
		}
		if err := d.take(ctx, i, &st, r); err != nil {
			return err
		}
	}
	return d.finish(i, &st)
}

func (d *drainer) standPath(session string) string { return d.path(dirHeads, session+".json") }

func (d *drainer) finish(i *Item, st *stand) error {
	d.logItem(i)
	if err := d.drop(i); err != nil {
		return err
	}
	if st.State == stateTerminated {
		return removeDurably(d.standPath(i.Session))
	}
	return nil
}

// prepare signs what comes next and writes it down.
func (d *drainer) prepare(ctx context.Context, i *Item, st *stand) (err error) {
	if d.policy == nil {
		if err := d.askPolicy(ctx, i); err != nil {
			return err
		}
	}
	if err := d.supported(ctx, i, st); err != nil {
		return err
	}
	next := i.Steps[i.Next]
	p := &client.Payload{Action: "session.transition", StateHash: &st.Head}
	switch hop := toward(st.State, next.To); {
	case st.State == "":
		i.For, p.Action = forOpen, "session.open"
		p.Data, err = pci.FromGo(map[string]any{"session": i.Session, "reason": fmt.Sprintf("turn %d of a session of an agent CLI", i.Turn.Number)})
	case hop == "":
		return d.leave(i, fmt.Errorf("the session %s is %s, from where nothing leads to %s", i.Session, st.State, next.To), pauseRefused)
	case hop == next.To:
		i.For = forStep
		p.Data, err = withSession(next.Data, i.Session)
	default:
		i.For = hop
		p.Data, err = walk(hop, i.Session, st.Observation)
	}
	if err != nil {
		return d.hopeless(i, err)
	}
	key, err := d.Key()
	if err != nil {
		return err
	}
	env, err := client.Complete(p, client.Signer{Key: key, AgentID: d.Config.AgentID, IhsanScore: d.Config.IhsanScore, SNRScore: d.Config.SNRScore},
		client.Context{PolicyHash: d.policy.PolicyHash, Region: d.policy.Region})
	if err != nil {
		return d.hopeless(i, err)
	}
	i.Signed = env.Canonical()
	d.reached("before-sign")
	return d.save(i, true)
}

const (
	forOpen = "open"
	forStep = "step"
)

// supported waits until the agent's record supports what proofs claim. One that claims more is refused,
// one that claims less does not pass FATE, and either refusal makes the record worse.
func (d *drainer) supported(ctx context.Context, i *Item, st *stand) error {
	if st.ClaimMax == 0 || st.ClaimMax >= d.Config.SNRScore {
		return nil
	}
	a, err := d.region.Agent(ctx, d.Config.AgentID)
	if err != nil {
		return d.leave(i, err, pauseUnreachable)
	}
	if most := a.ClaimAt(time.Now()); most < d.Config.SNRScore {
		return d.leave(i, fmt.Errorf("the agent's record supports an snr_score of %.4f, and proofs claim %v: each minute mends some of it", most, d.Config.SNRScore), pauseRefused)
	}
	st.ClaimMax = 0 // until a receipt says otherwise
	return nil
}

func withSession(data json.RawMessage, session string) (pci.Value, error) {
	v, err := pci.Parse(data, pci.Limits{})
	if err != nil {
		return v, err
	}
	members := map[string]pci.Value{}
	for _, m := range v.Members() {
		members[m.Name] = m.Value
	}
	if members["session"], err = pci.FromGo(session); err != nil {
		return v, err
	}
	return pci.FromGo(members)
}

// walk is a step between two tool calls.
func walk(to, session string, observed float64) (pci.Value, error) {
	op := operation{name: "move_session", intent: "move session", typ: "session"}
	s := transition(to, op, map[string]string{"to": to}, "Takes the session on between two tool calls of its agent.")
	s.Session, s.Observation = session, &observed
	if to == stateFailed {
		s.Reason = "what was begun has no result"
	}
	step, err := s.step()
	if err != nil {
		return pci.Value{}, err
	}
	return pci.Parse(step.Data, pci.Limits{})
}

// take deals with a receipt: where it moved the session, where it decides a step, and where it says
// that another envelope is needed.
func (d *drainer) take(ctx context.Context, i *Item, st *stand, r *client.Receipt) error {
	if r.Agent != nil {
		st.ClaimMax = r.Agent.ClaimMax
	}
	if r.Accepted() {
		st.State, st.Head = r.State, r.Head
		switch i.For {
		case forOpen:
			st.Observation = observedDone
		case forStep:
			st.Observation = observationOf(i.Steps[i.Next].Data)
			i.Proofs = append(i.Proofs, proofOf(i.Steps[i.Next].To, r))
			i.Next++
		}
		return d.advance(i, st)
	}
	switch r.Code {
	case pci.RejectPolicyMismatch:
		d.policy = nil // ask again
		return d.again(i, r, nil)
	case pci.RejectStateMismatch:
		if i.For == forOpen && r.Reason != "session-exists" {
			break
		}
		return d.again(i, r, d.refresh(ctx, i, st))
	case pci.RejectTimestampStale, pci.RejectNonceReplay:
		// The envelope lay here for longer than a region takes one, and was never decided: a new one is right.
		return d.again(i, r, nil)
	case pci.RejectRateLimited:
		return d.leave(i, r.Err(), untilOf(r))
	case pci.RejectRoleViolation, pci.RejectTimestampFuture:
		i.Signed = nil
		return d.leave(i, r.Err(), pauseRefused)
	}
	if i.For == forStep && r.Index != nil {
		return d.refused(i, st, r)
	}
	if r.Index == nil {
		return d.hopeless(i, r.Err())
	}
	if r.Code == pci.RejectInvariantFailed && i.For != forOpen {
		return d.again(i, r, d.refresh(ctx, i, st))
	}
	// A step between calls was refused, such as for the agent's record: time mends that.
	i.Signed = nil
	return d.leave(i, r.Err(), pauseRefused)
}

func observationOf(data json.RawMessage) float64 {
	s := stepData{}
	if json.Unmarshal(data, &s) != nil || s.Observation == nil {
		return observedDone
	}
	return *s.Observation
}

// advance writes down what a receipt of the item's envelope changed.
func (d *drainer) advance(i *Item, st *stand) error {
	// The stand first: with the old item the same envelope is sent again, which tells the same.
	if err := writeJSON(d.standPath(i.Session), st, true); err != nil {
		return err
	}
	d.reached("before-advance")
	i.Signed, i.For, i.Tries, i.Problem, i.NotBefore = nil, "", 0, "", time.Time{}
	return d.save(i, true)
}

func proofOf(to string, r *client.Receipt) Proof {
	p := Proof{To: to, Digest: r.Digest, Name: r.Name, Index: r.Index}
	if r.Fate != nil {
		p.Rule = r.Fate.Rule
	}
	return p
}

// refused: the refusal of a step is an entry, so the step is recorded. Those that build on it cannot be.
func (d *drainer) refused(i *Item, st *stand, r *client.Receipt) error {
	i.Proofs = append(i.Proofs, proofOf(i.Steps[i.Next].To, r))
	for i.Next++; i.Next < len(i.Steps); i.Next++ {
		i.Proofs = append(i.Proofs, Proof{To: i.Steps[i.Next].To, Skipped: "the step before it was refused: " + r.Name})
	}
	return d.advance(i, st)
}

// again has the envelope signed anew, a few times in a row.
func (d *drainer) again(i *Item, r *client.Receipt, err error) error {
	if err != nil {
		return err
	}
	i.Signed = nil
	if i.Tries++; i.Tries >= triesMax {
		i.Tries = 0
		return d.leave(i, r.Err(), pauseRefused)
	}
	return d.save(i, true)
}

// refresh asks the region where a session stands.
func (d *drainer) refresh(ctx context.Context, i *Item, st *stand) error {
	s, err := d.region.Session(ctx, i.Session)
	switch {
	case errors.Is(err, client.ErrNotFound):
		st.State, st.Head = "", ""
	case err != nil:
		return d.leave(i, err, pauseUnreachable)
	case len(s.Tips) == 0:
		st.State, st.Head = stateTerminated, ""
	default:
		st.State, st.Head = s.Tips[0].State, s.Tips[0].Head
	}
	return writeJSON(d.standPath(i.Session), st, true)
}

// unanswered deals with a submission that has no receipt.
func (d *drainer) unanswered(ctx context.Context, i *Item, err error) error {
	var p *client.Problem
	if errors.As(err, &p) && p.Code != nil {
		switch *p.Code {
		case pci.RejectTimestampStale:
			i.Signed = nil
			if i.Tries++; i.Tries < triesMax {
				return d.save(i, true)
			}
			i.Tries = 0
			return d.leave(i, fmt.Errorf("this machine's clock is behind the region's: %w", err), pauseRefused)
		case pci.RejectTimestampFuture:
			i.Signed = nil
			return d.leave(i, fmt.Errorf("this machine's clock is ahead of the region's: %w", err), pauseRefused)
		case pci.RejectRateLimited:
			return d.leave(i, err, pauseUnreachable)
		case pci.RejectRoleViolation:
			i.Signed = nil
			return d.leave(i, err, pauseRefused)
		}
		return d.hopeless(i, err)
	}
	if ctx.Err() != nil {
		err = errors.Join(err, context.Cause(ctx))
	}
	return d.leave(i, err, pauseUnreachable)
}

// untilOf is how long the region asks to wait.
func untilOf(r *client.Receipt) time.Duration {
	if r.Agent != nil {
		if at, err := time.Parse(time.RFC3339, r.Agent.Until); err == nil {
			return max(time.Until(at), pauseUnreachable)
		}
	}
	return pauseUnreachable
}

// leave keeps an item for later.
func (d *drainer) leave(i *Item, why error, pause time.Duration) error {
	i.NotBefore, i.Problem = time.Now().Add(min(pause, pauseMax)), clip(why.Error(), 1<<10)
	if err := d.save(i, true); err != nil {
		return err
	}
	return fmt.Errorf("%w: item %d (%s): %w", errLater, i.Seq, i.Kind, why)
}

// hopeless sets an item aside that no region would take, however often it were sent.
func (d *drainer) hopeless(i *Item, why error) error {
	i.Problem, i.Signed, i.Next = clip(why.Error(), 1<<10), nil, len(i.Steps)
	d.logItem(i)
	return errors.Join(d.setAside(i), errAside)
}

// askPolicy learns the constitution in force, and keeps it for when no node answers.
func (d *drainer) askPolicy(ctx context.Context, i *Item) error {
	p, err := d.region.Policy(ctx)
	if err != nil {
		return d.leave(i, err, pauseUnreachable)
	}
	d.policy = p
	return d.keepPolicy(p)
}

// keepPolicy keeps the constitution that is in force.
func (h *Home) keepPolicy(p *client.Policy) error { return writeJSON(h.path(filePolicy), p, false) }

// knownPolicy is the constitution that was in force when a node was heard last; nil: none was yet.
func (h *Home) knownPolicy() (*client.Policy, error) {
	var p client.Policy
	found, err := readIfWhole(h.path(filePolicy), &p)
	if err != nil || !found {
		return nil, err
	}
	return &p, nil
}

// Learn asks the region for the constitution in force, and keeps it for when no node answers.
func (h *Home) Learn(ctx context.Context) (*client.Policy, error) {
	region, err := h.asking()
	if err != nil {
		return nil, err
	}
	defer region.Close()
	p, err := region.Policy(ctx)
	if err != nil {
		return nil, err
	}
	return p, h.keepPolicy(p)
}

// Flush submits everything that waits, whatever pauses were set, and says how many items it was.
func (h *Home) Flush(ctx context.Context) (int, error) {
	n, err := h.drain(ctx, true)
	if err != nil {
		left, lerr := os.ReadDir(filepath.Join(h.Dir, dirOutbox))
		return n, errors.Join(fmt.Errorf("%d items wait: %w", len(left), err), lerr)
	}
	return n, nil
}
