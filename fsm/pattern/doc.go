// Package pattern is what an agent says when it elevates a pattern: something that a
// neural-tensor unit has come to believe, put into words so that other regions can use it.
//
// A pattern is the payload.data of an envelope with the action pattern.elevate:
//
//	region        the origin, as in every action that is not a session's
//	name          1 to 128 bytes; an agent's later pattern of the same name replaces the earlier
//	statement     1 to 2048 bytes: what is believed, for people
//	session       where it was observed, "" or missing: nowhere in particular
//	belief        0 to 1, the unit's (package ntu)
//	entropy       0 to 1, the unit's
//	potential     belief·(1 − entropy), to 1e-9
//	observations  1 to 1,000,000,000: how many the unit has seen in its life
//
// Its impact, by which nodes decide what to keep, is
//
//	impact = potential · ln(1 + observations)
//
// Potential says how much of a belief is left when what scatters is taken off. What n
// observations tell about a steady quantity grows with the logarithm of n and no faster
// (a parameter estimated from n of them is worth ½·ln n nats in a shortest description:
// J. Rissanen, Modeling by shortest data description, 1978), so ten times the observations
// add a constant: repetition alone makes nothing heavy, and a doubtful pattern stays light
// however long it was watched. Belief, entropy and the count are the agent's claims, signed.
//
// Everything here is a pure function with the same bits on every processor. The package
// verifies no signature and stores nothing.
package pattern
