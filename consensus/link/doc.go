// Package link is what the nodes of one region say to each other beside Raft and
// entries: proofs on their way to the leader, clocks and progress, what each made of
// a seal, and the region's keys for a node that is to vote.
//
//   - [Intake] takes proofs in on any node. The leader decodes and verifies them, once
//     for the region, and proposes them; every other node forwards them as they came.
//   - [ServeStatus] and [Asker] tell and ask for clock, founding, progress and seals.
//   - [Seals] compares what the voters made of each seal, stops a replica that differs
//     from the majority, and says up to where a majority agrees.
//   - [Voters] makes Raft's configuration follow the voters that operator-signed
//     entries name.
//   - [ServeKeys] and [HandOver] carry the region's keys to a node that such an entry
//     names, and to nobody else.
//
// It promises that a proof whose submission failed with anything but
// [ErrUnknownOutcome] was not committed by that submission; that no source of proofs,
// whatever it sends, keeps the others' from being looked at; that every queue, table,
// message and wait has a limit; and that goroutines end with Close, which waits for them.
//
// It does not decide what a proof means, does not store anything, and does not know
// how the region's Raft works inside: what it needs of it stands in small interfaces.
package link
