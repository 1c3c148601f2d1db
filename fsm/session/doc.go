// Package session is L2 of the governance layers: what has happened in one
// session, as a directed acyclic graph of states.
//
// A session starts at a genesis node. Its tips are the nodes that may be built
// on: a transition replaces one tip by its successor, a branch adds a tip, a
// merge joins several into one, a rollback goes on from a tip in the state of
// one of its ancestors. Every node names its parents by hash, so that a tip's
// hash fixes the whole history behind it.
//
// The package is pure: no I/O, no clock, no goroutine. It decides what a step
// does to a session and never stores anything; the state machine above it does.
package session
