package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/proc"
	"github.com/bizra/bizra/internal/workload"
)

const (
	attestTimeout  = 30 * time.Second
	unattestedWait = 3 * time.Second // for what must not become attested
	bundleFile     = "bundle.json"   // of the first proof of all
	laterFile      = "later.json"    // of one that was made after the lie
	tamperedFile   = "tampered.json"
	firstFile      = "checkpoint-d.txt" // what region d signed
	secondFile     = "forged-d.txt"     // what the thief signed with d's key
	answerBytesMax = 1 << 20
)

func (d *demo) awaitAttested(ctx context.Context) error {
	began := time.Now()
	r, err := d.submitAwaiting(ctx, d.voters[0], regionName, "attested-1", attestTimeout, 0)
	if err != nil {
		return err
	}
	d.found.attested = time.Since(began)
	d.say("Its receipt says finality %q, %s after the command was started: it is in a checkpoint that a quorum of the regions signed.",
		r.Finality, seconds(d.found.attested))
	acked := d.record.Acked()
	last := int64(0)
	for _, a := range acked {
		last = max(last, *a.Receipt.Index)
	}
	note, err := d.certified(ctx, d.voters[0], last+1)
	if err != nil {
		return err
	}
	d.found.certified, d.found.cosigners = note.Size, note.cosigners
	d.shows(fmt.Sprintf("curl -s %s/checkpoint", d.voters[0].ready.HTTP))
	d.echo(string(note.text))
	d.say("Checked here by %s: signed by region %s, cosigned by %s, which executed all %d entries themselves.",
		documentFile, regionName, strings.Join(note.cosigners, " and "), note.Size)
	d.say("All %d acknowledged proofs are among them.", len(acked))
	return nil
}

// submitAwaiting has the command line open a session and wait until that is attested.
func (d *demo) submitAwaiting(ctx context.Context, v *voter, region, session string, patience time.Duration, code int) (client.Receipt, error) {
	file := session + ".json"
	step := workload.OpenStep(region, session)
	text, err := json.Marshal(map[string]any{"action": step.Action, "data": step.Data})
	if err != nil {
		return client.Receipt{}, err
	}
	if err := os.WriteFile(filepath.Join(d.dir, file), text, 0o600); err != nil {
		return client.Receipt{}, err
	}
	out, errOut, err := d.command(ctx, code, "submit", "--node", v.ready.HTTP, "--key", agentFile, "--agent-id", agentID,
		"--wait", "attested", "--wait-timeout", patience.String(), file)
	if err != nil {
		return client.Receipt{}, err
	}
	d.echo(out)
	if code != 0 {
		d.echo(errOut)
	}
	list, err := receipts(out)
	if err != nil {
		return client.Receipt{}, err
	}
	if attested := list[0].Finality == client.FinalityAttested; attested != (code == 0) {
		return list[0], fmt.Errorf("exit code %d, and finality %q", code, list[0].Finality)
	}
	return list[0], list[0].Err()
}

// certifiedNote is a certificate that was checked.
type certifiedNote struct {
	*checkpoint.Checkpoint
	text      []byte
	cosigners []string
}

// certified waits until a voter has a certificate of so many entries of its region, and checks it.
func (d *demo) certified(ctx context.Context, v *voter, size int64) (n certifiedNote, err error) {
	text, err := os.ReadFile(filepath.Join(d.dir, documentFile))
	if err != nil {
		return n, err
	}
	doc, err := federation.Parse(text)
	if err != nil {
		return n, err
	}
	ctx, cancel := context.WithTimeout(ctx, attestTimeout)
	defer cancel()
	err = proc.Poll(ctx, fmt.Sprintf("wait for a certificate of %d entries of region %s", size, v.region), func(ctx context.Context) error {
		if n.text, err = fetch(ctx, v.ready.HTTP+"/checkpoint"); err != nil {
			return err
		}
		if n.Checkpoint, n.cosigners, err = certificate.Verify(n.text, doc); err != nil {
			return err
		}
		if n.Region() != v.region || n.Size < size {
			return fmt.Errorf("it is of %s, %d entries", n.Origin, n.Size)
		}
		return nil
	})
	return n, err
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, answerBytesMax))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("get %s: %s: %s", url, answer.Status, text)
	}
	return text, err
}

