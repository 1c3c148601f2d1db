package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/internal/proc"
	"github.com/bizra/bizra/internal/workload"
	"github.com/bizra/bizra/pci"
)

const loadTimeout = 40 * time.Second

// submitByCommand signs payloads into a file, submits the file, and submits it again to
// another voter: what was decided is answered again.
func (d *demo) submitByCommand(ctx context.Context) error {
	var payloads strings.Builder
	for i := range cliProofs {
		fmt.Fprintf(&payloads, `{"action":"session.open","data":{"session":"cli-%d"}}`+"\n", i+1)
	}
	if err := os.WriteFile(filepath.Join(d.dir, "payloads.ndjson"), []byte(payloads.String()), 0o600); err != nil {
		return err
	}
	d.shows("head -1 payloads.ndjson")
	d.echo(strings.SplitN(payloads.String(), "\n", 2)[0])
	signed, _, err := d.command(ctx, 0, "submit", "--node", d.voters[0].ready.HTTP, "--key", agentFile, "--agent-id", agentID, "--sign-only", "payloads.ndjson")
	if err != nil {
		return err
	}
	d.say("> signed.ndjson   (%d envelopes; nothing is submitted yet)", strings.Count(signed, "\n"))
	if err := os.WriteFile(filepath.Join(d.dir, "signed.ndjson"), []byte(signed), 0o600); err != nil {
		return err
	}
	sent := time.Now()
	first, _, err := d.command(ctx, 0, "submit", "--node", d.voters[1].ready.HTTP, "signed.ndjson")
	if err != nil {
		return err
	}
	d.echo(first)
	again, _, err := d.command(ctx, 0, "submit", "--node", d.voters[2].ready.HTTP, "signed.ndjson")
	if err != nil {
		return err
	}
	if d.found.resubmitted, err = sameReceipts(first, again); err != nil {
		return err
	}
	d.say("The same bytes again, to another voter: the same %d receipts, marked \"repeated\". Nothing was done twice.", d.found.resubmitted)
	return d.remember(signed, first, sent)
}

// sameReceipts says how many receipts both outputs hold; they may differ in nothing but "repeated".
func sameReceipts(first, again string) (int, error) {
	a, err := receipts(first)
	if err != nil {
		return 0, err
	}
	b, err := receipts(again)
	if err != nil {
		return 0, err
	}
	for i := range a {
		if i >= len(b) || a[i].Repeated || !b[i].Repeated {
			return 0, fmt.Errorf("receipt %d of the second submission is not marked as repeated", i+1)
		}
		b[i].Repeated = false
		x, errx := json.Marshal(a[i])
		y, erry := json.Marshal(b[i])
		if err := errors.Join(errx, erry); err != nil {
			return 0, err
		}
		if !bytes.Equal(x, y) {
			return 0, fmt.Errorf("receipt %d differs:\n%s\n%s", i+1, x, y)
		}
	}
	return len(a), nil
}

func receipts(output string) ([]client.Receipt, error) {
	var list []client.Receipt
	for _, line := range strings.Split(strings.TrimSpace(output), "\n") {
		var r client.Receipt
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return nil, fmt.Errorf("receipt %q: %w", line, err)
		}
		list = append(list, r)
	}
	return list, nil
}

// remember takes what the command line submitted into the record.
func (d *demo) remember(signed, output string, sent time.Time) error {
	list, err := receipts(output)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(signed), "\n")
	if len(list) != len(lines) {
		return fmt.Errorf("%d receipts for %d proofs", len(list), len(lines))
	}
	for i, r := range list {
		env, err := pci.Decode([]byte(lines[i]))
		if err != nil {
			return err
		}
		if err := r.Err(); err != nil {
			return err
		}
		d.record.Add(workload.Acked{Envelope: env, Receipt: r, Sent: sent, At: time.Now()})
	}
	return nil
}

func (d *demo) submitBatches(ctx context.Context) error {
	from := d.record.Len()
	for i, v := range d.voters {
		c, err := d.client(nil, v)
		if err != nil {
			return err
		}
		a := d.agent
		a.Client = c
		ids := make([]string, batchSessions)
		for k := range ids {
			ids[k] = fmt.Sprintf("batch-%d-%d", i+1, k+1)
		}
		began, before := time.Now(), d.record.Len()
		walks, err := a.OpenAll(ctx, ids)
		if err == nil {
			err = workload.StepAll(ctx, walks)
		}
		took := time.Since(began)
		c.Close()
		if err != nil {
			return err
		}
		file := fmt.Sprintf("batch-%d.ndjson", i+1)
		if err := d.writeSigned(file, d.record.Acked()[before:]); err != nil {
			return err
		}
		d.shows(fmt.Sprintf("curl -H 'Content-Type: %s' --data-binary @%s %s/v1/proofs", client.MediaNDJSON, file, v.ready.HTTP))
		d.say("%s: %d sessions opened and then taken one step on, %d proofs in 2 requests, %s (here with the Go SDK)",
			v.name, batchSessions, 2*batchSessions, seconds(took))
	}
	d.say("%d proofs acknowledged.", d.record.Len()-from)
	return nil
}

