package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/liar"
	"github.com/bizra/bizra/internal/proctest"
	"github.com/bizra/bizra/internal/workload"
)

// unattestedFor is how long what must not be attested is watched.
const unattestedFor = 3 * time.Second

// It runs beside no other test, for the sake of small machines. Four regions of real processes: what one commits the others attest; a bundle is checked with every
// node stopped; a region that signs two ledgers is found out by all, gets no votes any more, and its
// own votes still count where another region is down.
func TestFederationAttests(t *testing.T) {
	f := proctest.FoundFederation(t, proctest.Options{Binary: built.bizra, Name: "fed"}, "a", "b", "c", "d")
	a, c, d := f[0], f[2], f[3]
	doc := readDocument(t, a.Document)
	var record workload.Record
	agent := a.Agent("planner", &record, a.Voters...)
	walks, err := agent.OpenAll(t.Context(), []string{"s-1", "s-2", "s-3", "s-4", "s-5"})
	if err != nil {
		t.Fatal(err)
	}
	if err := workload.StepAll(t.Context(), walks); err != nil {
		t.Fatal(err)
	}
	receipt := submitAttested(t, a, "planner", "trip-1")
	_, cosigners := certified(t, a.Voters[1], doc, *receipt.Index+1)
	t.Logf("%d entries, cosigned by %v", *receipt.Index+1, cosigners)
	bundle := filepath.Join(a.Dir, "bundle.json")
	a.MustBizra("bundle", record.Acked()[1].Receipt.Digest, "--node", a.Voters[2].Ready.HTTP, "--wait", "--out", bundle)

	speaker := d.Voters[0]
	honest := d.Agent("driver", &record, speaker)
	awaitFinality(t, honest, workload.OpenStep("d", "honest"), proctest.Patience, nil)
	for _, r := range f {
		for _, v := range r.Voters {
			if inEvidence(t, v, "d") {
				t.Fatalf("%s has evidence against d before d lied", v.Name)
			}
		}
	}
	equivocate(t, d.Voters[2], speaker, a.Voters[0])
	for _, r := range f[:3] {
		for _, v := range r.Voters {
			proctest.Await(t, "wait until "+v.Name+" has evidence against d", func(context.Context) error {
				if !inEvidence(t, v, "d") {
					return errors.New("it has none")
				}
				return nil
			})
		}
	}
	awaitFinality(t, honest, workload.OpenStep("d", "too-late"), unattestedFor, client.ErrNotYet)

	// Without c, a certificate of a needs b and the liar.
	for _, v := range c.Voters {
		v.Stop()
	}
	receipt = submitAttested(t, a, "planner", "trip-2")
	if _, cosigners = certified(t, a.Voters[0], doc, *receipt.Index+1); !slices.Equal(cosigners, []string{"b", "d"}) {
		t.Errorf("with c down, cosigned by %v", cosigners)
	}
	later := filepath.Join(a.Dir, "later.json")
	a.MustBizra("bundle", receipt.Digest, "--node", a.Voters[2].Ready.HTTP, "--wait", "--out", later)

	for _, r := range f {
		for _, v := range r.Voters {
			if v.Running() {
				v.Stop()
			}
		}
	}
	for _, file := range []string{bundle, later} {
		if out := a.MustBizra("verify", file, "--federation", a.Document); !strings.Contains(out, "\nvalid, by federation document fed") {
			t.Errorf("verify says:\n%s", out)
		}
	}
	verifyTampered(t, a, bundle)
}

// submitAttested submits on the command line, which waits until the proof is attested.
func submitAttested(t *testing.T, r *proctest.Region, agent, session string) client.Receipt {
	t.Helper()
	payload := fmt.Sprintf(`{"action":"session.open","data":{"session":%q}}`, session)
	out, errOut, code := proctest.Run(t, payload, built.bizra, "submit", "--node", r.Voters[1].Ready.HTTP, "--key", filepath.Join(r.Dir, agent+".key"),
		"--agent-id", agent, "--wait", "attested")
	var receipt client.Receipt
	if err := json.Unmarshal([]byte(out), &receipt); err != nil || code != 0 || receipt.Finality != client.FinalityAttested {
		t.Fatalf("submit: exit code %d, %v\n%s%s", code, err, out, errOut)
	}
	return receipt
}

