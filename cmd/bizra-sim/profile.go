package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"

	"github.com/bizra/bizra/sim"
)

// profiles are those of a run: of processors over all of it, of memory and goroutines when the last
// phase that has all nodes up begins.
type profiles struct {
	prefix string // "": none
	cpu    *os.File
	taken  bool
	err    error
}

func newProfiles(prefix string) (*profiles, error) {
	p := &profiles{prefix: prefix}
	if prefix == "" {
		return p, nil
	}
	var err error
	if p.cpu, err = os.Create(prefix + "-cpu.pprof"); err != nil { //nolint:gosec // the file that was asked for
		return nil, fmt.Errorf("write profiles: %w", err)
	}
	if err := pprof.StartCPUProfile(p.cpu); err != nil {
		return nil, errors.Join(fmt.Errorf("write profiles: %w", err), p.cpu.Close())
	}
	return p, nil
}

// saw is told of each phase, for the profiles of a moment.
func (p *profiles) saw(phase string) {
	if p.prefix == "" || p.taken || phase != sim.PhaseLive && phase != sim.PhaseAudit && phase != sim.PhaseClose {
		return
	}
	p.taken = true
	runtime.GC()
	p.err = errors.Join(p.moment("heap"), p.moment("goroutine"))
}

func (p *profiles) moment(name string) error {
	f, err := os.Create(p.prefix + "-" + name + ".pprof") //nolint:gosec // the file that was asked for
	if err != nil {
		return fmt.Errorf("write profiles: %w", err)
	}
	return errors.Join(pprof.Lookup(name).WriteTo(f, 0), f.Close())
}

func (p *profiles) close() error {
	if p.cpu == nil {
		return nil
	}
	pprof.StopCPUProfile()
	return errors.Join(p.err, p.cpu.Close())
}
