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
  A federation of %d regions was founded in %s: %d processes that talk libp2p and keep their data on disk.
  In region %s an agent had %d signed proofs acknowledged by whichever voter it asked.
  %s, its leader, was killed with SIGKILL after %d of them, with %d more on their way.
  %s later the region acknowledged the next proof. No operator did anything.
  %d proofs were acknowledged while %s was down. Started again, it caught up in %s.
  A proof that waited for it was attested after %s. Regions %s and %s signed for all %d entries.
  Then a thief with the keys of region %s signed a second ledger. %d voters had the evidence %s later.

What it proves
  Nothing acknowledged was lost: each of the %d proofs acknowledged before the lie is in the ledger of each of the %d voters
    (%d inclusion proofs, checked here from the signed envelope up to the voter's root).
  The voters agree: equal roots for their %d entries then, %s.
  Nothing was done twice: %d proofs submitted again got their first receipts.
  What the rules forbid is refused, and said why: %s.
  What is on the disks is what the rules make of it: each of the %d homes was re-executed from its first entry on,
    %d entries (founding, registration and a refusal among them), with one result, and so was the copy of another region.
  No region has to be believed: %d bundles were checked with every node stopped, by the federation document alone,
    and one with a word changed was refused.
  A region that lies is caught and goes without votes, while the others go on: attested after %s.

What it does not prove
  All of it ran on one machine, for one party. Two lying regions of four could certify a lie together; with four
  regions one may lie, with seven two. A region in evidence stays out: the way back, a new federation document, is not built yet.

%d steps in %s.
`, regionsCount, seconds(f.founding), len(d.all), regionName, acked, f.killed, f.killedAt, f.underWay, seconds(f.again), f.whileDown, f.killed, seconds(f.caughtUp),
		seconds(f.attested), f.cosigners[0], f.cosigners[1], f.certified, liarName, f.witnesses, seconds(f.caught),
		acked, votersCount, f.inclusion, f.size, f.root, f.resubmitted, strings.Join(f.refusals, ", "), votersCount, f.checked.Entries,
		f.bundles, seconds(f.goneOn), d.step, d.sinceStart())
}
