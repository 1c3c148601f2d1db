package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
	"github.com/bizra/bizra/sim/memnet"
)

func regionFaults() map[string]kind {
	lie := func(what string, tell func(l *lying, w *World) error) kind {
		return kind{what: what, make: func(b *befall) Fault { return &lying{befall: b, tell: tell} }}
	}
	late := lie("a region's votes leave it late", voteLate)
	late.delay = 5 * time.Second
	return map[string]kind{
		"equivocate": lie("a region signs two checkpoints of one size", equivocate),
		"rewrite":    lie("a region begins its ledger anew", rewrite),
		"bad-entry":  lie("a region says of an entry that the gates refuse that they took it", badEntry),
		"silent":     lie("a region attests nothing and passes nothing on", silence),
		"vote-all":   lie("regions cosign whatever another of them signs", voteAll),
		"vote-late":  late,
		"replay":     lie("a region says old messages again", replay),
		"collude":    {what: "as many regions as two quorums share run their ledgers twice", make: func(b *befall) Fault { return &collusion{befall: b} }},
	}
}

// lying has regions lie. They are not believed any more when it ends, though they lie no longer.
type lying struct {
	*befall
	tell  func(l *lying, w *World) error
	liars []*Liar
}

// Begin implements [Fault].
func (l *lying) Begin(w *World) error {
	for _, r := range l.drawRegions(w) {
		l.liars = append(l.liars, w.Liar(r))
	}
	if err := l.tell(l, w); err != nil {
		return fmt.Errorf("sim: %s: %w", l.cfg.Kind, err)
	}
	return nil
}

// End implements [Fault].
func (l *lying) End(w *World) error {
	w.weather(l.key(), nil)
	for _, x := range l.liars {
		x.silent.Store(false)
		x.entries.Store(nil)
		x.Stamp(nil)
		l.effects.Add(int64(x.Told()))
	}
	return nil
}

// leaderMax is how long a liar waits for its region to have a leader.
const leaderMax = 20 * time.Second

// leader waits for one.
func (w *World) leader(region string) (n *Node, err error) {
	err = w.Within(context.Background(), leaderMax, region+" to have a leader", func() (bool, error) {
		n = w.Leader(region)
		return n != nil, nil
	})
	return n, err
}

// lastSeal is the newest of a region, as its leader has it.
func (w *World) lastSeal(region string) (seal *fsm.Seal, err error) {
	n, err := w.leader(region)
	if err != nil {
		return nil, err
	}
	err = n.read(func(v *fsm.View) (err error) {
		if v.Seals() == 0 {
			return fsm.ErrNotFound
		}
		seal, err = v.SealAt(v.Seals() - 1)
		return err
	})
	if err == nil && seal == nil {
		err = errDown
	}
	return seal, err
}

// everyoneElse says messages to every region that does not lie.
func (l *Liar) everyoneElse(messages ...[]byte) {
	for _, r := range l.world.names {
		if l.world.lies(r) {
			continue
		}
		for part := range slices.Chunk(messages, attest.ExchangeMessagesMax) {
			if _, err := l.Tell(context.Background(), r, part...); err != nil {
				l.world.Auditor.Note("%s was not heard by %s: %v", l.Region, r, err)
			}
		}
	}
}

// equivocate tells one region of another checkpoint of the size of the last.
func equivocate(l *lying, w *World) error {
	for _, x := range l.liars {
		seal, err := w.lastSeal(x.Region)
		if err != nil {
			return err
		}
		other := *seal.Checkpoint()
		other.State[7] ^= 1
		message, err := x.Checkpoint(&other)
		if err != nil {
			return err
		}
		x.everyoneElse(message)
	}
	return nil
}

// rewrite founds regions again, with their own keys.
func rewrite(l *lying, w *World) error {
	for _, x := range l.liars {
		for _, n := range w.Nodes(x.Region) {
			if err := n.Stop(); err != nil {
				return err
			}
			if err := n.wipe(); err != nil {
				return err
			}
			if n.Votes {
				if err := n.found(); err != nil {
					return err
				}
			}
		}
		for _, n := range w.Nodes(x.Region) {
			if err := n.Start(context.Background()); err != nil {
				return err
			}
		}
		n, err := w.leader(x.Region)
		if err != nil {
			return err
		}
		if _, err := w.Submit(context.Background(), n); err != nil {
			w.Auditor.Note("%s: a proof for the other ledger was not taken: %v", x.Region, err)
		}
		x.told.Add(1)
	}
	return nil
}

