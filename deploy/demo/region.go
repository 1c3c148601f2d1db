package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/internal/proc"
	"github.com/bizra/bizra/internal/workload"
	"github.com/bizra/bizra/pci"
)

// How long the demo waits for what usually takes a few seconds.
const (
	listenTimeout  = 20 * time.Second
	readyTimeout   = 30 * time.Second
	catchUpTimeout = 30 * time.Second
	stopTimeout    = 30 * time.Second
)

const (
	regionName   = "a" // where most of it happens
	liarName     = "d"
	agentID      = "builder"
	homes        = "federation"
	documentFile = homes + "/federation.json"
	operatorFile = homes + "/operators/" + regionName + ".key"
	agentFile    = "agent.key"
)

func (d *demo) makeFederation(ctx context.Context) error {
	for i := range regionsCount {
		d.regions = append(d.regions, string(rune('a'+i)))
	}
	out, _, err := d.command(ctx, 0, "federation", "new", "--name", "demo", "--regions", strings.Join(d.regions, ","), "--voters", fmt.Sprint(votersCount), "--out", homes)
	if err != nil {
		return err
	}
	d.echo(out)
	for _, region := range d.regions {
		for i := range votersCount {
			name := fmt.Sprintf("%s-%d", region, i+1)
			v := &voter{name: name, region: region, config: proc.Config{Binary: d.bizra, Dir: d.dir,
				Home: filepath.Join(homes, name), Log: filepath.Join(d.dir, name+".log")}}
			d.all = append(d.all, v)
			if region == regionName {
				d.voters = append(d.voters, v)
			}
		}
	}
	return nil
}

func (d *demo) startVoters(ctx context.Context) error {
	from := time.Now()
	for i, v := range d.all {
		if i > 0 {
			v.config.Join = []string{d.all[0].ready.Address}
		}
		if err := d.launch(v, i < startsShown); err != nil {
			return err
		}
		// The first must listen before the others can be told where; the others start at the same time.
		if i == 0 {
			if err := d.listens(ctx, v, true); err != nil {
				return err
			}
		}
	}
	for i, v := range d.all[1:] {
		if err := d.listens(ctx, v, i+1 < startsShown); err != nil {
			return err
		}
	}
	d.say("and so on, for all %d voters.", len(d.all))
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for _, v := range d.all {
		if err := d.await(ctx, v, "can serve", func(s *client.Status) bool { return s.Ready }); err != nil {
			return err
		}
	}
	d.found.founding = time.Since(from)
	d.say("All %d can serve after %s: each region is founded, has elected a leader, and found the others.", len(d.all), seconds(d.found.founding))
	return nil
}

// startsShown is of how many voters the start is shown; the others are alike.
const startsShown = 2

// start starts a voter and waits until it listens.
func (d *demo) start(ctx context.Context, v *voter) error {
	if err := d.launch(v, true); err != nil {
		return err
	}
	return d.listens(ctx, v, true)
}

func (d *demo) launch(v *voter, shown bool) error {
	if shown {
		d.shows(fmt.Sprintf("bizra %s 2>>%s.log &", quoted(v.config.Args()), v.name))
	}
	node, err := proc.Start(v.config)
	v.node = node
	return err
}

func (d *demo) listens(ctx context.Context, v *voter, shown bool) (err error) {
	ctx, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	if v.ready, err = v.node.Ready(ctx); err != nil {
		return err
	}
	if shown {
		d.say("  ready %s %s %s   (process %d)", v.ready.Name, v.ready.Address, v.ready.HTTP, v.node.PID())
	}
	return nil
}

func (d *demo) registerAgent(ctx context.Context) error {
	out, _, err := d.command(ctx, 0, "keygen", "--out", agentFile)
	if err != nil {
		return err
	}
	d.echo(out)
	out, _, err = d.command(ctx, 0, "agent", "register", "--node", d.voters[0].ready.HTTP, "--operator-key", operatorFile,
		"--id", agentID, "--owner", "acme", "--agent-key", agentFile)
	if err != nil {
		return err
	}
	d.echo(out)
	key, err := pci.LoadKey(filepath.Join(d.dir, agentFile))
	if err != nil {
		return err
	}
	c, err := d.client(nil, d.voters...)
	if err != nil {
		return err
	}
	policy, err := c.Policy(ctx)
	if err != nil {
		return err
	}
	d.agent = workload.Agent{Client: c, Signer: client.Signer{Key: key, AgentID: agentID},
		Known: client.Context{PolicyHash: policy.PolicyHash, Region: policy.Region}, Record: &d.record}
	return nil
}

// leader asks the voters, but for one that is down, who leads.
func (d *demo) leader(ctx context.Context, but *voter) (*voter, error) {
	for _, v := range d.voters {
		if v == but {
			continue
		}
		s, err := d.status(ctx, v)
		if err != nil {
			return nil, err
		}
		if s.Raft.State == "leader" {
			return v, nil
		}
	}
	return nil, errors.New("no voter leads")
}

