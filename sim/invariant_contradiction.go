package sim

import (
	"bytes"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm/checkpoint"
)

// contradiction: two certificates of one region never contradict. Of equal size they have one
// body; of other sizes one covers a prefix of the other, which re-execution shows (invariant_reexecution.go).
type contradiction struct {
	promise
	// What was certified, by region and entries; under the auditor's mu.
	certified map[string]map[int64]certified
	verified  map[string]*checkpoint.Checkpoint // notes that were; what every node learns alike is verified once
}

type certified struct{ note, body []byte }

// learned checks a certificate that a node has come to know.
func (c *contradiction) learned(n *Node, l attest.Learned) {
	c.auditor.mu.Lock()
	cp := c.verified[string(l.Note)]
	c.auditor.mu.Unlock()
	if cp == nil {
		var err error
		if cp, _, err = certificate.Verify(l.Note, c.auditor.world.Fed.Document); err != nil {
			c.breaks("%s took for a certificate of %s what is none: %w", n.Name(), l.Origin, err)
			return
		}
	}
	if cp.Region() != l.Origin || cp.Size != l.Size {
		c.breaks("%s took for a certificate of %s of %d entries what is none", n.Name(), l.Origin, l.Size)
		return
	}
	c.checks.Add(1)
	c.auditor.mu.Lock()
	c.verified[string(l.Note)] = cp
	if c.certified[l.Origin] == nil {
		c.certified[l.Origin] = map[int64]certified{}
	}
	was, ok := c.certified[l.Origin][cp.Size]
	body := cp.Body()
	if !ok {
		c.certified[l.Origin][cp.Size] = certified{l.Note, body}
	}
	c.auditor.mu.Unlock()
	switch {
	case !ok:
		c.auditor.Note("%s knows a certificate of %s over %d entries", n.Name(), l.Origin, cp.Size)
	case !bytes.Equal(was.body, body):
		c.breaks("two certificates of %s with %d entries contradict: %q and %q", l.Origin, cp.Size, was.body, body)
	}
}

// of is the certificate of a region over so many entries, if there is one.
func (c *contradiction) of(region string, size int64) (certified, bool) {
	c.auditor.mu.Lock()
	defer c.auditor.mu.Unlock()
	x, ok := c.certified[region][size]
	return x, ok
}
