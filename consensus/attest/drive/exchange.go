package drive

import (
	"context"
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/consensus/attest"
	documents "github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/p2p"
)

// Limits of the streams of /bizra/attest/1.0.0.
const (
	// frameBytesMax bounds a request and a response: the messages, and the names around them.
	frameBytesMax    = attest.ExchangeBytesMax + 32<<10
	perPeerPerSecond = 4 // exchanges that one peer may open in the long run
	perPeerBurst     = 16
	perRegionMax     = 4 // of them at once, of all voters of one region
	// servedMax has places for all that the regions of a federation may hold, so that those who lie keep nobody out.
	servedMax = perRegionMax * documents.RegionsMax
)

// serve answers exchanges.
func (d *Driver) serve() (*p2p.Server, error) {
	return p2p.Serve(d.cfg.Host, d.cfg.Access, p2p.ProtocolAttest, p2p.Limits{RequestBytesMax: frameBytesMax, ResponseBytesMax: frameBytesMax,
		ConcurrentMax: servedMax, PerPeerMax: perRegionMax, PerRegionMax: perRegionMax, PerPeerPerSecond: perPeerPerSecond, PerPeerBurst: perPeerBurst, Timeout: d.cfg.ExchangeTimeout},
		func(ctx context.Context, from peer.ID, request *attest.Exchange) (*attest.Exchange, error) {
			region := d.cfg.Access.RegionOf(from)
			if region == "" || region == d.cfg.Attest.Region {
				return nil, fmt.Errorf("%v is no voter of another region", from)
			}
			if err := request.Check(); err != nil {
				return nil, &p2p.Fault{Code: "exchange", Detail: err.Error()}
			}
			return d.inbox.ask(ctx, &question{region, request, make(chan *attest.Exchange, 1)})
		})
}

// answer steps what another region's node said, and tells it what this one has. Asked for the owner.
func (d *Driver) answer(q *question) error {
	d.metrics.exchanges.WithLabelValues("answered").Inc()
	if err := d.step(attest.Exchanged{Region: q.region, Exchange: q.request}); err != nil {
		return err
	}
	x, err := d.machine.Exchange(q.region)
	if err != nil {
		return err
	}
	q.answered <- x
	return nil
}

// exchange has an exchange with the voter of a region whose turn it is, unless one with that
// region, or as many as may be, are under way. For the owner.
func (d *Driver) exchange(region string) error {
	if d.exchanges[region] || len(d.exchanges) >= ExchangesMax {
		return nil // the machine asks again
	}
	voters := slices.DeleteFunc(slices.Clone(d.cfg.Voters(region)), func(p peer.ID) bool { return p == d.cfg.Host.ID() })
	if len(voters) == 0 {
		return nil
	}
	slices.Sort(voters)
	to := voters[d.turns[region]%len(voters)]
	d.turns[region]++
	request, err := d.machine.Exchange(region)
	if err != nil {
		return err
	}
	d.exchanges[region] = true
	d.calls.Go(func() {
		defer func() {
			select {
			case d.ended <- region:
			case <-d.ctx.Done():
			}
		}()
		response, err := d.call(to, request)
		if err != nil {
			if d.ctx.Err() == nil {
				d.metrics.exchanges.WithLabelValues("failed").Inc()
				d.cfg.Logger.Debug("no exchange with a voter of another region", "region", region, "peer", to, "error", err)
			}
			return
		}
		d.metrics.exchanges.WithLabelValues("asked").Inc()
		d.inbox.put(func(w *waiting) { w.answers = append(w.answers, attest.Exchanged{Region: region, Exchange: response}) })
	})
	return nil
}

func (d *Driver) call(to peer.ID, request *attest.Exchange) (*attest.Exchange, error) {
	ctx, cancel := context.WithTimeout(d.ctx, d.cfg.ExchangeTimeout)
	defer cancel()
	var response attest.Exchange
	if err := p2p.CallLimit(ctx, d.cfg.Host, to, p2p.ProtocolAttest, frameBytesMax, request, &response); err != nil {
		return nil, err
	}
	if err := response.Check(); err != nil {
		return nil, err
	}
	return &response, nil
}
