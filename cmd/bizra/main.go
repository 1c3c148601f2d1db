// Command bizra is a node of a federation and everything one does with it: making
// keys and federations, running nodes, submitting proofs, reading what became of them.
//
// Exit codes: 0 done, 1 failed, 2 used wrongly, 3 a gate refused a proof, or a bundle
// is not valid.
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
	return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}
