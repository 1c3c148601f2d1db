// Package gate judges a proof by a constitution as far as those two alone decide: what
// its sender claims, the deny rules, and the four scores. It serves who writes or tests a
// constitution, or wants to know beforehand how a proof will fare.
//
// [Gate.Judge] says all that speaks against a proof, not only what decides; [Gate.Survey]
// says how a folder of cases fares at the whole gate, beside the rules, and what would
// raise the rate.
//
// It knows no ledger: time, replay, role, the session's state, the measured SNR and the
// budget are the state machine's, and may refuse what passes here.
package gate
