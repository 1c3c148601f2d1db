// Package patterns shares elevated patterns between regions and keeps those with the
// greatest impact.
//
// A pattern (package fsm/pattern) is an agent's signed envelope. Its region decides about
// it like about any proof; once it is an entry, the region's leader shares the envelope
// ([Store.Share]), and every node of every region keeps it as long as its impact is among
// the greatest ([Config.Max]). An agent's later pattern of a name replaces its earlier one, and one
// agent holds at most [Config.PerAgentMax] places, so that nobody fills the store alone.
//
// What is kept is a view for people and agents, in memory, in an order that is the same
// everywhere: by impact, then by digest. It is complete nowhere: gossip is a hint, and the
// record is the ledger of the pattern's region. Belief, entropy and observations are the
// agent's claims; that its signature is good is checked here, whether the agent may speak
// is for [Config.Judge] to say.
package patterns
