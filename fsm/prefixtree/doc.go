// Package prefixtree commits to a set of (key, value) pairs with one 32-byte root, and proves against that root that a
// key has a value or that a key is absent.
//
// It is a compressed binary prefix tree over 256-bit keys. The root is a function of the set alone: whatever the order
// of inserts, overwrites and deletes and however they are cut into batches, the same set has the same root, and the
// same nodes are stored. docs/state-commitment.md is the full specification, with an example byte by byte.
//
// # The tree
//
// A label is a string of 0 to 256 bits, most significant bit first. A leaf's label is its key. An inner node's label is
// the longest common prefix of all keys below it; keys that continue with 0 are below its left child, with 1 below its
// right, and neither side is empty. A set of n > 0 pairs therefore has n leaves and n-1 inner nodes.
//
//	empty = SHA-256("bizra-state-v1:" 0x00)
//	leaf  = SHA-256("bizra-state-v1:" 0x01 key[32] value[32])
//	inner = SHA-256("bizra-state-v1:" 0x02 bits uint16-BE label[32, zero padded] left[32] right[32])
//
// The root is the hash of the top node, or empty. [KeyHash] makes the key of a state key, [ValueHash] the value of a
// state value; both are plain SHA-256.
//
// # Storage
//
// Every record's key starts with the byte 'T', and nothing else of the state may. "T" alone refers to the top node and
// is missing for the empty tree; "T" label-bytes length-byte holds the inner node of that label as references to its
// two children: label, and the hash of an inner node or the value of a leaf. Leaves have no record of their own, so n
// pairs take n records, and a proof needs one read a level. A node is found by its label, so a change of the set
// touches only the path above it, and removing a sibling moves nothing.
//
// # What it promises and what it does not
//
// Every node that is read is decoded strictly and checked against the hash that its parent holds; a record that does
// not fit is an error that wraps [ErrCorrupt], never a panic and never a wrong root. When [Update] fails, what it wrote
// until then must be thrown away by the caller, who hands in a transaction for that purpose. The package has no lock,
// no clock, no goroutine and no memory of its own between calls.
//
// A proof of absence relies on the root being that of a well-formed tree, which is so for every root that a replica
// computed with [Update] or [Build]; a signature on a root made otherwise could hide a key, though not show two values
// for one path. The tree hides nothing: proofs reveal hashes of neighbouring keys and values.
package prefixtree
