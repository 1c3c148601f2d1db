// Package constitution is the policy document by which a region judges proofs: one
// that people can read, test and change.
//
// A document is YAML with thresholds, limits, the composite of the scores, and deny
// rules in CEL (cel.dev). [Parse] reads it strictly and says line and column of every
// fault; its one canonical JSON form, and so its digest, the policy hash, does not
// depend on spacing, comments or the order of members. [Constitution.Compile] makes a
// [Policy] of it, which is immutable and may be used concurrently; [Policy.Evaluate]
// says which rule, the first in the order of the document, denies a proof.
//
// It promises that a verdict depends on the document and the proof alone: the same on
// every replica and at every time. What a rule can cost is bounded when the document
// is loaded, from the sizes that an envelope can have; nothing is bounded by time. An
// expression that fails denies.
//
// Texts that a shell or a decoder would read otherwise than they look are brought into
// one form by functions of this package: [Normalise], [Decoded], [Commands], [Writes],
// [Quoted], each also a function of CEL under bizra. They make evasion harder, not impossible:
// rules judge what a proof says will be done, not what then happens.
//
// It computes no scores (thresholds and weights are only kept here), knows no ledger,
// and does no I/O: [Lint], [Hash] and [Policy.RunCases], which serve commands, take a text
// and a file system.
package constitution
