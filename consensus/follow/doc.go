// Package follow serves a region's ledger to those who follow it, and follows one, over
// streams of /bizra/entries/1.0.0.
//
// [Serve] answers from any node of the region, voter or member, out of views on its state
// machine, and the region's own nodes also out of copies of other regions' ledgers: first what the follower lacks, then each entry and seal as soon as the node has
// it ([Feed] says when). [Follower] takes them from one peer at a time, re-executes them
// with its own replica, and goes to the next peer when one fails, falls silent, stays
// behind or lies.
//
// [Copies] keeps a copy of each other region's ledger on a voter: followers with
// [Config.Foreign] set, whose replicas are opened, checked and, where they are of no use,
// discarded and built anew. A copy doubts the region and not itself, and none of what goes
// wrong with it ends the node. Copies may stand by ([Copies.Attend]): they are then brought up now and
// then, by fellow voters whose copies follow, and blame nobody.
//
// It promises:
//   - A follower keeps only what its own replica makes of an entry, in order and without
//     gaps; a seal is taken up in its place and only if the replica would have made the same.
//   - A peer that sends anything else is put aside, and another is asked for the same. Only
//     if most of the peers that a node knows send the same thing, and the replica refuses
//     it, is it the replica that is wrong: then the follower stops and says so
//     ([Config.OnDiverged], [ErrDiverged]). It removes nothing.
//   - [Follower.Age] bounds how old the replica is, through any chain of peers, without
//     comparing clocks: two members cut off together that follow each other see it grow.
//   - Everything is bounded: frames, entries, streams, waits. A reader that is too slow is
//     cut off. Run and Close wait for every goroutine.
//
// For a copy of another region's ledger the second point reads: what most of that region's
// nodes send and the copy refuses is said ([Config.OnRefused]), and the copy stays where it
// is; it takes entries only from peers whose ledger leads on from its own, and none
// that is more than [FutureMax] ahead of the clock.
//
// It does not verify signatures unless [Config.VerifySignatures] is set: inside a region the
// leader has, and who may be asked is who the caller names. A peer inside the region that
// leaves out a seal, or invents a proof that passes every gate, is found out only by what
// the next peer sends; the replica then says that it diverged and must be built anew.
//
// # Protocol
//
// All messages are framed as package p2p frames them. Whoever opens the stream sends one
// request {version, body}; the version is read before the body. The body names the region,
// the index of the first entry wanted, the number of the first seal wanted, how many
// entries at most: 0 is a stream that stays open, and the digest of the federation document that the follower has. Who copies another region's ledger gives, instead of
// the number of a seal, the least size of the seals wanted, since copies count seals for
// themselves; the first frame then carries the root of the entries before those wanted. The answer is a sequence of frames, and
// each says how many entries and seals the server has, the log time of its last entry, and
// how old its knowledge of the region is:
//
//   - entries: consecutive, from the index wanted on, never across the size of a seal that
//     was not sent yet;
//   - document: a part of the federation document that the next entry puts in force, as all
//     of its parts come before that entry. The one that the follower says it has is not sent;
//   - seal: right after the entry that completes its size;
//   - heartbeat: when all that the server has was sent, and every 5 s while that is so;
//   - refusal: the last frame, with a code and a sentence. A request from beyond what the
//     server has is refused so, with the server's size.
//
// The opener sends nothing after its request. A stream with a maximum ends after so many
// entries, or when there is nothing more to send.
package follow
