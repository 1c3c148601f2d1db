// Command bench measures a region of bizra beside a cluster of etcd: three voters and three
// members, each a process of its own, on the same disk and in the same run, round by round in
// turns, so that what else the machine does falls on both.
//
// It promises that nothing is taken for granted that a server might skip: both sync every
// write to a majority's disks, every answer is checked, and after each round every voter must hold
// exactly as many entries as proofs were acknowledged. The clients of both share the
// machine with the servers. Proofs are signed before the clock runs: what is measured
// is a region that verifies them, not the agents that sign.
//
// It compares different things, and says so: etcd stores 512 bytes under a key; a proof is an
// envelope of some 900 bytes whose signature is verified, that passes every gate, opens a
// session and becomes a leaf of the ledger. It is a module of its own, so that bizra does
// not depend on etcd.
package main
