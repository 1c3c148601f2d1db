package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/rounds"
	"github.com/bizra/bizra/p2p"
)

// Gossip tells of certificates and may lose one: to a node that was down, or that nobody had in a mesh
// at the moment. Voters hand each other what is missing; a member asks the nodes of its region.

const (
	certificatesVersion = 1
	certificatesMax     = 8 // in one answer
	certificatesEvery   = 30 * time.Second
	certificatesFirst   = 5 * time.Second // after its start
	certificatesPatient = 10 * time.Second

	certificatesRequestBytesMax  = 16 << 10
	certificatesResponseBytesMax = certificatesMax*(attest.MessageBytesMax+8) + 64
)

// certificatesRequest asks for newer certificates than those that the caller has.
type certificatesRequest struct {
	Version uint8          `cbor:"1,keyasint"`
	Have    []certifiedFor `cbor:"2,keyasint,omitempty"` // at most [federation.RegionsMax]
}

// certifiedFor is how many entries of a region the newest certificate covers that a node has.
type certifiedFor struct {
	_      struct{} `cbor:",toarray"`
	Region string
	Size   int64
}

// certificatesResponse holds at most [certificatesMax] messages of attestation; so many: ask again.
type certificatesResponse struct {
	Certificates [][]byte `cbor:"1,keyasint,omitempty"`
}

func (n *Node) serveCertificates() error {
	limits := p2p.Limits{RequestBytesMax: certificatesRequestBytesMax, ResponseBytesMax: certificatesResponseBytesMax, ConcurrentMax: 16, PerPeerMax: 1,
		PerPeerPerSecond: 1, PerPeerBurst: federation.RegionsMax/certificatesMax + 2}
	srv, err := p2p.Serve(n.host, n.access, p2p.ProtocolCertificates, limits, func(_ context.Context, _ peer.ID, req *certificatesRequest) (*certificatesResponse, error) {
		if req.Version != certificatesVersion {
			return nil, &p2p.Fault{Code: "version", Detail: fmt.Sprintf("certificates version %d is not known here, %d is", req.Version, certificatesVersion)}
		}
		if len(req.Have) > federation.RegionsMax {
			return nil, &p2p.Fault{Code: "malformed", Detail: fmt.Sprintf("%d regions, a federation has at most %d", len(req.Have), federation.RegionsMax)}
		}
		return n.newerCertificates(req.Have), nil
	})
	if err != nil {
		return err
	}
	n.onClose(srv.Close)
	return nil
}

func (n *Node) newerCertificates(have []certifiedFor) *certificatesResponse {
	size := make(map[string]int64, len(have))
	for _, h := range have {
		size[h.Region] = h.Size
	}
	doc := n.Document()
	n.attested.mu.Lock()
	defer n.attested.mu.Unlock()
	res := &certificatesResponse{}
	for i := range doc.Regions {
		newest, ok := n.attested.newest[doc.Regions[i].Name]
		if ok && newest.Size > size[newest.Origin] && len(res.Certificates) < certificatesMax {
			m := attest.Message{Kind: attest.KindCertificate, Document: doc.Version, Payload: newest.Note}
			res.Certificates = append(res.Certificates, m.Encode())
		}
	}
	return res
}

// askForCertificates asks, and says when to ask again, while this node does not attest itself.
func (n *Node) askForCertificates() time.Duration {
	if n.attest.Load() != nil {
		return rounds.End // made a voter
	}
	if err := n.fetchCertificates(); err != nil {
		n.log.Debug("certificates were asked for in vain", "error", err)
	}
	return certificatesEvery*3/4 + rand.N(certificatesEvery/2) //nolint:gosec // spreads requests, guards no secret
}

// fetchCertificates takes from one node of the region what it has and this one has not.
func (n *Node) fetchCertificates() error {
	peers := slices.DeleteFunc(n.keeper.Region(), func(p peer.ID) bool { return n.host.Network().Connectedness(p) != network.Connected })
	if len(peers) == 0 {
		return nil // it makes no connection for that
	}
	ctx, cancel := context.WithTimeout(n.ctx, certificatesPatient)
	defer cancel()
	from := peers[rand.IntN(len(peers))] //nolint:gosec // as above
	for range federation.RegionsMax/certificatesMax + 1 {
		var res certificatesResponse
		if err := p2p.CallLimit(ctx, n.host, from, p2p.ProtocolCertificates, certificatesResponseBytesMax, n.certificatesWanted(), &res); err != nil {
			return fmt.Errorf("ask %v for certificates: %w", from, err)
		}
		for _, payload := range res.Certificates[:min(len(res.Certificates), certificatesMax)] {
			if err := n.takeCertificate(payload); err != nil {
				return fmt.Errorf("a certificate from %v: %w", from, err)
			}
		}
		if len(res.Certificates) < certificatesMax {
			return nil
		}
	}
	return nil
}

func (n *Node) certificatesWanted() *certificatesRequest {
	req := &certificatesRequest{Version: certificatesVersion}
	n.attested.mu.Lock()
	defer n.attested.mu.Unlock()
	for _, r := range n.Document().Regions {
		if l, ok := n.attested.newest[r.Name]; ok {
			req.Have = append(req.Have, certifiedFor{Region: r.Name, Size: l.Size})
		}
	}
	return req
}

// takeCertificate checks a certificate as one that gossip brought.
func (n *Node) takeCertificate(payload []byte) error {
	st, err := n.cfg.Ground.OpenStatement(payload, n.access.Document())
	if err != nil {
		return err
	}
	if st.Kind != attest.KindCertificate {
		return fmt.Errorf("%w: a statement of kind %d, where certificates were asked for", attest.ErrMessage, st.Kind)
	}
	n.learned(attest.Learned{Origin: st.Origin, Size: st.Checkpoint.Size, Note: st.Note})
	return nil
}
