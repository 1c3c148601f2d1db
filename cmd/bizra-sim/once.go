package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/bizra/bizra/sim"
	"github.com/bizra/bizra/sim/report"
)

// once carries out one run in this process.
func (s *settings) once(cmd *cobra.Command) (*report.Report, error) {
	plan, err := s.planned()
	if err != nil {
		return nil, err
	}
	tune(plan.Config.Nodes)
	bar := newBar(cmd.ErrOrStderr())
	dog := sim.NewWatchdog(s.stall, func(dump []byte) {
		// Nobody can end a bubble in which time stands still, and nothing in it will end by itself.
		fmt.Fprintf(cmd.ErrOrStderr(), "\nbizra-sim: virtual time has stood still for %v of real time; this is what waits:\n%s\n", s.stall, dump)
		os.Exit(exitFailure)
	})
	defer dog.Stop()
	profiles, err := newProfiles(s.profile)
	if err != nil {
		return nil, err
	}
	rep, err := sim.Simulate(cmd.Context(), plan, func(p sim.Progress) {
		dog.Saw(p)
		bar.show(p)
		profiles.saw(p.Phase)
	})
	bar.clear()
	return rep, errors.Join(err, profiles.close())
}

// lineEvery is how often a run tells of itself where that is not a terminal.
const lineEvery = 10 * time.Second

// bar shows how far a run is: on a terminal by a bar, else by a line now and then.
type bar struct {
	bar   *progressbar.ProgressBar // nil: the output is no terminal
	out   io.Writer
	began time.Time
	said  time.Time
}

func newBar(w io.Writer) *bar {
	b := &bar{out: w, began: time.Now(), said: time.Now()}
	f, ok := w.(*os.File)
	if !ok {
		return b
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 || os.Getenv("TERM") == "dumb" {
		return b
	}
	b.bar = progressbar.NewOptions(1, progressbar.OptionSetWriter(f), progressbar.OptionSetPredictTime(false), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetWidth(8), progressbar.OptionSetElapsedTime(false))
	return b
}

func (b *bar) show(p sim.Progress) {
	text := fmt.Sprintf("%-11s %.1fs, %s wall · %d up", p.Phase, p.Virtual.Seconds(), time.Since(b.began).Round(time.Second), p.NodesUp)
	done, all := p.NodesUp, p.Nodes
	if p.Planned > 0 {
		text += fmt.Sprintf(" · %d proofs · %d attested", p.Committed, p.Attested)
		done, all = int(p.Virtual/time.Millisecond), int(p.Planned/time.Millisecond)
	}
	if b.bar == nil {
		if time.Since(b.said) >= lineEvery {
			b.said = time.Now()
			fmt.Fprintln(b.out, text)
		}
		return
	}
	b.bar.Describe(text)
	b.bar.ChangeMax(max(1, all))
	_ = b.bar.Set(min(done, max(1, all)-1)) // a terminal that does not take it is no reason to stop
}

func (b *bar) clear() {
	if b.bar != nil {
		_ = b.bar.Clear()
	}
}
