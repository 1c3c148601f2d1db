// Package sim runs a whole federation in one process and in virtual time: regions of voters
// and members, each a [node.Node] as cmd/bizra runs it, over a network, disks and a clock that
// are simulated.
//
// There is no second list of a node's parts: the simulator is a [node.Ground]. The network is
// sim/memnet; a disk keeps Raft's log and the states in memory and forgets, in a crash, what was
// not synced; the clock is that of the testing/synctest bubble in which a [World] lives. HTTP is
// off. Keys and proofs come from internal/testfed.
//
// What goes wrong is the simulator's doing alone: nodes crash, stop and come back, links are cut
// and slowed, and liars speak with the keys of a region, from its hosts (liar.go). Throughout a
// run an [Auditor] holds what every node says against the promises: no contradicting certificates,
// nothing certified that re-execution refuses, what was committed stays, equal states at equal
// index, and bundles that verify with the federation document alone.
//
// [Simulate] carries out a [Plan] in a bubble of its own, measures it (measure.go, results.go), and
// tells what it found as a [report.Report]; cmd/bizra-sim shows that. A [Watchdog], outside of virtual
// time, notices when that stands still.
//
// It does not simulate bandwidth, the cost of processors, or the wear of a real file system.
package sim
