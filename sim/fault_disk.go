package sim

import (
	"errors"
	"time"
)

func diskFaults() map[string]kind {
	return map[string]kind{
		"slow-disk":    {what: "each write of Raft's log takes long", whom: Voters, delay: 200 * time.Millisecond, make: func(b *befall) Fault { return &diskFault{b, slowDisk} }},
		"full-disk":    {what: "nothing is free on a disk: its node takes no proofs when it leads", whom: Leaders, make: func(b *befall) Fault { return &diskFault{b, fullDisk} }},
		"failed-write": {what: "writes of Raft's log fail, which stops the node", whom: Voters, make: func(b *befall) Fault { return &diskFault{b, failedWrite} }},
		"torn-tail":    {what: "power is cut in the middle of a write of Raft's log", whom: Voters, make: func(b *befall) Fault { return &tornTail{b} }},
	}
}

func slowDisk(t *trouble, d time.Duration)    { t.slow.Store(int64(d)) }
func fullDisk(t *trouble, d time.Duration)    { t.full.Store(d != 0) }
func failedWrite(t *trouble, d time.Duration) { t.fails.Store(d != 0) }

// diskFault sets one of a disk's troubles.
type diskFault struct {
	*befall
	set func(t *trouble, d time.Duration) // 0: to what is sound
}

// Begin implements [Fault].
func (d *diskFault) Begin(w *World) error {
	nodes, err := d.drawNodes(w)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		n.trouble.count.Store(0)
		d.set(&n.trouble, max(1, d.cfg.Delay))
	}
	return nil
}

// End implements [Fault].
func (d *diskFault) End(*World) error {
	for _, n := range d.victims {
		d.set(&n.trouble, 0)
		d.effects.Add(n.trouble.count.Swap(0))
	}
	return d.revive()
}

// tornTail cuts the power of nodes during their next write.
type tornTail struct{ *befall }

// Begin implements [Fault].
func (t *tornTail) Begin(w *World) error {
	nodes, err := t.drawNodes(w)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		n.trouble.count.Store(0)
		n.trouble.torn.Store(true)
	}
	w.off(t.key(), true)
	return nil
}

// End implements [Fault].
func (t *tornTail) End(w *World) (errs error) {
	for _, n := range t.victims {
		if n.trouble.torn.Swap(false) {
			continue // it wrote nothing
		}
		t.effects.Add(1)
		if n.Running() != nil {
			errs = errors.Join(errs, n.Crash())
		}
		n.trouble.off.Store(false)
		n.trouble.count.Store(0)
	}
	w.off(t.key(), false)
	return errors.Join(errs, t.revive())
}
