package sim

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Limits and defaults of a plan.
const (
	certificatesDefault = 20
	CertificatesMax     = 10_000
	proofRateDefault    = 100 // a virtual second, in all
	ProofRateMax        = 100_000
	durationMax         = 60 * time.Second // where nothing is said
	DurationMax         = 24 * time.Hour
	settleDefault       = 15 * time.Second
	livenessDefault     = time.Minute
	FaultsMax           = 1000
)

// Plan is a run: a federation, what it is given to do, and what goes wrong meanwhile. Equal
// plans run alike but for the order in which goroutines of one moment run.
type Plan struct {
	Name   string // of the scenario
	Config Config
	// Placement is where the regions are; by the seed. It is not used where Config.Latency is set.
	Placement *Placement
	Work      Workload
	Faults    []Planned
	Expect    Expect

	// Settle is how long nodes have to found their regions and to connect before the workload begins; 15 s.
	Settle time.Duration
	// Liveness is how long after healing everything committed has to be attested and known to
	// every node; 1 min.
	Liveness time.Duration
}

// Workload is what agents do. Regions take turns: one is given proofs for Duration / Certificates,
// seals then, and the next one is given some.
type Workload struct {
	Certificates int           // 20; so many regions have work, all if there are fewer
	Rate         int           // proofs a virtual second, in all; 100
	Duration     time.Duration // a second for each certificate, a minute at most
	Markets      bool          // regions have markets, and owners trade
}

// Planned is a fault at its time after the workload began. One without Until goes on until all is
// healed, when the workload ends.
type Planned struct {
	From, Until time.Duration
	Fault       Fault
}

// Expect is what a run is to find, beside promises that hold.
type Expect struct {
	Broken string // the invariant that must be found broken
	Stall  bool   // that what was committed is not attested while the faults last
}

// placed puts the regions of a plan somewhere.
func (p Plan) placed() (Plan, error) {
	if p.Config.Latency != nil {
		p.Placement = nil
		return p, nil
	}
	if p.Placement == nil {
		var err error
		if p.Placement, err = NewPlacement(p.Config.withDefaults().Regions, p.Config.Seed); err != nil {
			return p, err
		}
	}
	p.Config.Latency = p.Placement.OneWay
	return p, nil
}

// withDefaults fills in what a plan leaves open.
func (p Plan) withDefaults() Plan {
	p.Config = p.Config.withDefaults()
	w := &p.Work
	w.Certificates, w.Rate = cmp.Or(w.Certificates, certificatesDefault), cmp.Or(w.Rate, proofRateDefault)
	w.Duration = cmp.Or(w.Duration, min(durationMax, time.Duration(w.Certificates)*time.Second))
	p.Settle, p.Liveness = cmp.Or(p.Settle, settleDefault), cmp.Or(p.Liveness, livenessDefault)
	p.Name = cmp.Or(p.Name, "calm")
	return p
}

func (p Plan) validate() error {
	w := p.Work
	switch {
	case w.Certificates < 1 || w.Certificates > CertificatesMax:
		return fmt.Errorf("sim: Work.Certificates is %d: from 1 to %d", w.Certificates, CertificatesMax)
	case w.Rate < 1 || w.Rate > ProofRateMax:
		return fmt.Errorf("sim: Work.Rate is %d proofs a second: from 1 to %d", w.Rate, ProofRateMax)
	case w.Duration < 0 || w.Duration > DurationMax:
		return fmt.Errorf("sim: Work.Duration is %v: up to %v", w.Duration, DurationMax)
	case p.Settle < 0 || p.Liveness < 0:
		return errors.New("sim: Settle and Liveness must not be negative")
	case len(p.Faults) > FaultsMax:
		return fmt.Errorf("sim: %d faults: %d at most", len(p.Faults), FaultsMax)
	}
	for _, f := range p.Faults {
		if f.From < 0 || f.From > w.Duration || f.Until != 0 && f.Until < f.From {
			return fmt.Errorf("sim: fault %s: from %v until %v: it must begin within the %v of the workload, and end after that", f.Fault.Name(), f.From, f.Until, w.Duration)
		}
	}
	return nil
}

// turn is how long one region is given proofs at a time.
func (p Plan) turn() time.Duration { return p.Work.Duration / time.Duration(p.Work.Certificates) }

// workers is how many regions have work.
func (p Plan) workers() int { return min(p.Work.Certificates, p.Config.Regions) }

// sealEvery is how often a region seals. In a calm run it is so that each does once its turn is over:
// a leader counts from when it came to lead, which is before the nodes have settled; and a region
// without work seals nothing in the run, its genesis neither. Where things go wrong leaders change,
// and each would count anew: there all seal alike.
func (p Plan) sealEvery(region int) time.Duration {
	switch {
	case p.Config.Raft.SealInterval != 0:
		return p.Config.Raft.SealInterval
	case len(p.Faults) > 0:
		return max(time.Second, p.turn())
	case region >= p.workers():
		return 2 * (p.Settle + p.Work.Duration + p.Liveness)
	case p.Work.Certificates > p.Config.Regions:
		return p.turn() * time.Duration(p.Config.Regions)
	}
	return p.Settle + time.Duration(region+1)*p.turn()
}