// writeSigned keeps signed envelopes in a file, one a line.
func (d *demo) writeSigned(file string, acked []workload.Acked) error {
	var lines bytes.Buffer
	for _, a := range acked {
		lines.Write(a.Envelope.Canonical())
		lines.WriteByte('\n')
	}
	return os.WriteFile(filepath.Join(d.dir, file), lines.Bytes(), 0o600)
}

// killLeader runs agents, kills the leader when enough was acknowledged, and lets them
// go on until as much again was.
func (d *demo) killLeader(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	leader, err := d.leader(ctx, nil)
	if err != nil {
		return err
	}
	if err := d.writeStep(); err != nil {
		return err
	}
	d.say("%d agents submit one proof after the other, each to any voter that answers, as this loop would:", loadAgents)
	d.shows(fmt.Sprintf(`for to in active computing validated committed; do sed "s/TO/$to/" step.json | bizra submit --node %s --key %s --agent-id %s; done`,
		strings.Join(urls(d.voters), ","), agentFile, agentID))
	enough := make(chan struct{})
	var agents sync.WaitGroup
	faults := make(chan error, loadAgents)
	for i := range loadAgents {
		agents.Go(func() { faults <- d.work(ctx, i, enough) })
	}
	err = d.killAmong(ctx, leader, d.record.Len(), faults)
	if err != nil {
		cancel()
	}
	close(enough) // each agent still gets the receipt that it waits for
	agents.Wait()
	close(faults)
	for fault := range faults {
		err = errors.Join(err, fault)
	}
	return err
}

// writeStep writes the step that the loop would take, with TO where the state stands.
func (d *demo) writeStep() error {
	step := workload.TransitionStep("load-1", "TO", "", "one more")
	text, err := json.Marshal(map[string]any{"action": step.Action, "data": step.Data})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.dir, "step.json"), text, 0o600)
}

func urls(voters []*voter) []string {
	list := make([]string, len(voters))
	for i, v := range voters {
		list[i] = v.ready.HTTP
	}
	return list
}

// work leads one session round and round until it is enough.
func (d *demo) work(ctx context.Context, number int, enough <-chan struct{}) error {
	// Each begins with another voter, so that all of them take proofs in.
	order := append(append([]*voter(nil), d.voters[number%votersCount:]...), d.voters[:number%votersCount]...)
	c, err := d.client(nil, order...)
	if err != nil {
		return err
	}
	defer c.Close()
	a := d.agent
	a.Client = c
	w, err := a.Open(ctx, fmt.Sprintf("load-%d", number+1))
	for err == nil {
		select {
		case <-enough:
			return nil
		default:
			_, err = w.Step(ctx)
		}
	}
	return err
}

// killAmong kills the leader among the agents' work and watches what comes after.
func (d *demo) killAmong(ctx context.Context, leader *voter, start int, faults <-chan error) error {
	if err := d.reach(ctx, start+loadBefore, faults); err != nil {
		return err
	}
	// A proof must be on its way at that moment, or the kill would show little.
	if err := proc.Poll(ctx, "wait for a proof under way", func(context.Context) error {
		if d.record.UnderWay() == 0 {
			return errors.New("none")
		}
		return nil
	}); err != nil {
		return err
	}
	d.shows(fmt.Sprintf("kill -9 %d", leader.node.PID()))
	d.found.killed, d.found.underWay = leader.name, d.record.UnderWay()
	killed := time.Now()
	if err := leader.node.Kill(); err != nil {
		return err
	}
	d.found.killedAt = d.record.Len()
	d.say("%s, the leader, is gone, with %d proofs acknowledged so far and %d on their way.", leader.name, d.found.killedAt, d.found.underWay)
	if err := d.probe(ctx, leader, killed); err != nil {
		return err
	}
	if err := d.reach(ctx, d.found.killedAt+loadAfter, faults); err != nil {
		return err
	}
	d.found.whileDown = d.record.Len() - d.found.killedAt
	now, err := d.leader(ctx, leader)
	if err != nil {
		return err
	}
	d.say("%s leads now. The agents went on; %d more proofs are acknowledged while %s is down.", now.name, d.found.whileDown, leader.name)
	return nil
}

// reach waits until so many proofs are acknowledged, or an agent gives up.
func (d *demo) reach(ctx context.Context, count int, faults <-chan error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	return proc.Poll(ctx, fmt.Sprintf("wait for %d acknowledgements", count), func(context.Context) error {
		select {
		case fault := <-faults:
			cancel(fault) // agents end only when something is wrong
		default:
		}
		if got := d.record.Len(); got < count {
			return fmt.Errorf("%d so far", got)
		}
		return nil
	})
}

