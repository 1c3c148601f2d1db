package sim

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/ledger"
)

// contradiction: two certificates of one region never contradict. Of equal size they have one
// body; of other sizes one covers a prefix of the other, which the roots of the ledger under the longer show.
type contradiction struct {
	promise
	// What was certified, by region and entries; under the auditor's mu.
	certified map[string]map[int64]certified
	newestAt  time.Duration                     // when the newest was learned first
	doubled   map[string]int                    // certificates that contradicted one of their size, by region
	verified  map[string]*checkpoint.Checkpoint // notes that were; what every node learns alike is verified once
}

type certified struct {
	note, body []byte
	root       ledger.Hash
}

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
		c.auditor.mu.Lock()
		c.verified[string(l.Note)] = cp
		c.auditor.mu.Unlock()
	}
	if cp.Region() != l.Origin || cp.Size != l.Size {
		c.breaks("%s took for a certificate of %s of %d entries what is none", n.Name(), l.Origin, l.Size)
		return
	}
	c.checks.Add(1)
	c.auditor.mu.Lock()
	if c.certified[l.Origin] == nil {
		c.certified[l.Origin] = map[int64]certified{}
	}
	was, ok := c.certified[l.Origin][cp.Size]
	body := cp.Body()
	if !ok {
		c.certified[l.Origin][cp.Size] = certified{l.Note, body, cp.Root}
		c.newestAt = c.auditor.age()
	}
	contradicts := ok && !bytes.Equal(was.body, body)
	if contradicts {
		c.doubled[l.Origin]++
	}
	c.auditor.mu.Unlock()
	switch {
	case !ok:
		c.auditor.Note("%s knows a certificate of %s over %d entries", n.Name(), l.Origin, cp.Size)
	case contradicts:
		c.breaks("two certificates of %s with %d entries contradict: %q and %q", l.Origin, cp.Size, was.body, body)
	}
}

// prefixes holds every certificate of a region against a ledger that one of them covers and that is
// at least as long.
func (c *contradiction) prefixes(region string, size int64, root func(size int64) (ledger.Hash, error)) error {
	c.auditor.mu.Lock()
	list := maps.Clone(c.certified[region])
	c.auditor.mu.Unlock()
	for at, x := range list {
		if at > size {
			continue
		}
		is, err := root(at)
		if err != nil {
			return fmt.Errorf("root of %d entries of %s: %w", at, region, err)
		}
		c.checks.Add(1)
		if is != x.root {
			c.breaks("two certificates of %s contradict: that of %d entries is not of the ledger that one of %d or more covers, whose root there is %v", region, at, size, is)
		}
	}
	return nil
}

// of is the certificate of a region over so many entries, if there is one.
func (c *contradiction) of(region string, size int64) (certified, bool) {
	c.auditor.mu.Lock()
	defer c.auditor.mu.Unlock()
	x, ok := c.certified[region][size]
	return x, ok
}

// some are certificates that were learned, the newest of regions in their order, so many at most.
func (c *contradiction) some(most int) (list []certified) {
	c.auditor.mu.Lock()
	defer c.auditor.mu.Unlock()
	for _, region := range c.auditor.world.names {
		for _, size := range slices.Backward(sizesOf(c.certified[region])) {
			if len(list) == most {
				return list
			}
			list = append(list, c.certified[region][size])
		}
	}
	return list
}

// newest is when the newest certificate was learned by anybody, in the world's age.
func (c *contradiction) newest() time.Duration {
	c.auditor.mu.Lock()
	defer c.auditor.mu.Unlock()
	return c.newestAt
}

// count is how many bodies of a region were certified, those that contradict each by itself.
func (c *contradiction) count(region string) int {
	c.auditor.mu.Lock()
	defer c.auditor.mu.Unlock()
	return len(c.certified[region]) + c.doubled[region]
}