// badEntry serves the outcome of an unfit proof as another.
func badEntry(l *lying, w *World) error {
	for _, x := range l.liars {
		if err := x.Rewrite(fmt.Sprintf(`"code":%d`, pci.RejectIhsanBelowMin), `"code":0`); err != nil {
			return err
		}
		n, err := w.leader(x.Region)
		if err != nil {
			return err
		}
		o, err := w.open(context.Background(), n, "unfit", func(p *pci.Draft) { p.IhsanScore = 0.5 })
		if err != nil {
			return err
		}
		if o.Reject != nil || !o.Receipt.HasEntry || o.Receipt.Code != pci.RejectIhsanBelowMin {
			return fmt.Errorf("the gates did not refuse it: %+v", o)
		}
	}
	return nil
}

func silence(l *lying, _ *World) error {
	for _, x := range l.liars {
		x.silent.Store(true)
	}
	return nil
}

// voteAll has the first of the regions sign what never was, and all of them cosign it.
func voteAll(l *lying, w *World) error {
	first := l.liars[0]
	seal, err := w.lastSeal(first.Region)
	if err != nil {
		return err
	}
	false1 := *seal.Checkpoint()
	false1.Size += 5
	false1.Root[3] ^= 1
	note, err := checkpoint.Sign(&false1, w.Fed.LogKeys[first.Region])
	if err != nil {
		return err
	}
	messages := [][]byte{first.message(attest.KindCheckpoint, note)}
	for _, x := range l.liars[1:] {
		line, err := certificate.Cosign(false1.Body(), x.Region, w.Fed.Cosign[x.Region], time.Now().Unix())
		if err != nil {
			return err
		}
		note = append(slices.Clone(note), line...)
		messages = append(messages, attest.EncodeCosignature(w.Fed.Document.Version, x.Region, false1.Body(), line))
	}
	messages = append(messages, first.message(attest.KindCertificate, note))
	for _, x := range l.liars {
		x.everyoneElse(messages...)
	}
	return nil
}

// voteLate holds back what the regions attest.
func voteLate(l *lying, w *World) error {
	late := l.of()
	w.weather(l.key(), func(from, to *Node, proto protocol.ID, _ time.Duration) (f memnet.Fate) {
		if late(from) && from.Region != to.Region && (proto == p2p.ProtocolAttest || proto == p2p.ProtocolGossip) {
			f.Late = l.cfg.Delay
			l.effects.Add(1)
		}
		return f
	})
	return nil
}

// replay says again what regions said of every seal that there was.
func replay(l *lying, w *World) error {
	for _, x := range l.liars {
		var old [][]byte
		for _, r := range w.names {
			for _, seal := range w.sealsOf(r) {
				if r == x.Region {
					message, err := x.Checkpoint(seal.Checkpoint())
					if err != nil {
						return err
					}
					old = append(old, message)
					continue
				}
				line, err := certificate.Cosign(seal.Body(), x.Region, w.Fed.Cosign[x.Region], seal.TimeMillis/1000)
				if err != nil {
					return err
				}
				old = append(old, attest.EncodeCosignature(w.Fed.Document.Version, x.Region, seal.Body(), line))
			}
		}
		for _, c := range w.Auditor.contradiction.some(100) {
			old = append(old, x.message(attest.KindCertificate, c.note))
		}
		if len(old) == 0 {
			return errors.New("nothing was said yet")
		}
		x.everyoneElse(old...)
	}
	return nil
}

// sealsOf are a region's, as its leader has them; none without one.
func (w *World) sealsOf(region string) (seals []*fsm.Seal) {
	n := w.Leader(region)
	if n == nil {
		return nil
	}
	_ = n.read(func(v *fsm.View) error {
		for k := range v.Seals() {
			if s, err := v.SealAt(k); err == nil {
				seals = append(seals, s)
			}
		}
		return nil
	})
	return seals
}
