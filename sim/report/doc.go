// Package report is what a run of the simulator has to say: the figures, and their forms for a
// terminal, for programs (JSON, CSV) and for a browser (one HTML file with plots).
//
// Every figure in a [Report] was measured in the run that it tells of, or is a limit computed
// from the latencies that the run used. The package measures nothing itself.
package report
