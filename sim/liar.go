package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/raft"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/p2p"
)

// Liar is a region that lies: it has the region's keys and its voters' hosts and disks. Its nodes
// run as they are; what they say is altered on its way out, and more is said beside them.
type Liar struct {
	Region string

	world   *World
	told    atomic.Int64 // lies that left its hosts
	entries atomic.Pointer[rewriting]
	stamps  atomic.Pointer[func(millis int64) int64]
	silent  atomic.Bool // it attests nothing, and says nothing of what it could

	mu      sync.Mutex
	altered map[uint64]bool // Raft indices of which the stamp was altered
}

type rewriting struct{ from, to []byte }

// Liar makes a liar of a region. From now on the auditor believes nothing that its nodes hold.
func (w *World) Liar(region string) *Liar {
	l := &Liar{Region: region, world: w, altered: map[uint64]bool{}}
	for _, n := range w.Nodes(region) {
		n.lies.Store(l)
	}
	return l
}

// Told is how many lies have left the region's hosts.
func (l *Liar) Told() int { return int(l.told.Load()) }

// Rewrite has every node of the region serve its ledger with a text replaced by another of the
// same length.
func (l *Liar) Rewrite(from, to string) error {
	if len(from) != len(to) || from == "" {
		return fmt.Errorf("sim: rewrite %q to %q: they must be of one length", from, to)
	}
	l.entries.Store(&rewriting{[]byte(from), []byte(to)})
	return nil
}

// Stamp has whoever leads the region stamp its entries with another time; nil: with the true one.
func (l *Liar) Stamp(instead func(millis int64) int64) {
	if instead == nil {
		l.stamps.Store(nil)
		return
	}
	l.stamps.Store(&instead)
}

// Checkpoint signs what the region never sealed, or did otherwise, and makes the message.
func (l *Liar) Checkpoint(c *checkpoint.Checkpoint) ([]byte, error) {
	note, err := checkpoint.Sign(c, l.world.Fed.LogKeys[l.Region])
	if err != nil {
		return nil, err
	}
	return l.message(attest.KindCheckpoint, note), nil
}

func (l *Liar) message(kind attest.Kind, payload []byte) []byte {
	return (&attest.Message{Kind: kind, Document: l.world.Fed.Document.Version, Payload: payload}).Encode()
}

// Tell says messages to every voter of a region that is up, from the region's first host that is,
// and returns how many took them.
func (l *Liar) Tell(ctx context.Context, region string, messages ...[]byte) (told int, err error) {
	from := l.up()
	if from == nil {
		return 0, errDown
	}
	request := &attest.Exchange{Version: 1, Document: l.world.Fed.Document.Version, Messages: messages, Evidence: []string{}}
	for _, n := range l.world.Voters(region) {
		if n.Running() == nil {
			continue
		}
		var response attest.Exchange
		if e := p2p.CallLimit(ctx, from.host, n.ID, p2p.ProtocolAttest, attest.ExchangeBytesMax+32<<10, request, &response); e != nil {
			err = errors.Join(err, e)
			continue
		}
		told++
	}
	l.told.Add(int64(told))
	return told, err
}

func (l *Liar) up() *Node {
	for _, n := range l.world.Voters(l.Region) {
		if n.Running() != nil {
			return n
		}
	}
	return nil
}

// alter gives the commands that the region's leader appends another time. A log entry is one
// object from the leader's log to what it applies and sends.
func (l *Liar) alter(logs []*raft.Log) error {
	instead := l.stamps.Load()
	if instead == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, log := range logs {
		if log.Type != raft.LogCommand || l.altered[log.Index] {
			continue
		}
		var command []cbor.RawMessage
		if err := cbor.Unmarshal(log.Data[1:], &command); err != nil {
			return err
		}
		var stamp int64
		if err := cbor.Unmarshal(command[1], &stamp); err != nil || stamp == 0 {
			continue // a seal
		}
		mode, err := cbor.CoreDetEncOptions().EncMode()
		if err != nil {
			return err
		}
		if command[1], err = mode.Marshal((*instead)(stamp)); err != nil {
			return err
		}
		b, err := mode.Marshal(command)
		if err != nil {
			return err
		}
		log.Data = append(log.Data[:1:1], b...)
		l.altered[log.Index] = true
		l.told.Add(1)
	}
	return nil
}

// rewritten gives what is served instead of some bytes of the ledger.
func (l *Liar) rewritten(b []byte) []byte {
	r := l.entries.Load()
	if r == nil || !bytes.Contains(b, r.from) {
		return b
	}
	l.told.Add(1)
	return bytes.ReplaceAll(b, r.from, r.to)
}
