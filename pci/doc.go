// Package pci is the proof-carrying envelope: the signed JSON document by which
// an agent says what it did.
//
// It decodes envelopes strictly (duplicate names, lone surrogates, bad UTF-8 and
// anything over a limit are refused, which encoding/json does not do), brings them
// into canonical form, computes the digest that is signed, signs and verifies, and
// checks the gates that need no state: time, scores and policy. What it says of an
// envelope depends on the bytes alone, so every replica of every region says the
// same. docs/envelope.md describes the format for writers of other clients.
//
// It does not know agents, nonces, sessions or budgets: those gates belong to the
// state machine. It holds no state and starts no goroutine; every function may be
// called concurrently.
//
// A signer fills a [Draft] and calls [Sign]; a receiver calls [Decode], then
// [Envelope.Verify] or, for many, [VerifyBatch]. Every refusal is a [*Reject].
package pci
