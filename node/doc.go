// Package node is one running node of a region, put together: home, identity, host,
// Raft or follower, the services between nodes and the HTTP interface.
//
// A node is a voter or a member. A voter runs Raft around the state machine; a
// member re-executes the region's entries and answers reads, forwards proofs, and
// becomes a voter when an operator's entry names it and the leader hands it the
// region's keys. [Start] puts all of it up in one order, [Node.Close] takes it down
// in the other, and a node that must not go on says why through [Node.Failed].
//
// The package holds no rule of its own: what a proof may do, who may speak, what a
// vote is, stands in the packages that it puts together.
package node
