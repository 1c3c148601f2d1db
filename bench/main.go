package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == memberCommand {
		beMember(os.Args[1:])
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := compare(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	bizra  string // program
	dir    string // where both keep what they have
	rounds int
	only   string
	idle   time.Duration
	json   string // file
	flags  string // of every voter
	etcd   bool
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.bizra, "bizra", "../bin/bizra", "the bizra `program`")
	f.StringVar(&o.dir, "dir", "", "`folder` on the disk to measure, in which homes are made and removed again; default: beside the program")
	f.IntVar(&o.rounds, "rounds", 5, "rounds that count; one before them does not")
	f.StringVar(&o.only, "only", "", "only loads whose name contains this `text`")
	f.DurationVar(&o.idle, "idle", 20*time.Second, "how long the voters do nothing before their memory is read")
	f.StringVar(&o.json, "json", "", "`file` for everything that was measured, as JSON")
	f.StringVar(&o.flags, "flags", "", "further flags of every `bizra node`; {voter} stands for its number")
	f.BoolVar(&o.etcd, "etcd", true, "measure etcd too")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 || o.rounds < 0 || o.idle < 0 {
		return o, fmt.Errorf("arguments %q, rounds %d, idle %v: none, and 0 or more of both; -h lists the flags", f.Args(), o.rounds, o.idle)
	}
	if o.dir == "" {
		o.dir = filepath.Dir(o.bizra)
	}
	return o, nil
}

// compare founds both, measures them in turns and writes what came out.
func compare(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "bench-")
	if err != nil {
		return fmt.Errorf("make a folder for the homes: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{options: o, log: stderr}
	defer b.close()
	if err := b.found(ctx, dir); err != nil {
		return err
	}
	if b.report.IdleBytes, err = b.region.idle(ctx, o.idle); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "an idle voter takes %s of memory\n", mebibytes(b.report.IdleBytes))
	if err := b.measure(ctx); err != nil {
		return err
	}
	b.report.finish()
	if err := b.report.table(stdout); err != nil || o.json == "" {
		return err
	}
	return b.report.write(o.json)
}

// bench is one run.
type bench struct {
	options options
	log     io.Writer
	region  *region
	etcd    *etcd // nil if it is not measured
	report  report
}

func (b *bench) found(ctx context.Context, dir string) (err error) {
	regionDir, etcdDir := filepath.Join(dir, "bizra"), filepath.Join(dir, "etcd")
	if err := os.Mkdir(etcdDir, 0o700); err != nil {
		return fmt.Errorf("make etcd's folder: %w", err)
	}
	if b.region, err = startRegion(ctx, b.options.bizra, regionDir, strings.Fields(b.options.flags)); err != nil {
		return err
	}
	if !b.options.etcd {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	b.etcd, err = startEtcd(ctx, self, etcdDir)
	return err
}

// measure runs the rounds. Who goes first alternates.
func (b *bench) measure(ctx context.Context) error {
	b.report.describe(b.options)
	for _, l := range loads() {
		if strings.Contains(l.Name, b.options.only) {
			b.report.Loads = append(b.report.Loads, &compared{load: l})
		}
	}
	for round := range b.options.rounds + 1 {
		for _, c := range b.report.Loads {
			turns := []turn{{"etcd", b.etcdRound, &c.Etcd}, {"bizra", b.regionRound, &c.Bizra}}
			if round%2 == 1 {
				turns[0], turns[1] = turns[1], turns[0]
			}
			for _, t := range turns {
				if err := b.take(ctx, t, c.load, round); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// turn is one of the two in one round.
type turn struct {
	name    string
	measure func(ctx context.Context, l load, round int) (measured, error)
	into    *series
}

func (b *bench) take(ctx context.Context, t turn, l load, round int) error {
	if t.name == "etcd" && b.etcd == nil {
		return nil
	}
	m, err := t.measure(ctx, l, round)
	if err != nil {
		return fmt.Errorf("%s, round %d: %w", t.name, round, err)
	}
	fmt.Fprintf(b.log, "round %d  %-26s %-6s %9.0f/s  p50 %8.2f ms  p99 %8.2f ms  cpu %6.1f us of servers, %5.1f of clients\n",
		round, l.Name, t.name, m.Rate, m.P50, m.P99, m.ServerMicros, m.ClientMicros)
	if round > 0 {
		t.into.Rounds = append(t.into.Rounds, m)
	}
	return nil
}

func (b *bench) etcdRound(ctx context.Context, l load, round int) (measured, error) {
	servers := make([]int, len(b.etcd.members))
	for i, m := range b.etcd.members {
		servers[i] = m.Process.Pid
	}
	return timed(ctx, l, servers, b.etcd.ask(l, round), b.etcd.settle)
}

func (b *bench) regionRound(ctx context.Context, l load, round int) (measured, error) {
	ask, err := b.region.ask(ctx, l, round)
	if err != nil {
		return measured{}, err
	}
	servers := make([]int, len(b.region.voters))
	for i, v := range b.region.voters {
		servers[i] = v.PID()
	}
	return timed(ctx, l, servers, ask, b.region.settle)
}

func (b *bench) close() {
	if b.region != nil {
		b.region.close()
	}
	if b.etcd != nil {
		b.etcd.close()
	}
}
