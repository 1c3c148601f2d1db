// Command faults tries what a node makes of a failing disk; see package faults. It needs strace.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"time"

	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/internal/faults"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "faults: %v\n", err)
		os.Exit(1)
	}
}

// run is the command; with one of the words victim, migrate and check it is a process that it starts itself.
func run(ctx context.Context, args []string) error {
	what := "all"
	if len(args) > 0 && args[0][0] != '-' {
		what, args = args[0], args[1:]
	}
	f := flag.NewFlagSet("faults", flag.ContinueOnError)
	home := f.String("home", "", "of a node that is started by the command itself")
	kind := f.String("kind", "", "where that node has its Raft log")
	acked := f.String("acked", "", "file of proofs to be found again")
	scratch := f.String("scratch", "", "folder for fsck")
	sample := f.Int("sample", 0, "points to try, drawn from the seed; 0: all")
	seed := f.Uint64("seed", rand.Uint64(), "of the draw") //nolint:gosec // a draw to be repeated
	workers := f.Int("workers", 2, "runs at a time")
	if err := f.Parse(args); err != nil {
		return err
	}
	log, err := region.ParseLogKind(*kind)
	if err != nil {
		return err
	}
	switch what {
	case "victim":
		return faults.Victim(ctx, *home, log, os.Stdout)
	case "migrate":
		_, err := region.MigrateLog(ctx, *home, log, slog.New(slog.DiscardHandler), func(uint64, uint64) {})
		return err
	case "check":
		return check(ctx, *home, *scratch, *acked)
	case "all":
		return try(ctx, *sample, *seed, *workers)
	default:
		return fmt.Errorf("%q is no word of this command", what)
	}
}

func check(ctx context.Context, home, scratch, file string) error {
	b, err := os.ReadFile(file) //nolint:gosec // named by the command itself
	if err != nil {
		return err
	}
	var acked []faults.Acked
	if err := json.Unmarshal(b, &acked); err != nil {
		return err
	}
	return faults.Check(ctx, home, scratch, acked)
}

// hitsMin is the share of runs in which the fault must have taken place: the others took another way through the program.
const hitsMin = 0.6

func try(ctx context.Context, sample int, seed uint64, workers int) error {
	if _, err := exec.LookPath("strace"); err != nil {
		return fmt.Errorf("strace is missing, which lists and injects the faults: install it (Debian, Ubuntu: apt-get install strace)")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bizra-faults-")
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "faults: --seed %d\n", seed)
	began := time.Now()
	r := &faults.Runner{Self: self, Dir: dir, Workers: workers, Out: os.Stderr}
	t, err := r.Run(ctx, sample, rand.New(rand.NewPCG(seed, 0))) //nolint:gosec // a draw to be repeated
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "faults: %d runs of %d points in %v: %d met their fault; %d stopped, %d went on; %d proofs were acknowledged and found again; %d runs failed\n",
		t.Runs, t.PointsInAll, time.Since(began).Round(time.Second), t.Hits, t.Ended, t.WentOn, t.Acked, len(t.Failed))
	switch {
	case len(t.Failed) > 0:
		return fmt.Errorf("%d of %d runs failed", len(t.Failed), t.Runs)
	case t.Runs == 0 || float64(t.Hits) < hitsMin*float64(t.Runs) || t.Acked == 0 || t.Ended == 0:
		return fmt.Errorf("that was too little: nothing was shown")
	}
	return os.RemoveAll(dir)
}
