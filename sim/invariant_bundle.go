package sim

import (
	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
)

// bundles: what a ledger and a certificate give verifies with the federation document alone.
type bundles struct{ promise }

// check makes the bundle of the last entry under a certificate and verifies it.
func (b *bundles) check(v *fsm.View, note []byte, c *checkpoint.Checkpoint) error {
	in, err := certificate.Include(v.Ledger(), c.Size-1, c.Size)
	if err != nil {
		return err
	}
	text, err := (&certificate.Bundle{Certificate: note, Entry: in}).Marshal()
	if err != nil {
		return err
	}
	b.verify(text, c.Origin)
	return nil
}

func (b *bundles) verify(text []byte, origin string) {
	b.checks.Add(1)
	if err := certificate.VerifyBundle(text, b.auditor.world.Fed.Document).Err(); err != nil {
		b.breaks("a bundle of %s does not verify: %w", origin, err)
	}
}
