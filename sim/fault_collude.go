package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bizra/bizra/fsm/federation"
)

// collusionMax is how long colluders wait for each of their certificates.
const collusionMax = time.Minute

// collusion is 2q−N regions that run twice from one backup: once before one half of the others, once
// before the other half, each of which sees a quorum. Fewer could not: two quorums of regions of
// which each votes once share one that is honest.
type collusion struct {
	*befall
	world   *World
	backups map[*Node]*backup
	left    map[string]bool // the half that is there first
	right   map[string]bool
}

// Begin implements [Fault].
func (c *collusion) Begin(w *World) error {
	n, q := len(w.names), federation.Quorum(len(w.names))
	c.world, c.backups, c.left, c.right = w, map[*Node]*backup{}, map[string]bool{}, map[string]bool{}
	c.cfg.Regions = 2*q - n
	colluding := c.drawRegions(w)
	if len(colluding) < c.cfg.Regions {
		return fmt.Errorf("sim: collude: of %d regions %d must collude, and some lie already", n, c.cfg.Regions)
	}
	is := c.of()
	for i, r := range w.names {
		switch {
		case is(w.regions[r][0]):
			w.Liar(r)
		case len(c.left) < n-q:
			c.left[w.names[i]] = true
		default:
			c.right[w.names[i]] = true
		}
	}
	if err := c.down(func(n *Node) (err error) { c.backups[n], err = n.backup(); return err }); err != nil {
		return err
	}
	if err := c.certify(c.right, "once"); err != nil {
		return err
	}
	if err := c.down(func(n *Node) error { return n.restore(c.backups[n]) }); err != nil {
		return err
	}
	before := len(w.Auditor.Violations())
	if err := c.certify(c.left, "twice"); err != nil && len(w.Auditor.Violations()) == before {
		return err
	}
	c.effects.Add(1)
	if err := w.Auditor.Audit(); err != nil && len(w.Auditor.Violations()) == before {
		return err
	}
	return nil
}

// down does something with every node of the colluders while it is down; their voters are up again then.
func (c *collusion) down(do func(n *Node) error) error {
	for _, r := range c.regions {
		for _, n := range c.world.regions[r] {
			if err := n.Stop(); err != nil {
				return err
			}
		}
		for _, n := range c.world.Voters(r) {
			if err := do(n); err != nil {
				return err
			}
		}
	}
	for _, r := range c.regions {
		for _, n := range c.world.Voters(r) {
			if err := n.Start(context.Background()); err != nil {
				return err
			}
		}
	}
	return nil
}

// certify has the first of the colluders commit a proof and get a certificate for it, where one half hears of nothing.
func (c *collusion) certify(deaf map[string]bool, session string) error {
	w := c.world
	w.part(c.key(), c.counted(func(from, to *Node) bool { return deaf[from.Region] != deaf[to.Region] }))
	leader, err := w.leader(c.regions[0])
	if err != nil {
		return err
	}
	o, err := w.open(context.Background(), leader, "run-"+session)
	if err != nil || o.Reject != nil || !o.Receipt.Accepted() {
		return errors.Join(err, fmt.Errorf("sim: collude: a proof was not taken: %+v", o))
	}
	was := w.Auditor.contradiction.count(c.regions[0])
	return w.Within(context.Background(), collusionMax, "a certificate of what "+c.regions[0]+" ran "+session, func() (bool, error) {
		return w.Auditor.Certified(c.regions[0]) > o.Receipt.Index && w.Auditor.contradiction.count(c.regions[0]) > was, nil
	})
}

// End implements [Fault].
func (c *collusion) End(w *World) (errs error) {
	w.part(c.key(), nil)
	for _, r := range c.regions {
		for _, n := range w.regions[r] {
			if n.Running() == nil {
				errs = errors.Join(errs, n.Start(context.Background()))
			}
		}
	}
	return errs
}
