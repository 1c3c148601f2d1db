// Package audit checks a region's whole ledger from outside: it reads the entries from the tiles
// that a node serves, executes all of them again with the state machine that the regions
// run, and holds the result against the certificates.
//
// It promises that after an audit that ends well
//   - every entry is, byte for byte, what the rules make of the proof in it, under the federation document
//     in force there, and every proof is signed by the key in it;
//   - at each certificate that the node offers, and at the newest, the root of the ledger, the commitment to
//     the state, the log time and the document are those that the certificate states, and the
//     certificate holds under the document in force there;
//   - with a document of the auditor's own ([Config.Document]), the ledger goes by it or by what came of it.
//
// What is wrong is an error that wraps [ErrNotValid] and names the entry, the tile or the certificate;
// any other error says that the audit could not be made.
//
// An audit keeps what it has executed in a store, and goes on there when it is run again, also over
// what the region has added since. It does not check what no certificate covers yet, nor that
// another auditor is shown the same ledger: certificates of a quorum, and outside witnesses, are
// for that. Log time is the region's word, within the bounds that others hold it to.
package audit
