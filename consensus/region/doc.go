// Package region is one region: hashicorp/raft around the replicated state machine.
//
// It promises:
//   - a receipt that [Region.Propose] returns is in the log of a majority of the voters, on their disks, and applied here (P1), this node's own among them;
//   - [Region.Read] sees every proof acknowledged before it began, or refuses (P2);
//   - only current voters may send Raft RPCs, each under its own name, and a voter that lost its Raft store never votes under
//     its old ID ([ErrNoStore]);
//   - a replica that cannot go on (a disk that fails or hangs, a command it does not know, a divergence) stops, says why
//     ([Region.Failed]) and acknowledges nothing from then on.
//
// It does not verify signatures (its caller does, once), does not decide what a proof means (package fsm does), and changes no
// voters on its own.
//
// A home holds raft/ (votes in bolt; the log in bolt or a write-ahead log, see [LogKind]), state/ (the state machine's store),
// snapshots/ (the pointer, and snapshots on their way in or out), and at most one of the marker files founding and added (see
// founding.go).
//
// Start with [New] and [Region.Start]; end with [Region.Close], which waits for everything that was started.
//
// Goroutines: Raft's own; one that leads (duties.go) while this node is the leader; one that batches (batch.go); one that takes
// snapshots; one for each remote peer of the transport; one while a leader writes to its log (overlap.go). What each owns is said at its struct.
package region
