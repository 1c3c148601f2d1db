package workload

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/pci"
)

// Leaf is the hash of the ledger entry that a receipt tells of: a node that shows this
// leaf in its ledger holds the envelope, and the outcome that the receipt states.
func Leaf(env *pci.Envelope, r *client.Receipt) (ledger.Hash, error) {
	if r.Index == nil {
		return ledger.Hash{}, fmt.Errorf("the receipt of %s names no entry", r.Digest)
	}
	at, err := time.Parse(time.RFC3339Nano, r.Time)
	if err != nil {
		return ledger.Hash{}, fmt.Errorf("the receipt of %s: %w", r.Digest, err)
	}
	e := fsm.Entry{Kind: fsm.EntryProof, Region: r.Region, Index: *r.Index, TimeMillis: at.UnixMilli(), Envelope: env,
		Outcome: fsm.Outcome{Code: r.Code, Reason: r.Reason, Session: r.Session, Head: r.Head, State: r.State}}
	if err := takeLayers(&e.Outcome, r); err != nil {
		return ledger.Hash{}, fmt.Errorf("the receipt of %s: %w", r.Digest, err)
	}
	return ledger.LeafHash(e.AppendCanonical(nil)), nil
}

// takeLayers takes what the receipt says of the layers, whose forms have the same members.
func takeLayers(o *fsm.Outcome, r *client.Receipt) error {
	text, err := json.Marshal(map[string]any{"NTU": r.NTU, "Fate": r.Fate, "Budget": r.Budget, "Agent": r.Agent})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, o); err != nil || r.Agent == nil {
		return err
	}
	for _, c := range []struct {
		text string
		into *int64
	}{{r.Agent.EnoughFrom, &o.Agent.EnoughMillis}, {r.Agent.Until, &o.Agent.UntilMillis}} {
		if c.text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, c.text)
		if err != nil {
			return err
		}
		*c.into = at.UnixMilli()
	}
	return nil
}

// Included is what one node proved.
type Included struct {
	Proofs int              // inclusion proofs checked
	Roots  map[int64]string // the ledger's root by its size, as the proofs led to it
	Size   int64            // the greatest of these sizes
}

// asksMax is how many inclusion proofs are asked for at a time.
const asksMax = 8

// CheckIncluded asks a node for an inclusion proof of every acknowledged proof and checks
// each. The client should read stale, at one URL, to have the node's own ledger answer.
func CheckIncluded(ctx context.Context, node *client.Client, acked []Acked) (Included, error) {
	found := Included{Roots: map[int64]string{}}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex // guards found
	var wg sync.WaitGroup
	next := make(chan Acked)
	for range asksMax {
		wg.Go(func() {
			for a := range next {
				p, err := checkOne(ctx, node, a)
				mu.Lock()
				if err == nil {
					err = found.add(p)
				}
				mu.Unlock()
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, a := range acked {
		select {
		case next <- a:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return found, err
	}
	return found, nil
}

func (f *Included) add(p *client.Inclusion) error {
	if root, known := f.Roots[p.Size]; known && root != p.Root {
		return fmt.Errorf("the node gives two roots for %d entries: %s and %s", p.Size, root, p.Root)
	}
	f.Roots[p.Size] = p.Root
	f.Size = max(f.Size, p.Size)
	f.Proofs++
	return nil
}

func checkOne(ctx context.Context, node *client.Client, a Acked) (*client.Inclusion, error) {
	digest := a.Envelope.Digest()
	p, err := node.Inclusion(ctx, hex.EncodeToString(digest[:]))
	if err != nil {
		return nil, err
	}
	leaf, err := Leaf(a.Envelope, &a.Receipt)
	if err != nil {
		return nil, err
	}
	if p.Index != *a.Receipt.Index || p.LeafHash != hex.EncodeToString(leaf[:]) {
		return nil, fmt.Errorf("proof %x: the node has leaf %s at %d, the receipt makes leaf %x at %d", digest, p.LeafHash, p.Index, leaf, *a.Receipt.Index)
	}
	if err := p.Verify(); err != nil {
		return nil, fmt.Errorf("proof %x: %w", digest, err)
	}
	return p, nil
}
