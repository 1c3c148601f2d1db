package p2p

import (
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/bizra/bizra/fsm/federation"
)

// Directory is what one federation document says of peers. It is immutable, and the same for
// every node that goes by the document.
type Directory struct {
	document *federation.Document
	roles    map[peer.ID]listedPeer
	voters   map[string][]peer.ID // by region, sorted
}

type listedPeer struct {
	region    string
	addresses []string
	dialable  []ma.Multiaddr // of addresses
	texts     []string       // of dialable
}

// NewDirectory reads a document, which must not be changed afterwards.
func NewDirectory(d *federation.Document) (*Directory, error) {
	l := &Directory{document: d, roles: make(map[peer.ID]listedPeer), voters: make(map[string][]peer.ID)}
	for _, r := range d.Regions {
		for _, v := range r.Voters {
			id, err := PeerID(v.NodeKey)
			if err != nil {
				return nil, fmt.Errorf("voter %q of region %q: %w", v.Name, r.Name, err)
			}
			can := dialable(v.Addresses)
			l.roles[id] = listedPeer{region: r.Name, addresses: v.Addresses, dialable: can, texts: texts(can)}
			l.voters[r.Name] = append(l.voters[r.Name], id)
		}
		slices.Sort(l.voters[r.Name])
	}
	return l, nil
}
