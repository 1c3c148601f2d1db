// Package api is a node's HTTP interface, version 1: proofs in, receipts, sessions,
// agents and the state of the node out, for clients in any language.
//
// It promises: every answer of its own is JSON but for the ledger's tiles and
// checkpoint, which have the forms of c2sp.org/tlog-tiles, and an error is a problem
// document (RFC 9457) that says what to do; an accepted proof is answered only after the
// backend gave its receipt; no request of any size, shape or speed takes more than
// the limits of [Config]; a panic ends the request, not the node.
//
// What it does not do: it decides nothing. Gates, order and durability are the
// [Backend]'s. It shows payloads, which stand in the ledger's entries, only to holders of
// a listed reader key, or where the configuration opens them. It speaks plain HTTP/1.1
// and knows no users: writes are authorised by their signatures, all other reads are
// open to whoever reaches the address, which therefore is a loopback one by default.
//
// Requests that net/http itself refuses (a malformed request line, headers beyond the
// limit) get its plain-text answers. docs/http.md is the reference for clients.
package api
