// Package rounds does something again and again, without a goroutine that waits in between.
//
// A goroutine that sleeps until its next round keeps its stack, 4 KiB as a rule, its timer and the
// channel of it; a node has many things to look after that are due every few seconds, and a process
// may have thousands of nodes. A [Rounds] is a timer, and has a goroutine while it works.
//
// It promises that rounds never overlap and that none runs or begins once Stop has returned. It
// does not keep a beat: the time between two rounds is counted from the end of the first.
package rounds
