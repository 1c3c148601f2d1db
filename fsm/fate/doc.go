// Package fate is L1 of the governance layers: may this happen?
//
// An [Operation] gets four [Scores] in [0, 1] (the blueprint's FATE; rules of the state
// machine, section 3; testdata/vectors/fate.json holds its results):
//
//	Fidelity        0.7 without a declared intent, else 0.7 + 0.3·(share of the intent's
//	                distinct words that the operation's name has)
//	Accountability  0.3 execution id + 0.3 timestamp + 0.2 trace + 0.1 any metadata + 0.1 a name
//	Transparency    0.7 + 0.1 a type other than "unknown" + 0.1 an input
//	                + 0.1 a description or a rationale
//	Ethics          the SNR score, 0.95 if none is given; ×0.5 with personal data found,
//	                ×0.3 with toxicity found, ×0.1 with a violation of ethics found
//
// A [Policy] makes one number of them, their product F·A·T·E or their weighted geometric
// mean, and lets pass what reaches its threshold. What it refuses, its [Verdict] explains:
// every part that is missing or low, what it would gain, and which parts would do.
//
// Words are split at white space and `_` and compared in lower case. What is white and what is
// lower case is written out in this package (Unicode 15.0), not taken from the Go release, for
// replicas that were built by different releases must agree.
//
// The package is pure: scoring allocates nothing, only the explanation of a refusal does. It measures
// what an operation says of itself. Whether that is true, it cannot know; rules over an operation's content
// come from outside, as [Denial].
package fate
