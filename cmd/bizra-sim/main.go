// Command bizra-sim runs a whole federation, of 10,000 nodes if it is not told otherwise, in one
// process and in virtual time, and shows how it behaves: how fast certificates form and spread,
// what they cost, and that no promise breaks while nodes crash, links part and regions lie.
//
// Exit codes: 0 done and every promise held, 1 a promise broke, the run failed or was interrupted,
// 2 used wrongly.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(mainCode()) }

// mainCode is main without the end of the process, so that deferred calls run.
func mainCode() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	return run(ctx, os.Args[1:], os.Stdout, os.Stderr)
}
