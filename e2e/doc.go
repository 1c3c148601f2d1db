// Package e2e holds the tests that need real processes: regions of `bizra node` on the
// loopback interface that are joined, killed, wiped, replaced and lied to, command lines
// and the demo as a person runs them, and clients in other languages.
//
// Every test that injects a fault asserts that the fault happened. What a test can see
// in one process, in virtual time, is tested next to the code instead.
package e2e
