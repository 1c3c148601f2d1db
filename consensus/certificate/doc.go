// Package certificate is how regions vouch for each other's checkpoints, in the forms
// of the C2SP transparency-log standards, and what they say when they do not.
//
// A region that has re-executed what a checkpoint covers adds a cosignature
// (c2sp.org/tlog-cosignature, cosignature/v1, signature type 0x04) with its cosign
// key. A certificate is the checkpoint note with the origin's signature and exactly
// as many cosignatures of distinct other regions as make a quorum with it. A bundle
// is a certificate with an entry, or a part of the state, and the proof that it
// covers it: whoever holds the federation document checks it alone.
//
// The names of the keys are the regions': <federation>/<region>, the same for a
// region's log key and its cosign key, which the note's key hashes tell apart.
//
// The package promises that what it assembles verifies, that what verifies has one
// form, and that it takes any input. It is pure: no network, no clock, no storage, no
// goroutine. It does not decide whether to cosign; consensus/attest does, and the
// rules that keep a region from cosigning two contradicting checkpoints are the state
// machine's.
package certificate
