package region

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"

	"github.com/bizra/bizra/fsm"
)

// followLeadership runs the leader's duties while this node leads.
func (r *Region) followLeadership() {
	stop := func() {}
	defer func() { stop() }()
	changes := r.raft.Load().LeaderCh()
	for {
		select {
		case leading := <-changes:
			stop()
			stop = func() {}
			r.cfg.Hooks.Leading(leading)
			if leading {
				stop = r.startLeading()
			}
		case <-r.closing:
			return
		}
	}
}

// startLeading begins the duties; what it returns ends them and waits.
func (r *Region) startLeading() (stop func()) {
	ctx, cancel := context.WithCancel(r.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.lead(ctx)
	}()
	return func() {
		cancel()
		r.intake.refuse(ErrNotLeader)
		<-done
	}
}

// lead does what only the leader does: it takes proofs in, looks at the clocks, founds and seals the ledger.
func (r *Region) lead(ctx context.Context) {
	defer r.intake.refuse(ErrNotLeader)
	r.intake.hold()
	if err := r.barrier(); err != nil {
		// Leadership is gone again, or so is Raft.
		r.cfg.Logger.Info("did not get to lead", "error", err)
		return
	}
	ready := r.prepare(ctx)
	clocks := time.NewTicker(r.cfg.ClockInterval)
	defer clocks.Stop()
	seals := time.NewTicker(r.cfg.SealInterval)
	defer seals.Stop()
	var handedOver time.Time
	for ctx.Err() == nil {
		if !ready && time.Since(handedOver) > clockHandover {
			handedOver = time.Now()
			r.handOver(ctx)
		}
		select {
		case <-clocks.C:
			ready = r.prepare(ctx)
		case <-seals.C:
			switch {
			case ready && !r.clockSteady():
				r.intake.refuse(ErrClockOff)
				ready = r.prepare(ctx)
			case ready:
				r.seal()
			}
		case <-ctx.Done():
		}
	}
}

// prepare opens the intake if this leader may stamp.
func (r *Region) prepare(ctx context.Context) bool {
	if err := r.checkClock(ctx); err != nil {
		r.cfg.Logger.Error("this leader stamps nothing", "error", err)
		r.intake.refuse(err)
		return false
	}
	if r.replica.size.Load() == 0 {
		r.intake.refuse(ErrNotFounded)
		r.genesis(ctx)
	}
	if ctx.Err() == nil {
		r.intake.open()
	}
	return true
}

// genesis founds the ledger once every founding voter has started. It returns when that is done or ctx has ended.
func (r *Region) genesis(ctx context.Context) {
	retry := time.NewTicker(r.cfg.PhaseInterval)
	defer retry.Stop()
	for r.replica.size.Load() == 0 && ctx.Err() == nil {
		err := r.awaitFounders(ctx, PhaseStarted)
		if err == nil {
			err = r.checkClock(ctx)
		}
		if err == nil {
			_, err = r.commit(fsm.EncodeGenesis(r.cfg.Wall().UnixMilli(), r.cfg.Document))
		}
		if err == nil {
			continue
		}
		r.cfg.Logger.Warn("the region is not founded yet", "error", err)
		select {
		case <-retry.C:
		case <-ctx.Done():
		}
	}
}

// seal proposes a seal if the ledger has grown.
func (r *Region) seal() {
	size := r.replica.size.Load()
	if size == 0 || size == r.sealed.Load() || r.withheld.Load() {
		return
	}
	res, err := r.commit(fsm.EncodeSeal())
	if err != nil && !errors.Is(err, ErrNotLeader) {
		r.cfg.Logger.Warn("the ledger was not sealed", "error", err)
	}
	if err == nil && res.Seal == nil && r.sealed.Load() < size {
		r.withheld.Store(true)
	}
	if err == nil && res.Seal != nil {
		// Raft tells followers what is committed with the next entry, or after CommitTimeout. The seal
		// is signed when they have applied it too, and other regions wait for it: so there is a next entry.
		if err := r.barrier(); err != nil {
			r.cfg.Logger.Debug("the voters hear of a seal later", "error", err)
		}
	}
}

// handOver lets another voter lead, if there is one.
func (r *Region) handOver(ctx context.Context) {
	voters := 0
	for _, s := range r.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	if voters < 2 {
		return
	}
	if err := r.LeadershipTransfer(ctx, ""); err != nil {
		r.cfg.Logger.Warn("leadership was not handed over", "error", err)
	}
}
