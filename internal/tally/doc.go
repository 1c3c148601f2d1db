// Package tally counts what a node's parts do, for whoever scrapes it.
//
// A counter of Prometheus' client keeps its name, its help, its labels and their hashes beside
// the count, some hundred bytes each, and a node has some two hundred. Here a count is eight bytes, and
// a part lists what they are called when it is asked: once when it is registered, and at every
// scrape. The series are the same.
//
// Registration costs a table of names too, so a [Registry] puts it off until somebody asks.
//
// It promises that what [Figures] describes is what it collects. It does not expose anything itself;
// that is the client library's.
package tally
