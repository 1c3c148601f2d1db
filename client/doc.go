// Package client is the Go side of a node's HTTP interface: it completes and signs
// proofs, submits them, and reads receipts, sessions, agents and the state of nodes.
//
// Every request may be sent again: a proof that has become an entry gets its first
// receipt, for ever. So a [Client] retries whatever did not reach a decision, waits
// as nodes ask it to, and goes on with another node of the region when one is down.
// A refusal by a gate is a decision: it comes back as a [Receipt] or a [Problem]
// with its code and is never sent again.
//
// The types of this package are also the interface's wire format, version 1, and
// package api answers with them. A client takes members that it does not know.
//
// [Client.Judge] asks beforehand how a proof would fare. Beside this package are bundle, which
// checks bundles offline, audit, which executes a whole ledger again, and judge, which judges a
// proof without a node; they are apart, since they need the state machine, and this does not.
//
// What the client does not do: it does not believe less than the node says. Receipts
// and heads are the node's word until an inclusion proof ([Inclusion.Verify]) and a
// certificate say the same.
package client
