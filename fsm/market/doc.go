// Package market is L4 of the governance layers: who gets to compute, as a market of Harberger licences with a
// hard limit on inequality (rules of the state machine, section 6; testdata/vectors/gini.json holds Gini coefficients).
// docs/market.md tells it at length.
//
// A licence is the right to some units of a [Resource]. Its holder declares a price, pays [TaxPercentPerHour] of it in
// tax for as long as it holds the licence, and must sell to anyone who pays that price and whom the Gini gate lets in.
// It lapses after [LapseMillis] without reassessment and is revoked when its tax cannot be paid. Credits are counted in
// integers, in micro-credits; all that there are lie in the treasury at first and are granted from there. Log time is in
// milliseconds.
//
// The gate ([Market.Apply]): a step is refused if it raises the Gini coefficient of declared value per holder, the Gini
// ends above [GiniLimitPercent], and who gains by it ends above the mean. Whoever declares a price must end at no less
// than a quarter of the mean. A newcomer that declares no more than the mean is never refused for what others hold.
//
// Once an hour of log time the caller runs [Market.Epoch]. It collects the tax, lets licences lapse, lifts declarations
// below a quarter of the mean up to it, lowers those above the largest cap under which the Gini keeps its limit, and pays
// the tax of the hour out to the holders, to each the same.
//
// What it promises: credits are neither created nor destroyed; the Gini is at most the limit after every epoch; a refused
// step changes nothing; what a market does is a function of its records, its rules and the steps, on every processor.
//
// What it does not do: it does not know agents, signatures or regions, and decodes nothing: the caller says whose step it
// is, that owners are who they claim to be, and what time it is. One owner behind many names is many holders here.
//
// State lies in records behind [Store]: one [Head], a [Holder] for each owner, a [Licence] for each licence. Beside them
// a Market keeps in memory the declared values in order, from which the Gini follows in O(log n) a change; [Open] builds
// them again. A Market is not safe for concurrent use.
package market
