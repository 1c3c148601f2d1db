// Package economy simulates the compute market of a region, package fsm/market itself, among owners with demand and money,
// hour by hour, calmly, under load and under attack: what becomes of inequality, prices and treasury, who gets to compute,
// and what an attack costs and achieves.
//
// A run is a function of its [Config]: the same seed gives the same figures. No nodes and no proofs take part: whether those carry
// the market's steps is shown elsewhere.
//
// What it does not do: its owners are models. They want units by the hour, value them differently and price licences by a rule of
// thumb; they do not learn, and nobody but the attacker plans. Credits are sold between them outside of the market (a payment
// inside), so that who values computing and is short of credits gets some. Figures tell how the rules work, not what people will do.
package economy
