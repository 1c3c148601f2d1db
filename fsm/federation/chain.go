package federation

import (
	"fmt"
	"slices"

	"github.com/zeebo/blake3"
)

// DigestOf names a document by its canonical form, as [Document.Digest] does, without
// reading it: of any other text it is the digest of no document.
func DigestOf(canonical []byte) [32]byte {
	return blake3.Sum256(append([]byte(documentDomain), canonical...))
}

// CheckSuccessor refuses a document that may not come in force after this one: it must be
// the next version of the same federation, with the same regions under the same keys. The
// constitution, the operators, the voters' addresses and the numbers of a market may change.
func (d *Document) CheckSuccessor(next *Document) error {
	switch {
	case next.Name != d.Name:
		return fmt.Errorf("it is a document of federation %q, and %q is in force", next.Name, d.Name)
	case next.Version != d.Version+1:
		return fmt.Errorf("it has version %d: after version %d, which is in force, comes %d", next.Version, d.Version, d.Version+1)
	case len(next.Regions) != len(d.Regions):
		return fmt.Errorf("it has %d regions, and the one in force has %d: regions cannot be added or removed", len(next.Regions), len(d.Regions))
	}
	for i := range d.Regions {
		if err := d.Regions[i].checkSuccessor(&next.Regions[i]); err != nil {
			return fmt.Errorf("region %q: %w", d.Regions[i].Name, err)
		}
	}
	return nil
}

func (r *Region) checkSuccessor(next *Region) error {
	switch {
	case next.Name != r.Name:
		return fmt.Errorf("the document has region %q in its place: regions cannot be added or removed", next.Name)
	case next.LogKey != r.LogKey, next.CosignKey != r.CosignKey:
		return fmt.Errorf("log_key and cosign_key cannot be changed")
	case !slices.EqualFunc(next.Voters, r.Voters, func(a, b Voter) bool { return a.Name == b.Name && a.NodeKey == b.NodeKey }):
		return fmt.Errorf("the founding voters cannot be changed: `bizra voter` changes who votes, in the ledger")
	case r.Market != nil && next.Market == nil:
		return fmt.Errorf("its market cannot be taken away: owners hold credits and licences in it")
	}
	return nil
}

// CheckKin refuses a document that cannot be an earlier or a later version of this one, as
// far as a region of it goes: another federation, other keys of the region, or another
// document of the same version.
func (d *Document) CheckKin(other *Document, region string) error {
	r, ok1 := d.Region(region)
	o, ok2 := other.Region(region)
	switch {
	case other.Name != d.Name:
		return fmt.Errorf("it is a document of federation %q, this node's own one is of %q", other.Name, d.Name)
	case !ok1 || !ok2:
		return fmt.Errorf("there is no region %q in both of them", region)
	case o.LogKey != r.LogKey || o.CosignKey != r.CosignKey:
		return fmt.Errorf("it has other keys of region %q than this node's own document", region)
	case other.Version == d.Version && other.Digest() != d.Digest():
		return fmt.Errorf("version %d has digest %x there, and this node's own document of that version %x", d.Version, other.Digest(), d.Digest())
	}
	return nil
}