// probe submits a proof of its own from the moment of the kill on: when it is
// acknowledged the region is back.
func (d *demo) probe(ctx context.Context, leader *voter, killed time.Time) error {
	var alive []*voter
	for _, v := range d.voters {
		if v != leader {
			alive = append(alive, v)
		}
	}
	c, err := d.client(nil, alive...)
	if err != nil {
		return err
	}
	defer c.Close()
	a := d.agent
	a.Client = c
	if _, err := a.Submit(ctx, workload.OpenStep(regionName, "probe")); err != nil {
		return err
	}
	first, ok := d.record.FirstSentAfter(killed)
	if !ok {
		return errors.New("the acknowledgement after the kill was not recorded")
	}
	d.found.again = first.At.Sub(killed)
	d.say("%s after the kill the region acknowledges a proof that was sent after it (entry %d).", seconds(d.found.again), *first.Receipt.Index)
	return nil
}

func (d *demo) proveInclusion(ctx context.Context) error {
	acked := d.record.Acked()
	last := acked[len(acked)-1].Envelope.Digest()
	d.shows(fmt.Sprintf("curl '%s/v1/proofs/%s/inclusion?consistency=stale'", d.voters[0].ready.HTTP, hex.EncodeToString(last[:])))
	d.say("and so on: %d digests at each of %d voters.", len(acked), votersCount)
	if err := d.awaitEqual(ctx); err != nil {
		return err
	}
	roots := map[int64]string{}
	for _, v := range d.voters {
		c, err := d.stale(v)
		if err != nil {
			return err
		}
		in, err := workload.CheckIncluded(ctx, c, acked)
		c.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		for size, root := range in.Roots {
			if other, known := roots[size]; known && other != root {
				return fmt.Errorf("%s has root %s for %d entries, another voter %s", v.name, root, size, other)
			}
			roots[size] = root
		}
		if d.found.size != 0 && in.Size != d.found.size {
			return fmt.Errorf("%s has %d entries, another voter %d, although nothing was submitted in between", v.name, in.Size, d.found.size)
		}
		d.found.size, d.found.root = in.Size, in.Roots[in.Size]
		d.found.inclusion += in.Proofs
		d.say("%s: %d of %d proofs included; checked here against its root of %d entries, %s…", v.name, in.Proofs, len(acked), in.Size, d.found.root[:16])
	}
	d.say("Each check makes the entry anew from the envelope that was signed here and the receipt that came back,")
	d.say("hashes it, and follows the path to the root. The three roots of %d entries are equal.", d.found.size)
	return nil
}

func (d *demo) seeRefusals(ctx context.Context) error {
	low := `{"action":"session.open","data":{"session":"careless"}}`
	if err := os.WriteFile(filepath.Join(d.dir, "low.json"), []byte(low), 0o600); err != nil {
		return err
	}
	if err := d.refused(ctx, pci.RejectIhsanBelowMin, "submit", "--node", d.voters[0].ready.HTTP, "--key", agentFile, "--agent-id", agentID, "--ihsan", "0.5", "low.json"); err != nil {
		return err
	}
	// A step that does not say what it is for: the refusal names what is missing.
	if err := os.WriteFile(filepath.Join(d.dir, "bare.json"), []byte(`{"action":"session.transition","data":{"session":"cli-1","to":"active"}}`), 0o600); err != nil {
		return err
	}
	if err := d.refused(ctx, pci.RejectFateViolation, "submit", "--node", d.voters[0].ready.HTTP, "--key", agentFile, "--agent-id", agentID, "bare.json"); err != nil {
		return err
	}
	// One digit of what was signed, changed on its way.
	acked := d.record.Acked()
	forged := bytes.Replace(acked[0].Envelope.Canonical(), []byte(`"session":"cli-1"`), []byte(`"session":"cli-7"`), 1)
	if bytes.Equal(forged, acked[0].Envelope.Canonical()) {
		return errors.New("the first proof is not what the demo takes it for")
	}
	if err := os.WriteFile(filepath.Join(d.dir, "forged.json"), forged, 0o600); err != nil {
		return err
	}
	d.shows(`head -1 signed.ndjson | sed 's/"session":"cli-1"/"session":"cli-7"/' > forged.json`)
	return d.refused(ctx, pci.RejectSignature, "submit", "--node", d.voters[1].ready.HTTP, "forged.json")
}

// refusedExit is bizra's exit code where a gate refused a proof.
const refusedExit = 3

func (d *demo) refused(ctx context.Context, code pci.Code, args ...string) error {
	_, stderr, err := d.command(ctx, refusedExit, args...)
	if err != nil {
		return err
	}
	d.echo(stderr)
	if !strings.Contains(stderr, code.String()) {
		return fmt.Errorf("it was refused, but not with %v: %s", code, stderr)
	}
	d.found.refusals = append(d.found.refusals, code.String())
	return nil
}
