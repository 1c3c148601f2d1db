// Package fsm is the replicated state machine of a region: one Apply that takes
// Raft commands in order and gives the same bytes on every replica.
//
// A batch of proofs goes through the gates one proof at a time, each on a scratch
// copy of the state. What becomes of a proof is its receipt; what moves the state
// also becomes an entry of the ledger. The state is a function of the ledger's
// entries alone: [Machine.ApplyEntries] re-executes them, which is how members
// follow, how other regions check an origin, and how fsck checks a disk.
//
// The machine takes time from the command, never from a clock; it has no goroutine,
// no randomness and no configuration that is not replicated. It does not verify
// signatures: whoever hands it proofs has done so.
//
// One goroutine calls Apply. [Machine.View] may be called from any.
package fsm
