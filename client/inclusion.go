package client

import (
	"encoding/hex"
	"fmt"

	"github.com/bizra/bizra/fsm/ledger"
)

// inclusionPathMax is more than a tree of 2^62 leaves can need.
const inclusionPathMax = 62

// Verify checks that the path leads from the leaf hash at Index to Root in the tree
// of Size leaves (RFC 9162 §2.1.3.2). It says that a tree with this root holds the
// leaf. It does not say what the leaf contains: who has the entry compares its leaf
// hash; nor whose root this is: a checkpoint or certificate says that.
func (p *Inclusion) Verify() error {
	root, err := parseHash("root", p.Root)
	if err != nil {
		return err
	}
	leaf, err := parseHash("leaf_hash", p.LeafHash)
	if err != nil {
		return err
	}
	if len(p.Path) > inclusionPathMax {
		return fmt.Errorf("inclusion proof: path has %d hashes, at most %d", len(p.Path), inclusionPathMax)
	}
	path := make([]ledger.Hash, 0, len(p.Path))
	for i, text := range p.Path {
		h, err := parseHash(fmt.Sprintf("path[%d]", i), text)
		if err != nil {
			return err
		}
		path = append(path, h)
	}
	if err := ledger.CheckInclusion(path, p.Size, root, p.Index, leaf); err != nil {
		return fmt.Errorf("inclusion proof: leaf %d of %d: %w", p.Index, p.Size, err)
	}
	return nil
}

func parseHash(name, text string) (h ledger.Hash, err error) {
	if len(text) != hex.EncodedLen(len(h)) {
		return h, fmt.Errorf("inclusion proof: %s has %d characters: a hash has %d hexadecimal digits", name, len(text), hex.EncodedLen(len(h)))
	}
	if _, err := hex.Decode(h[:], []byte(text)); err != nil {
		return h, fmt.Errorf("inclusion proof: %s: %w", name, err)
	}
	return h, nil
}
