// Package budget is L3 of the governance layers: how much thought a task gets, by the
// blueprint's 7-3-6-9 (rules of the state machine, section 5; testdata/vectors/budget.json
// holds its results).
//
// Every [Task] has a [Tier] of its own. Four signals say how complex this one is:
//
//	depth      = min(7, tier+2), tiers counted from 0
//	tracks     = min(3, 1 + tier div 2)
//	effort     = mean of min(1, length/10000), text entropy, knowledge gap
//	completion = mean of min(1, attempts/9) and 1 − mean of past SNR scores
//	complexity = (7·min(1, depth/7) + 3·min(1, tracks/3) + 6·effort + 9·completion) / 25
//
// Above 0.7 the tier rises by one, above 0.9 by two. The tier's time is multiplied by
// 1 + 2.5·depth/7 and its tokens by 1 + 2.5·tracks/3, rounded down (2.5 = 7·9/(3·6) − 1);
// depth and tracks are at least the signals'.
//
// What was allocated is then spent: a [Remaining] is charged, inherited and merged.
//
// The package is pure, and counts in integers where something is spent. It does not measure what a
// task really used: that is the claim of who did it.
package budget
