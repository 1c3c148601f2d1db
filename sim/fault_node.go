package sim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bizra/bizra/sim/memnet"
)

func nodeFaults() map[string]kind {
	return map[string]kind{
		"crash":      {what: "power is cut, and comes back", whom: Voters, make: func(b *befall) Fault { return &crash{befall: b} }},
		"restart":    {what: "a node is stopped as an operator does, and started again", whom: Voters, make: func(b *befall) Fault { return &crash{befall: b, gently: true} }},
		"wipe":       {what: "a member comes back with an empty disk", whom: Members, make: func(b *befall) Fault { return &crash{befall: b, wipes: true} }},
		"pause":      {what: "a machine stands still, and goes on", whom: Voters, make: func(b *befall) Fault { return &pausing{b} }},
		"slow-node":  {what: "a machine takes its time for whatever it writes to its disk and its network", whom: Voters, delay: 100 * time.Millisecond, make: func(b *befall) Fault { return &slowNode{b} }},
		"leap":       {what: "every wall clock, those of agents too, goes ahead at once, as if so long had gone by", delay: time.Hour, make: func(b *befall) Fault { return &leap{befall: b} }},
		"clock-skew": {what: "a wall clock is ahead, or behind", whom: Voters, delay: 5 * time.Second, make: func(b *befall) Fault { return &clockSkew{b} }},
	}
}

// revive has every victim be up and sound: one that stopped itself is started anew, as a supervisor does.
func (b *befall) revive() (errs error) {
	for _, n := range b.victims {
		n.faults--
		if x := n.Running(); x != nil && x.Failure() != nil {
			errs = errors.Join(errs, n.Crash())
		}
		if n.Running() == nil {
			errs = errors.Join(errs, n.Start(context.Background()))
		}
	}
	return errs
}

// crash takes nodes down until it ends.
type crash struct {
	*befall
	gently bool // by stopping them
	wipes  bool // and empties their disks
}

// Begin implements [Fault].
func (c *crash) Begin(w *World) error {
	nodes, err := c.drawNodes(w)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		down := n.Crash
		if c.gently {
			down = n.Stop
		}
		if err := down(); err != nil {
			return err
		}
		if c.wipes {
			if err := n.wipe(); err != nil {
				return err
			}
		}
		c.effects.Add(1)
	}
	return nil
}

// End implements [Fault].
func (c *crash) End(*World) error { return c.revive() }

// wipe empties the disk of a node that is down.
func (n *Node) wipe() error {
	n.ended.Wait()
	if n.Running() != nil {
		return fmt.Errorf("sim: wipe %s: it is up", n.Name())
	}
	n.disk.forgetCopies()
	n.disk = newDisk()
	return errors.Join(os.RemoveAll(n.dir), os.MkdirAll(n.dir, 0o700))
}

// found makes a wiped disk one of a founding voter, which a liar may do.
func (n *Node) found() error {
	return os.WriteFile(filepath.Join(n.dir, foundingFile), nil, 0o600)
}

// pausing has machines stand still.
type pausing struct{ *befall }

// Begin implements [Fault].
func (p *pausing) Begin(w *World) error {
	nodes, err := p.drawNodes(w)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		n.trouble.count.Store(0)
		n.trouble.hold()
	}
	w.off(p.key(), true)
	return nil
}

// End implements [Fault].
func (p *pausing) End(w *World) error {
	for _, n := range p.victims {
		n.trouble.resume()
		p.effects.Add(n.trouble.count.Swap(0))
	}
	w.off(p.key(), false)
	return p.revive()
}

// off has the network pass over machines that are off, while any fault needs it.
func (w *World) off(key string, on bool) {
	if !on {
		w.part(key, nil)
		return
	}
	w.part(key, func(from, to *Node) bool {
		switch {
		case from.trouble.off.Load():
			from.trouble.count.Add(1)
		case to.trouble.off.Load():
			to.trouble.count.Add(1)
		default:
			return false
		}
		return true
	})
}

// slowNode makes whatever nodes write late.
type slowNode struct{ *befall }

// Begin implements [Fault].
func (s *slowNode) Begin(w *World) error {
	nodes, err := s.drawNodes(w)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		n.trouble.slow.Store(int64(s.cfg.Delay))
	}
	slow := s.among()
	w.weather(s.key(), func(from, _ *Node, _ protocol.ID, _ time.Duration) (f memnet.Fate) {
		if slow(from) {
			s.effects.Add(1)
			f.Late = s.cfg.Delay
		}
		return f
	})
	return nil
}

// End implements [Fault].
func (s *slowNode) End(w *World) error {
	w.weather(s.key(), nil)
	for _, n := range s.victims {
		n.trouble.slow.Store(0)
		s.effects.Add(n.trouble.count.Swap(0))
	}
	return s.revive()
}

// clockSkew sets wall clocks wrong, by steps.
type clockSkew struct{ *befall }

// Begin implements [Fault].
func (c *clockSkew) Begin(w *World) error {
	nodes, err := c.drawNodes(w)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		n.trouble.count.Store(0)
		n.trouble.skew.Add(int64(c.cfg.Delay))
	}
	return nil
}

// End implements [Fault].
func (c *clockSkew) End(*World) error {
	for _, n := range c.victims {
		n.trouble.skew.Add(-int64(c.cfg.Delay))
		c.effects.Add(n.trouble.count.Swap(0)) // how often a clock was read that was wrong
	}
	return c.revive()
}

// leap has time go by for everybody: what the log's time makes due comes due, without the wait.
type leap struct{ *befall }

// Begin implements [Fault].
func (l *leap) Begin(w *World) error {
	w.ahead.Add(int64(l.cfg.Delay))
	for _, n := range w.All() {
		n.trouble.skew.Add(int64(l.cfg.Delay))
		l.effects.Add(1)
	}
	return nil
}

// End implements [Fault]. Time does not go back.
func (l *leap) End(*World) error { return nil }
