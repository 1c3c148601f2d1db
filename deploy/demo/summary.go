package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/bizra/bizra/internal/proc"
)

// seconds writes a duration as people read it.
func seconds(t time.Duration) string {
	if t < time.Second {
		return fmt.Sprintf("%d ms", t.Milliseconds())
	}
	return fmt.Sprintf("%.2f s", t.Seconds())
}

// listenOf is where a node listened, for it to listen there again.
func listenOf(r proc.Ready) string {
	listen, _, _ := strings.Cut(r.Address, "/p2p/")
	return listen
}

func (d *demo) summary() {
	f := d.found
	acked := d.record.Len()
	d.printf(`
What was done
  A region of %d voters was founded in %s: separate processes that talk libp2p and keep their data on disk.
  An agent had %d signed proofs acknowledged by whichever voter it asked.
  %s, the leader, was killed with SIGKILL after %d of them, with %d more on their way.
  %s later the region acknowledged the next proof. No operator did anything.
  %d proofs were acknowledged while %s was down. Started again, it caught up in %s.

What it proves
  Nothing acknowledged was lost: each of the %d acknowledged proofs is in the ledger of each of the %d voters
    (%d inclusion proofs, checked here from the signed envelope up to the voter's root).
  The voters agree: equal roots for their %d entries, %s.
  Nothing was done twice: %d proofs submitted again got their first receipts.
  What the rules forbid is refused, and said why: %s.
  What is on the disks is what the rules make of it: each of the %d homes was re-executed from its first entry on,
    %d entries (founding, registration and a refusal among them), with one result.

What it does not prove yet
  All three voters belong to one party, which could still rewrite its own ledger. That is what other regions
  are for: they re-execute a region's ledger and sign what they saw. They are not built yet.

%d steps in %s.
`, votersCount, seconds(f.founding), acked, f.killed, f.killedAt, f.underWay, seconds(f.again), f.whileDown, f.killed, seconds(f.caughtUp),
		acked, votersCount, f.inclusion, f.size, f.root, f.resubmitted, strings.Join(f.refusals, ", "), votersCount, f.checked.Entries,
		d.step, d.sinceStart())
}
