package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"

	"github.com/bizra/bizra/sim"
)

// profiles are those of a run: of processors in each of its phases, of memory and goroutines when the last
// phase that has all nodes up begins.
type profiles struct {
	prefix string // "": none
	phase  string
	cpu    *os.File // of the phase
	taken  bool
	err    error
}

func newProfiles(prefix string) (*profiles, error) {
	p := &profiles{prefix: prefix}
	if prefix == "" {
		return p, nil
	}
	err := p.begin(sim.PhaseFound)
	return p, err
}

// begin begins the profile of a phase's processors.
func (p *profiles) begin(phase string) (err error) {
	p.phase = phase
	name := p.prefix + "-cpu-" + strings.ReplaceAll(phase, " ", "-") + ".pprof"
	if p.cpu, err = os.Create(name); err != nil { //nolint:gosec // the file that was asked for
		return fmt.Errorf("write profiles: %w", err)
	}
	if err := pprof.StartCPUProfile(p.cpu); err != nil {
		err = errors.Join(fmt.Errorf("write profiles: %w", err), p.cpu.Close())
		p.cpu = nil
		return err
	}
	return nil
}

// end ends the phase's.
func (p *profiles) end() error {
	if p.cpu == nil {
		return nil
	}
	pprof.StopCPUProfile()
	err := p.cpu.Close()
	p.cpu = nil
	return err
}

// saw is told of each phase.
func (p *profiles) saw(phase string) {
	if p.prefix == "" || phase == p.phase {
		return
	}
	p.err = errors.Join(p.err, p.end())
	if !p.taken && (phase == sim.PhaseLive || phase == sim.PhaseAudit || phase == sim.PhaseClose) {
		p.taken = true
		runtime.GC()
		p.err = errors.Join(p.err, p.moment("heap"), p.moment("goroutine"))
	}
	p.err = errors.Join(p.err, p.begin(phase))
}

func (p *profiles) moment(name string) error {
	f, err := os.Create(p.prefix + "-" + name + ".pprof") //nolint:gosec // the file that was asked for
	if err != nil {
		return fmt.Errorf("write profiles: %w", err)
	}
	return errors.Join(pprof.Lookup(name).WriteTo(f, 0), f.Close())
}

func (p *profiles) close() error { return errors.Join(p.err, p.end()) }