// awaitEqual waits until every voter has as many entries as the one that has most: the
// others learn a moment later that an entry is committed.
func (d *demo) awaitEqual(ctx context.Context) error {
	var most int64
	for _, v := range d.voters {
		s, err := d.status(ctx, v)
		if err != nil {
			return err
		}
		most = max(most, s.Ledger.Size)
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	for _, v := range d.voters {
		if err := d.await(ctx, v, fmt.Sprintf("has %d entries", most), func(s *client.Status) bool { return s.Ledger.Size == most }); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) restartVoter(ctx context.Context) error {
	var size int64
	var down *voter
	for _, v := range d.voters {
		if v.name == d.found.killed {
			down = v
			continue
		}
		s, err := d.status(ctx, v)
		if err != nil {
			return err
		}
		size = max(size, s.Ledger.Size)
	}
	from := time.Now()
	// Where the others know it, and told of one that is up: the first of all may be the one that was killed.
	down.config.Listen = listenOf(down.ready)
	for _, v := range d.voters {
		if v != down {
			down.config.Join = []string{v.ready.Address}
		}
	}
	if err := d.start(ctx, down); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	if err := d.await(ctx, down, "has caught up", func(s *client.Status) bool { return s.Ready && s.Ledger.Size >= size }); err != nil {
		return err
	}
	d.found.caughtUp = time.Since(from)
	d.say("%s has all %d entries again %s after it was started.", down.name, size, seconds(d.found.caughtUp))
	return nil
}

func (d *demo) stopVoters(ctx context.Context) error {
	if err := d.awaitEqual(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if err := d.awaitCopied(ctx, d.copier()); err != nil {
		return err
	}
	var pids []string
	var ends sync.WaitGroup
	faults := make([]error, len(d.all))
	for i, v := range d.all {
		if v.stopped {
			continue
		}
		pids = append(pids, fmt.Sprint(v.node.PID()))
		ends.Go(func() { faults[i] = v.node.Stop(ctx) })
	}
	d.shows("kill -TERM " + strings.Join(pids, " "))
	ends.Wait()
	if err := errors.Join(faults...); err != nil {
		return err
	}
	d.say("All of them finished what was under way and exited with code 0. Nothing runs any more.")
	return nil
}

// soundness is what `bizra fsck --json` prints.
type soundness struct {
	Home     string `json:"home"`
	Entries  int64  `json:"entries"`
	Sessions int64  `json:"sessions"`
	Agents   int64  `json:"agents"`
	Root     string `json:"root"`
	State    string `json:"state"`
}

func (d *demo) checkHomes(ctx context.Context) error {
	for _, v := range d.voters {
		s, err := d.fsck(ctx, "--home", v.config.Home)
		if err != nil {
			return err
		}
		d.say("%s is sound: %d entries re-executed, %d sessions; root %s…, state %s…", v.name, s.Entries, s.Sessions, s.Root[:16], s.State[:16])
		if first := d.found.checked; first.Home == "" {
			d.found.checked = s
		} else if s.Entries != first.Entries || s.Root != first.Root || s.State != first.State {
			return fmt.Errorf("%s and %s differ: %+v and %+v", first.Home, s.Home, first, s)
		}
	}
	v := d.copier()
	s, err := d.fsck(ctx, "--home", v.config.Home, "--copy", regionName)
	if err != nil {
		return err
	}
	if s.Root != d.found.checked.Root {
		return fmt.Errorf("the copy in %s has root %s for %d entries, %s has %s for %d", v.name, s.Root, s.Entries, d.voters[0].name, d.found.checked.Root, d.found.checked.Entries)
	}
	d.found.rechecked++
	d.say("The copy of it that %s of region %s had re-executed, without trusting it, has the same root.", v.name, v.region)
	return nil
}

// copier is a voter of another region, which keeps a copy of the first region's ledger.
func (d *demo) copier() *voter { return d.all[votersCount] }

// awaitCopied waits until a voter of another region has executed all that the first region has.
func (d *demo) awaitCopied(ctx context.Context, v *voter) error {
	own, err := d.status(ctx, d.voters[0])
	if err != nil {
		return err
	}
	return d.await(ctx, v, "has executed all of region "+regionName, func(s *client.Status) bool {
		return slices.ContainsFunc(s.Regions, func(r client.RegionStatus) bool { return r.Region == regionName && r.Size == own.Ledger.Size })
	})
}

func (d *demo) fsck(ctx context.Context, args ...string) (soundness, error) {
	var s soundness
	out, _, err := d.command(ctx, 0, append([]string{"fsck", "--json"}, args...)...)
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	if err != nil {
		return s, fmt.Errorf("check a home: %w", err)
	}
	return s, nil
}
