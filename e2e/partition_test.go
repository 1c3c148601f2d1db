package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/internal/proctest"
	"github.com/bizra/bizra/internal/workload"
)

// attestedSoon waits until what a region has acknowledged is attested.
func attestedSoon(t *testing.T, a *workload.Agent, acked []workload.Acked) {
	t.Helper()
	for _, x := range acked {
		ctx, cancel := context.WithTimeout(t.Context(), 2*proctest.Patience)
		_, err := a.Client.Await(ctx, x.Receipt.Digest, client.FinalityAttested)
		cancel()
		if err != nil {
			t.Fatalf("entry %d: %v", *x.Receipt.Index, err)
		}
	}
}

// TestFederationInPieces takes four regions of real processes apart: one is cut off, then two from
// two, then all voters of one are killed. What is committed meanwhile is not attested where no
// quorum talks, is lost nowhere, and is attested when the pieces are together again.
func TestFederationInPieces(t *testing.T) {
	f, links := proctest.FoundLinked(t, proctest.Options{Binary: built.bizra, Name: "pieces"}, "a", "b", "c", "d")
	var record workload.Record
	agents := make([]*workload.Agent, len(f))
	for i, r := range f {
		agents[i] = r.Agent("agent-"+r.Name, &record, r.Voters...)
	}
	step := func(i int, session string) workload.Acked {
		t.Helper()
		return mustAck(t, agents[i], workload.OpenStep(f[i].Name, session))
	}
	for i := range f {
		attestedSoon(t, agents[i], []workload.Acked{step(i, "whole")})
	}
	unattested := func(i int, session string) []workload.Acked {
		t.Helper()
		acked := step(i, session)
		ctx, cancel := context.WithTimeout(t.Context(), unattestedFor)
		defer cancel()
		if r, err := agents[i].Client.Await(ctx, acked.Receipt.Digest, client.FinalityAttested); err == nil {
			t.Fatalf("%s was attested across a cut: %+v", f[i].Name, r)
		}
		return []workload.Acked{acked}
	}

	links.Cut(f[:1], f[1:], true)
	alone := unattested(0, "alone")
	attestedSoon(t, agents[1], []workload.Acked{step(1, "without-a")})
	lostOne := links.Lost()
	links.Cut(f[:1], f[1:], false)
	from := time.Now()
	attestedSoon(t, agents[0], alone)
	t.Logf("the region that was cut off was attested %v after the cut healed", time.Since(from).Round(time.Millisecond))

	links.Cut(f[:2], f[2:], true)
	var halves [][]workload.Acked
	for i := range f {
		halves = append(halves, unattested(i, "half"))
	}
	lostTwo := links.Lost()
	links.Cut(f[:2], f[2:], false)
	for i := range f {
		attestedSoon(t, agents[i], halves[i])
	}
	if lostOne == 0 || lostTwo <= lostOne {
		t.Errorf("nothing was lost in the cuts: %d and %d datagrams", lostOne, lostTwo-lostOne)
	}

	for _, v := range f[3].Voters {
		v.Kill()
	}
	var missed []workload.Acked
	for n := range 10 {
		missed = append(missed, step(0, fmt.Sprintf("without-d-%d", n)))
	}
	attestedSoon(t, agents[0], missed)
	for _, v := range f[3].Voters {
		v.Start()
	}
	for _, v := range f[3].Voters {
		v.AwaitReady()
	}
	attestedSoon(t, agents[3], []workload.Acked{step(3, "again")})
	links.Cut(f[2:3], append(append([]*proctest.Region(nil), f[:2]...), f[3]), true) // now d's vote is needed
	attestedSoon(t, agents[0], []workload.Acked{step(0, "by-d")})
	links.Cut(f[2:3], append(append([]*proctest.Region(nil), f[:2]...), f[3]), false)
	for i := range f {
		checkVoters(t, f[i].Voters, acknowledged(&record, f[i].Name))
	}
}

// acknowledged are what a region acknowledged.
func acknowledged(record *workload.Record, region string) (of []workload.Acked) {
	for _, a := range record.Acked() {
		if a.Receipt.Region == region {
			of = append(of, a)
		}
	}
	return of
}
