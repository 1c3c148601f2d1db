// Package faults lets one file system call of a node's run fail, or kills the node at it, and then looks whether
// anything acknowledged was lost: once for every call of the run, or for some of them drawn from a seed.
//
// The calls of a run are listed by strace, which also injects EIO, ENOSPC or SIGKILL in the runs that follow. After
// each the node must have ended within a time limit, must start again on what is left, must give the first receipt
// of every proof that it acknowledged, and its home must pass fsck. Runs are of a voter that founds its region, of
// one that starts again, with the Raft log in bolt or in raft-wal, and of the command that moves the log.
//
// A process that is killed keeps what it wrote, synced or not: what a power cut leaves is tested elsewhere, on file
// systems in memory.
package faults
