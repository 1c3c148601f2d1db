// Package drive runs the step machine of package attest on a voter: it brings it what
// happens and does what it says.
//
// One goroutine owns the machine. What happens is told to a [Driver] by whoever learns
// of it, from any goroutine and without waiting: it is put where the owner finds it, and
// where events of a kind make each other superfluous, only the last is kept. What is
// heard by gossip is put in a queue that drops when it is full. So nothing that is told
// can hold up the teller, and nothing grows without end.
//
// Commands go to Raft, exchanges to other regions' voters and messages to gossip on
// goroutines of a bounded number, and what does not find a place is dropped: the machine
// says it again. Each region's voters take turns in exchanges, so that its leader is
// reached, whoever that is. The driver also answers exchanges, on streams of
// /bizra/attest/1.0.0 that package p2p lets other regions' voters open.
//
// It decides nothing about what may be signed, and holds nothing that must not be lost:
// it may be ended and begun at any moment.
package drive
