package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bizra/bizra/api"
	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/consensus/link"
	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/pci"
)

// backend is the node behind its HTTP interface.
type backend struct{ n *Node }

var _ api.Backend = backend{}

// Submit implements [api.Backend].
func (b backend) Submit(ctx context.Context, raw [][]byte) ([]api.Outcome, error) {
	outcomes, err := b.n.Submit(withSource(ctx), raw)
	if err != nil {
		return nil, apiError(err)
	}
	shown := make([]api.Outcome, len(outcomes))
	for i := range outcomes {
		shown[i] = b.shown(&outcomes[i])
	}
	return shown, nil
}

// shown puts an outcome into the interface's form. A receipt that is given again may be attested by now.
func (b backend) shown(o *link.Outcome) api.Outcome {
	if o.Reject != nil {
		return api.Outcome{Code: o.Reject.Code, Err: o.Reject}
	}
	told := fsm.Told{Receipt: o.Receipt}
	if o.Receipt.Repeated {
		told.CertifiedSize = b.n.certifiedSize()
	}
	return api.Outcome{Code: o.Receipt.Code, Receipt: told}
}

// Adopt implements [api.Backend].
func (b backend) Adopt(ctx context.Context, envelope, document []byte) (api.Outcome, error) {
	o, err := b.n.Adopt(withSource(ctx), envelope, document)
	if err != nil {
		return api.Outcome{}, apiError(err)
	}
	return b.shown(&o), nil
}

// sourceBitsV6 is how much of an IPv6 address tells one client from another: whoever has
// a network of this size can take any address in it.
const sourceBitsV6 = 64

// withSource names a client by its address, so that one that sends bad signatures is
// turned away and no other. Agents on this machine share an address and are not told apart.
func withSource(ctx context.Context) context.Context {
	addr, ok := api.ClientAddress(ctx)
	if !ok || addr.IsLoopback() {
		return ctx
	}
	if addr.Is6() {
		if p, err := addr.Prefix(sourceBitsV6); err == nil {
			addr = p.Addr()
		}
	}
	return link.WithSource(ctx, addr.String())
}

// apiError puts the errors of the parts into the interface's words.
func apiError(err error) error {
	var over *link.OverloadedError
	var busy *region.OverloadedError
	switch {
	case errors.As(err, &over) && over.NoRoom:
		return &api.Unavailable{Reason: over.Reason, RetryAfter: over.RetryAfter, Err: err}
	case errors.As(err, &over):
		return &api.Overloaded{Reason: over.Reason, RetryAfter: over.RetryAfter}
	case errors.As(err, &busy):
		return &api.Overloaded{Reason: busy.Reason(), RetryAfter: busy.RetryAfter}
	case errors.Is(err, link.ErrUnknownOutcome), errors.Is(err, region.ErrUnknownOutcome):
		return &api.Unavailable{Reason: "it is not known whether the proof was committed: send the same envelope again, which is safe and tells", Err: err}
	case errors.Is(err, link.ErrUnavailable), errors.Is(err, region.ErrNotLeader), errors.Is(err, region.ErrNotFounded),
		errors.Is(err, region.ErrClockOff), errors.Is(err, region.ErrClosed), errors.Is(err, region.ErrFailed),
		errors.Is(err, errNoState), errors.Is(err, errNoLeader):
		return &api.Unavailable{Reason: err.Error(), Err: err}
	case errors.Is(err, link.ErrTooLarge):
		return &pci.Reject{Code: pci.RejectSchema, Detail: err.Error()}
	default:
		return err
	}
}

// View implements [api.Backend].
func (b backend) View(ctx context.Context, c api.Consistency) (api.View, error) {
	var least int64
	if c == api.Linearizable {
		var err error
		if least, err = b.n.catchUp(ctx); err != nil {
			return nil, apiError(err)
		}
	}
	v, err := b.n.state.View()
	if err != nil {
		return nil, apiError(err)
	}
	shown, err := newAPIView(v, b.n.home.Identity.Region)
	if err == nil && shown.Entries() < least {
		err = errors.Join(apiError(errNoState), shown.Close())
	}
	if err != nil {
		return nil, err
	}
	shown.witnesses, shown.certifiedState = b.n.witnesses, b.n.state.certified
	return shown, nil
}

// Ready implements [api.Backend].
func (b backend) Ready(context.Context) error {
	if reason := b.n.notReady(); reason != "" {
		return &api.Unavailable{Reason: reason, RetryAfter: time.Second}
	}
	return nil
}

// notReady says what keeps the node from serving, "" if nothing does.
func (n *Node) notReady() string {
	if err := n.Failure(); err != nil {
		return "this node has stopped: " + err.Error()
	}
	r := n.region.Load()
	if r == nil {
		if f := n.follower.Load(); f == nil || !f.Status().Following {
			return "this member does not follow a node of its region yet"
		}
		if n.ledgerSize() == 0 {
			return noLedgerYet
		}
		return ""
	}
	if err := r.Failed(); err != nil {
		return "this voter has stopped: " + err.Error()
	}
	switch {
	case r.Phase() == region.PhaseFounding:
		return "the region is not founded yet: all of its founding voters must have started once"
	case r.LeaderID() == "":
		return "the region has no leader as far as this node knows"
	case n.ledgerSize() == 0:
		return noLedgerYet
	}
	return ""
}

const noLedgerYet = "the ledger has not begun yet"

// ledgerSize is how many entries the ledger has, 0 where that cannot be read.
func (n *Node) ledgerSize() int64 {
	return n.sizeOf(func(v *fsm.View) (int64, error) { return v.Ledger().Size() })
}

// certifiedSize is how many of them a certificate covers, 0 where that cannot be read.
func (n *Node) certifiedSize() int64 { return n.sizeOf((*fsm.View).CertifiedSize) }

func (n *Node) sizeOf(read func(*fsm.View) (int64, error)) int64 {
	v, err := n.state.View()
	if err != nil {
		return 0
	}
	defer func() { _ = v.Close() }() // a view of memory; nothing can be lost
	size, err := read(v)
	if err != nil {
		return 0
	}
	return size
}

// Status implements [api.Backend].
func (b backend) Status(context.Context) (*client.Status, error) { return b.n.Status() }

var errNoLeader = fmt.Errorf("the region has no leader that this node can reach")
