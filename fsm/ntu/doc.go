// Package ntu is L0 of the governance layers, the neural-tensor unit: what the most
// recent observations of a session or an agent say.
//
// A [Unit] keeps a window of the last w observations, each a number in [0, 1], and a
// state of three numbers in [0, 1]: belief, entropy, potential. For an observation v:
//
//	temporal  = 0.5                                        with fewer than two in the window
//	          = 0.7·exp(−4·variance) + 0.3·|mean sign|     else: population variance, mean of the
//	                                                       signs of successive differences
//	prior     = first component of the unit vector along (0.1, 0.2, 0.7) for v < 0.33 (low),
//	            (0.4, 0.4, 0.2) for v < 0.67 (medium), (0.8, 0.1, 0.1) else (high)
//	belief    ← α·temporal + β·prior + γ·belief
//	entropy   ← Shannon entropy, in units of log 3, over three equal bins of [0, 1], each
//	            share p smoothed to (p + 1e-10/3)/(1 + 1e-10)
//	potential ← belief·(1 − entropy)
//
// So belief is high while observations are high and steady or rising and falling in
// one direction, entropy while they scatter. The formulas are the blueprint's NTU (rules
// of the state machine, section 2); testdata/vectors/ntu.json holds its results.
//
// Units are replicated state: every processor computes the same bits. The variance comes
// from sums of integers (an observation in units of 2⁻⁵⁹), which no order of adding and
// removing can make drift; exp is package exact's; entropy is the sum of three entries of
// a table over the bins' counts. Observing allocates nothing, and costs the same for every
// size of window.
//
// The package does no I/O and reads no clock. It does not say what an observation is,
// nor what should follow from a belief.
package ntu
