package follow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"
)

// What may go wrong with a stream.
const (
	faultNone = iota
	faultUnreachable
	faultCut   // the stream breaks in the middle of a frame
	faultStall // nothing more comes
	faultFlip  // a bit is wrong in an entry or a seal
	faultKinds
)

// streamFault is what goes wrong with one stream, from its n-th frame on.
type streamFault struct{ kind, frame, at int }

// faulty is a peer whose first streams fail as planned; then it is honest.
type faulty struct {
	t     testing.TB
	inner handler
	mask  byte // bit that this peer flips: two faulty peers never tell the same lie
	plan  []streamFault
	met   *[faultKinds]atomic.Int64
}

func (p *faulty) serve(ctx context.Context, s Stream) error {
	if len(p.plan) == 0 {
		return p.inner(ctx, s)
	}
	f := p.plan[0]
	p.plan = p.plan[1:]
	if f.kind == faultUnreachable {
		p.met[f.kind].Add(1)
		return errors.New("not now")
	}
	n := 0
	return relay(p.inner, func(fr *frame, out io.Writer) bool {
		n++
		if n <= f.frame || f.kind == faultNone {
			return true
		}
		switch f.kind {
		case faultCut:
			b := encoded(p.t, fr)
			_, _ = out.Write(b[:f.at%len(b)])
			_ = out.(Stream).Reset()
		case faultFlip:
			switch fr.Kind {
			case frameEntries:
				e := fr.Entries[f.at%len(fr.Entries)]
				// Not in the log time: that of the founding is signed by nobody, and only the next seal shows that it is another.
				e[f.at%bytes.LastIndex(e, []byte(`"time":`))] ^= p.mask
			case frameSeal:
				fr.Seal.State[f.at%32] ^= p.mask
			default:
				return true
			}
			p.met[f.kind].Add(1)
			return true
		}
		p.met[f.kind].Add(1)
		return false
	})(ctx, s)
}

func drawPlan(t *rapid.T) []streamFault {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) streamFault {
		return streamFault{rapid.IntRange(0, faultKinds-1).Draw(t, "kind"), rapid.IntRange(0, 3).Draw(t, "frame"), rapid.IntRange(0, 100_000).Draw(t, "at")}
	}), 0, 6).Draw(t, "plan")
}

// TestAnyFaultsEndInTheSameLedger follows two peers that fail as drawn and one that is
// honest, while the ledger grows.
func TestAnyFaultsEndInTheSameLedger(t *testing.T) {
	var met [faultKinds]atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		plans := [2][]streamFault{drawPlan(rt), drawPlan(rt)}
		steps := rapid.SliceOfN(rapid.IntRange(0, 40), 1, 6).Draw(rt, "steps")
		var failure error
		synctest.Test(t, func(t *testing.T) { failure = followThrough(t, plans, steps, &met) })
		if failure != nil {
			rt.Fatal(failure)
		}
	})
	for kind := faultUnreachable; kind < faultKinds; kind++ {
		if met[kind].Load() == 0 {
			t.Errorf("fault %d never happened", kind)
		}
	}
}

func followThrough(t *testing.T, plans [2][]streamFault, steps []int, met *[faultKinds]atomic.Int64) error {
	ctx, cancel := context.WithCancel(context.Background())
	n := newMesh(ctx)
	defer n.wg.Wait()
	defer cancel()
	fed := openFed()
	o := newOrigin(t, fed, "a").grow(30).seal()
	for i, plan := range plans {
		p := &faulty{t: t, inner: serves(o.server()), mask: 1 << i, plan: plan, met: met}
		n.add(peer.ID(fmt.Sprint("faulty", i)), p.serve)
	}
	n.add("honest", serves(o.server()))
	r := start(t, fed, n, func(c *Config) { c.VerifySignatures = true })
	defer func() { _ = r.stop() }()
	for _, k := range steps {
		if k%7 == 0 {
			o.grow(1).seal()
		}
		o.grow(k)
		pass(time.Duration(k) * time.Second)
		if err := differs(o, r.replica); err != nil {
			return err
		}
	}
	pass(time.Minute)
	if d := r.diverged.Load(); d != nil {
		return *d
	}
	if r.replica.Size() != o.m.Size() {
		return fmt.Errorf("after a minute the replica has %d entries of %d: %+v", r.replica.Size(), o.m.Size(), r.f.Status())
	}
	return differs(o, r.replica)
}
