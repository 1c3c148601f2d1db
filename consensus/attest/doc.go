// Package attest is how one region attests others and is attested: a step machine
// that decides what to sign, to propose and to send, and does nothing itself.
//
// A region's checkpoint becomes a certificate when a quorum of regions has re-executed
// what it covers and cosigned it. All that a region says twice must agree, whoever of
// its voters speaks; so nothing is signed here that the region's Raft has not fixed
// before: the own checkpoints are those of applied seals on which a majority of the
// voters agrees, and a cosignature is made only from an applied vote. The rules that
// bind a vote to the votes before it are [fsm.Machine]'s; this package proposes what
// will pass them, and loses nothing when it is wrong.
//
// # Use
//
// Every voter of a region has one [Machine], made by [New] when it starts. The machine
// holds no durable state: what it must not forget stands in the applied records, which
// it reads through [Views], and what else it knew it learns again.
//
// The caller calls [Machine.Step] with one event after the other and carries out what
// is returned:
//
//   - [Publish]: publish the bytes on the topic. They may be lost.
//   - [Offer]: have an exchange with some voter of the region, another one each time:
//     send [Machine.Exchange], hand in the answer as [Exchanged].
//   - [Propose]: propose the command to the own Raft, as leader. It may be lost.
//   - [Learned]: a certificate was verified that was not known here. Keep it if it is
//     wanted: this package remembers the newest of each region only.
//   - [Alarm]: something that an operator must see.
//
// The caller answers an exchange that another region's node opened by handing it in as
// [Exchanged] and sending what [Machine.Exchange] then says.
//
// The caller owes the machine: one call at a time; a clock that is roughly right in the
// argument of Step; a [Tick] every second or so; [Leading] at every change, [Agreed] and
// [Applied] after the views show what they tell of; [Executed] when the copy of a
// region's ledger has grown a seal, and [Diverged] when it refuses what the region
// serves. Nothing else: messages may be lost, doubled, late, replayed and forged.
//
// # Promises
//
// Two cosignatures of one region, whenever and by whichever of its voters they were
// made, are never of two checkpoints of which neither extends the other. A region
// against which there is evidence gets no more cosignatures; its own still count.
// What is kept is bounded by the number of regions, whatever is received. An error of
// Step is a fault of the own storage; no message causes one.
//
// It does not say when to seal, does not follow the other regions' ledgers, and does
// not talk to anybody.
package attest