func (d *demo) takeBundles(ctx context.Context) error {
	digest := d.record.Acked()[0].Envelope.Digest()
	return d.takeBundle(ctx, hex.EncodeToString(digest[:]), bundleFile)
}

func (d *demo) takeBundle(ctx context.Context, digest, file string) error {
	_, said, err := d.command(ctx, 0, "bundle", digest, "--node", d.voters[1].ready.HTTP, "--wait", "--out", file)
	d.echo(said)
	return err
}

// lie has region d sign two ledgers of one length: once as it did, and once by a thief who
// has the disk of one of its voters.
func (d *demo) lie(ctx context.Context) error {
	liars := d.of(liarName)
	speaker, stolen := liars[0], liars[votersCount-1]
	if err := d.enter(ctx, speaker); err != nil {
		return err
	}
	d.shows(fmt.Sprintf("kill -TERM %d   # %s: its disk is stolen", stolen.node.PID(), stolen.name))
	if err := stolen.node.Stop(ctx); err != nil {
		return err
	}
	stolen.stopped = true
	first, err := d.certified(ctx, speaker, 2)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.dir, firstFile), first.text, 0o600); err != nil {
		return err
	}
	d.shows(fmt.Sprintf("curl -s %s/checkpoint > %s", speaker.ready.HTTP, firstFile))
	told := d.of(regionName)[0]
	d.shows("demo lie " + quoted([]string{"--home", stolen.config.Home, "--first", firstFile, "--second", secondFile, "--to", told.ready.Address}))
	began := time.Now()
	var said bytes.Buffer
	err = tellLie(ctx, &said, lieFlags{home: filepath.Join(d.dir, stolen.config.Home), first: filepath.Join(d.dir, firstFile),
		second: filepath.Join(d.dir, secondFile), to: []string{told.ready.Address}})
	if err != nil {
		return err
	}
	d.echo(said.String())
	if err := d.awaitCaught(ctx); err != nil {
		return err
	}
	d.found.caught = time.Since(began)
	d.say("Only %s was told. %s later all %d voters of the other regions hold the evidence: two checkpoints that", told.name, seconds(d.found.caught), d.found.witnesses)
	d.say("region d's key signed and that cannot both be true. Whoever has the federation document can check that.")
	return d.showCaught(ctx)
}

// enter registers the agent in another region and waits until that is attested.
func (d *demo) enter(ctx context.Context, v *voter) error {
	_, _, err := d.command(ctx, 0, "agent", "register", "--node", v.ready.HTTP, "--operator-key", fmt.Sprintf("%s/operators/%s.key", homes, v.region),
		"--id", agentID, "--owner", "acme", "--agent-key", agentFile)
	if err != nil {
		return err
	}
	r, err := d.submitAwaiting(ctx, v, v.region, "honest-1", attestTimeout, 0)
	if err != nil {
		return err
	}
	d.say("So far region %s is honest, and others vouch for its %d entries.", v.region, *r.Index+1)
	return nil
}

// of gives the voters of a region.
func (d *demo) of(region string) []*voter {
	return slices.DeleteFunc(slices.Clone(d.all), func(v *voter) bool { return v.region != region })
}

// awaitCaught waits until every voter of the other regions has evidence against d.
func (d *demo) awaitCaught(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attestTimeout)
	defer cancel()
	for _, v := range d.all {
		if v.region == liarName {
			continue
		}
		err := d.await(ctx, v, "has evidence against "+liarName, func(s *client.Status) bool {
			return slices.ContainsFunc(s.Regions, func(r client.RegionStatus) bool { return r.Region == liarName && r.Evidence })
		})
		if err != nil {
			return err
		}
		d.found.witnesses++
	}
	return nil
}

