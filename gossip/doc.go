// Package gossip is how the nodes of a federation hear of what concerns them all:
// checkpoints, cosignatures, certificates, patterns, members, evidence. It runs
// go-libp2p-pubsub's GossipSub under rules of its own.
//
// Gossip is a hint. A message may be lost, come twice, or come late, and nothing may
// depend on it: what matters is also offered by stream or pulled by height. [Router.Announce]
// makes loss rarer by sending again what is not done.
//
// It promises:
//   - Nothing here trusts a message. A [Handler] judges each payload, once, and only what
//     it accepts is delivered and passed on. A message is judged by itself, not by who
//     brought it, and named by its topic and content, so that nobody can keep it from
//     others by bringing it first or elsewhere.
//   - Every size, rate, queue and table has a limit; they are listed in docs/network.md.
//     What a peer sends above its limits is dropped before it costs more than reading.
//   - A peer that sends what is invalid, too much or the same again loses its standing, by
//     rules that [Router.Why] puts into words. One whose behaviour turns anomalous is muted
//     for a while and then heard again on probation.
//   - A certificate crosses each link between regions once: its author sends it to all it
//     is connected to, and the mesh that spreads it further stays inside each region.
//   - A node that hears of no other region says so, and when that is over ([LocalStatus]).
//
// The package knows neither Raft nor consensus nor keys: what messages mean is the
// handlers' to know, and who a peer is, package p2p's. Subpackages members and patterns are
// the handlers of what needs no consensus. It makes no connections; the keeper of package
// p2p does. It is the same code in a node and in the simulator: everything takes a host.Host.
package gossip
