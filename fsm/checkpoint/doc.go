// Package checkpoint is what a region says about its ledger, and the proof that it
// said two things that cannot both be true.
//
// A checkpoint's body is text in the form of c2sp.org/tlog-checkpoint with three
// extension lines; signed with the region's log key (c2sp.org/signed-note, signature
// type 0x01) it is a checkpoint note. There is one form of a body for a checkpoint
// and one form of a note for a body and a signature: everything else is refused, so
// that comparing bytes is comparing statements.
//
// The package is pure, takes any input, and knows nothing of who voted for what:
// cosignatures and certificates are consensus/certificate's. Which log key a region
// has, the caller reads from a federation document.
package checkpoint