// showCaught shows where a person finds it.
func (d *demo) showCaught(ctx context.Context) error {
	v := d.of("b")[1]
	out, _, err := d.command(ctx, 0, "status", "--node", v.ready.HTTP)
	if err != nil {
		return err
	}
	if err := d.echoLine(out, "region "+liarName); err != nil {
		return err
	}
	d.shows(fmt.Sprintf("curl -s %s/metrics | grep bizra_attest_evidence", v.ready.HTTP))
	text, err := fetch(ctx, v.ready.HTTP+"/metrics")
	if err != nil {
		return err
	}
	return d.echoLine(string(text), fmt.Sprintf(`bizra_attest_evidence{of=%q,region=%q} 1`, liarName, v.region))
}

// echoLine prints the line of a text that begins as given; there must be one.
func (d *demo) echoLine(text, begins string) error {
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, begins) {
			d.echo(line)
			return nil
		}
	}
	return fmt.Errorf("no line begins with %q:\n%s", begins, text)
}

// goOn shows that a, b and c attest each other as before, and that d commits and is not attested.
func (d *demo) goOn(ctx context.Context) error {
	began := time.Now()
	r, err := d.submitAwaiting(ctx, d.voters[0], regionName, "after-the-lie", attestTimeout, 0)
	if err != nil {
		return err
	}
	d.found.goneOn = time.Since(began)
	d.say("Region %s: attested after %s, as before. Of four regions any three are a quorum.", regionName, seconds(d.found.goneOn))
	if err := d.takeBundle(ctx, r.Digest, laterFile); err != nil {
		return err
	}
	r, err = d.submitAwaiting(ctx, d.of(liarName)[0], liarName, "after-the-lie", unattestedWait, 1)
	if err != nil {
		return err
	}
	d.say("Region %s: %s and no more. Nobody votes for it; what it had certified before the lie stays valid.", liarName, r.Finality)
	return nil
}

// verdict is what `bizra verify --json` prints, as far as it is looked at here.
type verdict struct {
	Valid     bool `json:"valid"`
	Certified struct {
		Origin    string   `json:"origin"`
		Size      int64    `json:"size"`
		Cosigners []string `json:"cosigners"`
	} `json:"certified"`
}

// verifyBundles checks bundles with nothing but the federation document.
func (d *demo) verifyBundles(ctx context.Context) error {
	out, _, err := d.command(ctx, 0, "verify", bundleFile, "--federation", documentFile)
	if err != nil {
		return err
	}
	for _, line := range strings.Split(out, "\n") {
		if strings.HasPrefix(line, "  result") || strings.HasPrefix(line, "valid") || strings.HasSuffix(line, ": holds") {
			d.printf("     %s\n", clip(line))
		}
	}
	if !strings.Contains(out, "\nvalid, ") {
		return errors.New("verify does not say that the bundle is valid")
	}
	out, _, err = d.command(ctx, 0, "verify", laterFile, "--federation", documentFile, "--json")
	if err != nil {
		return err
	}
	var v verdict
	if err := json.Unmarshal([]byte(out), &v); err != nil || !v.Valid {
		return fmt.Errorf("verify says %s: %w", out, err)
	}
	d.found.bundles = 2
	d.say("valid: entry of a ledger of %d entries, signed by %s, cosigned by %s.", v.Certified.Size, v.Certified.Origin, strings.Join(v.Certified.Cosigners, " and "))
	return d.verifyTampered(ctx)
}

// verifyTampered changes one word of what was signed, and has the bundle refused.
func (d *demo) verifyTampered(ctx context.Context) error {
	text, err := os.ReadFile(filepath.Join(d.dir, bundleFile))
	if err != nil {
		return err
	}
	tampered := bytes.ReplaceAll(text, []byte("cli-1"), []byte("cli-9"))
	if bytes.Equal(text, tampered) {
		return errors.New("the bundle is not what the demo takes it for")
	}
	if err := os.WriteFile(filepath.Join(d.dir, tamperedFile), tampered, 0o600); err != nil {
		return err
	}
	d.shows(fmt.Sprintf("sed 's/cli-1/cli-9/g' %s > %s", bundleFile, tamperedFile))
	out, errOut, err := d.command(ctx, refusedExit, "verify", tamperedFile, "--federation", documentFile)
	if err != nil {
		return err
	}
	if !strings.Contains(out, "\nNOT VALID") {
		return fmt.Errorf("verify does not say that the tampered bundle is not valid:\n%s", out)
	}
	d.echo(errOut)
	return nil
}
