package faults

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/node"
	"github.com/bizra/bizra/pci"
)

// What a victim does.
const (
	victimProofs  = 10
	victimReady   = 30 * time.Second
	victimSettles = 150 * time.Millisecond // for a seal, and the snapshot after it
)

// Prepare makes the home of the only founding voter of a federation.
func Prepare(dir string) error {
	fed := testfed.New(1, 1)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make a home: %w", err)
	}
	who, err := json.Marshal(node.Identity{Version: 1, Name: "a-1", Region: "a", Role: node.RoleVoter})
	if err != nil {
		return fmt.Errorf("make a home: %w", err)
	}
	errs := []error{
		fed.Nodes["a"][0].Save(filepath.Join(dir, node.FileNodeKey)),
		fed.LogKeys["a"].Save(filepath.Join(dir, node.FileLogKey)),
		fed.Cosign["a"].Save(filepath.Join(dir, node.FileCosignKey)),
	}
	for name, text := range map[string][]byte{node.FileNode: who, node.FileDocument: fed.Document.Canonical(), node.FileFounding: nil} {
		errs = append(errs, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	return errors.Join(errs...)
}

// Acked is one line of a victim's output: a proof that its node acknowledged.
type Acked struct {
	Proof string `json:"proof"` // canonical form, base64
	Index int64  `json:"index"` // of its entry
}

func start(ctx context.Context, home string, kind region.LogKind) (*node.Node, error) {
	n, err := node.Start(ctx, node.Config{Home: home, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Raft: region.Config{HeartbeatTimeout: 100 * time.Millisecond, ElectionTimeout: 100 * time.Millisecond, LeaseTimeout: 100 * time.Millisecond,
			SnapshotEntries: 8, TrailingEntries: 4, SealInterval: 20 * time.Millisecond, LogKind: kind, DiskFreeMin: -1}})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, victimReady)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if s, err := n.Status(); err == nil && s.Ready {
			return n, nil
		}
		select {
		case <-tick.C:
		case <-n.Failed():
			return nil, errors.Join(n.Failure(), n.Close(context.Background()))
		case <-ctx.Done():
			return nil, errors.Join(errors.New("the node is not ready in time"), n.Close(context.Background()))
		}
	}
}

// Victim runs the node of a home, has it acknowledge proofs, one after another, which it tells to out, and stops it.
func Victim(ctx context.Context, home string, kind region.LogKind, out io.Writer) error {
	n, err := start(ctx, home, kind)
	if err != nil {
		return err
	}
	if err := submitAll(ctx, n, json.NewEncoder(out)); err != nil {
		return errors.Join(err, n.Close(context.Background()))
	}
	select {
	case <-time.After(victimSettles):
	case <-n.Failed():
	}
	return errors.Join(n.Failure(), n.Close(context.Background()))
}

func submitAll(ctx context.Context, n *node.Node, out *json.Encoder) error {
	fed := testfed.New(1, 1)
	policy := n.Document().Constitution.PolicyHash()
	operator := fed.Operator("a", time.Now().UnixMilli())
	agent := fed.Agent("agent-"+uuid.NewString(), operator.NowMillis)
	operator.PolicyHash, agent.PolicyHash = policy, policy
	fresh := func(d *pci.Draft) {
		d.EnvelopeID = uuid.NewString()
		_, _ = rand.Read(d.Nonce[:]) // never fails
	}
	key := agent.Key.Public()
	proofs := []*pci.Envelope{operator.Sign("agent.register", map[string]any{"region": "a", "agent_id": agent.AgentID, "agent_type": agent.AgentType,
		"public_key": fmt.Sprintf("%x", key[:]), "owner": "acme"}, "", fresh)}
	for len(proofs) < victimProofs {
		proofs = append(proofs, agent.Sign("session.open", map[string]any{"region": "a", "session": uuid.NewString()}, "", fresh))
	}
	for _, p := range proofs {
		r, err := submit(ctx, n, p.Canonical())
		if err != nil {
			return err
		}
		if err := out.Encode(Acked{base64.StdEncoding.EncodeToString(p.Canonical()), r.Index}); err != nil {
			return err
		}
	}
	return nil
}

func submit(ctx context.Context, n *node.Node, proof []byte) (fsm.Receipt, error) {
	outcomes, err := n.Submit(ctx, [][]byte{proof})
	if err != nil {
		return fsm.Receipt{}, err
	}
	r := outcomes[0].Receipt
	if outcomes[0].Reject != nil || !r.Accepted() {
		return r, fmt.Errorf("a proof was refused: %+v", outcomes[0])
	}
	return r, nil
}

// Check starts the node of a home again and asks it for every proof that was acknowledged; then it checks the home.
func Check(ctx context.Context, home, scratch string, acked []Acked) error {
	n, err := start(ctx, home, "")
	if err != nil {
		return fmt.Errorf("start again: %w", err)
	}
	for i, a := range acked {
		proof, err := base64.StdEncoding.DecodeString(a.Proof)
		if err != nil {
			return errors.Join(err, n.Close(context.Background()))
		}
		r, err := submit(ctx, n, proof)
		if err == nil && (!r.Repeated || r.Index != a.Index) {
			err = fmt.Errorf("acknowledged proof %d of %d was entry %d and is entry %d, first receipt given again %v", i+1, len(acked), a.Index, r.Index, r.Repeated)
		}
		if err != nil {
			return errors.Join(err, n.Close(context.Background()))
		}
	}
	if err := n.Close(context.Background()); err != nil {
		return err
	}
	report, err := node.Fsck(ctx, home, scratch, func(string, int64, int64) {})
	if err != nil {
		return err
	}
	if report.Entries < int64(len(acked)) {
		return fmt.Errorf("%d entries, and %d proofs were acknowledged", report.Entries, len(acked))
	}
	return nil
}
