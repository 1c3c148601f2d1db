package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/internal/proc"
	"github.com/bizra/bizra/internal/workload"
)

// What the demo does; every other figure is measured.
const (
	regionsCount  = 4
	votersCount   = 3  // of each region
	cliProofs     = 9  // signed and submitted by the command line
	batchSessions = 20 // opened in one request at each voter, then all taken one step on
	loadAgents    = 4  // that submit at the same time while the leader is killed
	loadBefore    = 60 // acknowledged before the kill
	loadAfter     = 80 // and after it
	shownLines    = 3  // of a long output
)

// demo is one run.
type demo struct {
	out     io.Writer
	bizra   string // path of the program
	dir     string // where everything is
	started time.Time
	step    int
	title   string

	regions []string
	all     []*voter // of all regions
	voters  []*voter // of the first region, at which most of it happens
	record  workload.Record
	agent   workload.Agent // template of all agents: key, policy
	found   figures
}

// voter is one home and its running process.
type voter struct {
	name    string
	region  string
	config  proc.Config
	node    *proc.Node
	ready   proc.Ready
	stopped bool // by the demo, for good
}

// figures are what was measured, for the summary.
type figures struct {
	founding    time.Duration
	killed      string        // name of the voter
	killedAt    int           // acknowledgements so far
	underWay    int           // proofs under way then
	again       time.Duration // from the kill to the next acknowledgement
	whileDown   int           // acknowledgements
	caughtUp    time.Duration
	resubmitted int    // proofs that were submitted twice
	inclusion   int    // proofs of inclusion that held
	size        int64  // entries of every voter's ledger at that time
	root        string // and their root
	refusals    []string
	checked     soundness     // of the first home; those of the others are equal
	rechecked   int           // copies of that ledger that other regions re-executed
	attested    time.Duration // of a proof, from its submission on
	certified   int64         // entries of the first region's ledger
	cosigners   []string
	caught      time.Duration // from the lie on, until every voter that was not d's had evidence
	witnesses   int           // these voters
	goneOn      time.Duration // of a proof after the lie, until it was attested
	bundles     int           // checked with every node stopped
}

func (d *demo) run(ctx context.Context) error {
	steps := []struct {
		title string
		do    func(context.Context) error
	}{
		{"Make a federation: four regions with three voters each, their keys and homes", d.makeFederation},
		{"Start the voters: twelve processes, data on disk, all but the first join by that one's multiaddr", d.startVoters},
		{"Register an agent in region a: its operator signs that this key may submit proofs", d.registerAgent},
		{"Sign proofs and submit them on the command line, then submit the same bytes again elsewhere", d.submitByCommand},
		{"Submit proofs in batches, to each of the three voters of region a", d.submitBatches},
		{"Kill the leader of region a with SIGKILL while agents submit, and go on", d.killLeader},
		{"Start the killed voter again: it catches up", d.restartVoter},
		{"Have every voter of region a prove that its own ledger holds every acknowledged proof", d.proveInclusion},
		{"See proofs refused, and why", d.seeRefusals},
		{"Wait until other regions vouch for all of it: committed becomes attested", d.awaitAttested},
		{"Take proofs away as bundles, to be checked by whoever gets them", d.takeBundles},
		{"Region d lies: with the keys of a voter of d, a thief signs another ledger of the same length", d.lie},
		{"The others go on without d's honesty, and d gets no more votes", d.goOn},
		{"Stop every node", d.stopVoters},
		{"Check each home of region a, and what another region made of its ledger, from the disks", d.checkHomes},
		{"Check the bundles with every node stopped, and one that was tampered with", d.verifyBundles},
	}
	d.printf("bizra demo: %s\nEverything happens below %s. To type along: export PATH=%s:$PATH; cd %s\n",
		filepath.Base(d.bizra), d.dir, filepath.Dir(d.bizra), d.dir)
	for i, s := range steps {
		d.step, d.title = i+1, s.title
		d.printf("\n%d. %s  [%s]\n", i+1, s.title, d.sinceStart())
		if err := s.do(ctx); err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
	}
	d.summary()
	return nil
}

func (d *demo) sinceStart() string {
	return fmt.Sprintf("%.1f s", time.Since(d.started).Seconds())
}

func (d *demo) printf(format string, args ...any) { fmt.Fprintf(d.out, format, args...) }

// say prints what came of a step.
func (d *demo) say(format string, args ...any) { d.printf("   "+format+"\n", args...) }

// shows prints the command that a person would type.
func (d *demo) shows(command string) { d.printf("   $ %s\n", command) }

// echo prints the first lines of a command's output.
func (d *demo) echo(text string) {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, l := range lines {
		if i == shownLines && len(lines) > shownLines+1 {
			d.printf("     … %d more lines\n", len(lines)-i)
			return
		}
		d.printf("     %s\n", clip(l))
	}
}

// lineMax is what is shown of a line; receipts are longer.
const lineMax = 200

func clip(line string) string {
	if runes := []rune(line); len(runes) > lineMax {
		return string(runes[:lineMax]) + " …"
	}
	return line
}

// command runs bizra, after it has shown the command; it must exit with the given code.
func (d *demo) command(ctx context.Context, code int, args ...string) (stdout, stderr string, err error) {
	d.shows("bizra " + quoted(args))
	c := exec.CommandContext(ctx, d.bizra, args...) //nolint:gosec // the program that this demo is about
	c.Dir = d.dir
	var out, errOut bytes.Buffer
	c.Stdout, c.Stderr = &out, &errOut
	err = c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return "", "", fmt.Errorf("run bizra: %w", err)
	}
	if got := c.ProcessState.ExitCode(); got != code {
		return "", "", fmt.Errorf("bizra %s: exit code %d, not %d:\n%s%s", quoted(args), got, code, out.String(), errOut.String())
	}
	return out.String(), errOut.String(), nil
}

// quoted writes arguments as a shell takes them.
func quoted(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = a
		if strings.ContainsAny(a, " \"'{}$&;|<>*?()") || a == "" {
			words[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// client speaks HTTP with voters, in the order given.
func (d *demo) client(change func(*client.Config), voters ...*voter) (*client.Client, error) {
	var cfg client.Config
	for _, v := range voters {
		cfg.URLs = append(cfg.URLs, v.ready.HTTP)
	}
	if change != nil {
		change(&cfg)
	}
	return client.New(cfg)
}

// stale asks one voter for what it holds itself, once.
func (d *demo) stale(v *voter) (*client.Client, error) {
	return d.client(func(c *client.Config) { c.Stale, c.RetriesMax = true, -1 }, v)
}

func (d *demo) status(ctx context.Context, v *voter) (*client.Status, error) {
	c, err := d.stale(v)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Status(ctx)
}

// await polls a voter's status until it is as wanted.
func (d *demo) await(ctx context.Context, v *voter, what string, as func(*client.Status) bool) error {
	return proc.Poll(ctx, fmt.Sprintf("wait until %s %s", v.name, what), func(ctx context.Context) error {
		select {
		case <-v.node.Exited():
			return fmt.Errorf("its process has ended: %s", v.node.LogTail(5))
		default:
		}
		s, err := d.status(ctx, v)
		if err == nil && !as(s) {
			err = fmt.Errorf("it says: %s, %d entries", s.Reason, s.Ledger.Size)
		}
		return err
	})
}

// endNodes ends what still runs, after a failure.
func (d *demo) endNodes() {
	for _, v := range d.all {
		if v.node != nil {
			v.node.End()
		}
	}
}