// awaitFinality submits a step and waits until it is attested; or, where an error is wanted, until the
// limit, and it must be committed then.
func awaitFinality(t *testing.T, a *workload.Agent, s workload.Step, limit time.Duration, want error) {
	t.Helper()
	acked := mustAck(t, a, s)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if _, err := a.Client.Await(ctx, acked.Receipt.Digest, client.FinalityAttested); !errors.Is(err, want) {
		t.Fatalf("wait until it is attested: %v", err)
	}
	finality := client.FinalityAttested
	if want != nil {
		finality = client.FinalityCommitted
	}
	if r, err := a.Client.Receipt(t.Context(), acked.Receipt.Digest); err != nil || r.Finality != finality {
		t.Fatalf("the receipt is %+v, %v, and it should be %s", r, err, finality)
	}
}

func readDocument(t *testing.T, path string) *federation.Document {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := federation.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// certified waits until a voter serves a certificate of at least so many entries, and checks it.
func certified(t *testing.T, v *proctest.Node, doc *federation.Document, size int64) (c *checkpoint.Checkpoint, cosigners []string) {
	t.Helper()
	proctest.Await(t, fmt.Sprintf("wait until %s has a certificate of %d entries", v.Name, size), func(ctx context.Context) error {
		text, err := fetch(ctx, v.Ready.HTTP+"/checkpoint")
		if err != nil {
			return err
		}
		if c, cosigners, err = certificate.Verify(text, doc); err != nil {
			return err
		}
		if c.Size < size {
			return fmt.Errorf("it has one of %d", c.Size)
		}
		return nil
	})
	slices.Sort(cosigners)
	return c, cosigners
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
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, text)
	}
	return text, err
}

// inEvidence tells whether a voter has evidence against a region, by its status and its metrics.
func inEvidence(t *testing.T, v *proctest.Node, region string) bool {
	t.Helper()
	s, err := v.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	by := slices.ContainsFunc(s.Regions, func(r client.RegionStatus) bool { return r.Region == region && r.Evidence })
	text, err := fetch(t.Context(), v.Ready.HTTP+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	return by && bytes.Contains(text, fmt.Appendf(nil, "\nbizra_attest_evidence{of=%q,region=%q} 1\n", region, v.Name[:1]))
}

// equivocate stops a voter and has its home's keys sign another ledger than its region certified, and
// hand that to a voter of another region.
func equivocate(t *testing.T, stolen, speaker, to *proctest.Node) {
	t.Helper()
	stolen.Stop()
	first, err := fetch(t.Context(), speaker.Ready.HTTP+"/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	second, err := liar.Fork(stolen.Home, first)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), proctest.Patience)
	defer cancel()
	if evidence, err := liar.Tell(ctx, stolen.Home, second, to.Ready.Address); err != nil || !slices.Equal(evidence[0], []string{"d"}) {
		t.Fatalf("%s answers: evidence against %v, %v", to.Name, evidence, err)
	}
	if _, err := liar.Fork(to.Home, first); err == nil {
		t.Error("one region's home signs for another")
	}
}

func verifyTampered(t *testing.T, r *proctest.Region, bundle string) {
	t.Helper()
	text, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	tampered := bytes.ReplaceAll(text, []byte("s-1"), []byte("s-9"))
	if bytes.Equal(tampered, text) {
		t.Fatal("the bundle is not of the proof that is tampered with")
	}
	path := filepath.Join(r.Dir, "tampered.json")
	if err := os.WriteFile(path, tampered, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errOut, code := r.Bizra("verify", path, "--federation", r.Document); code != 3 || !strings.Contains(out, "NOT VALID") || !strings.Contains(errOut, "not valid") {
		t.Errorf("a tampered bundle: exit code %d\n%s%s", code, out, errOut)
	}
}
