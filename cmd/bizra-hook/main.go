// Command bizra-hook is what an agent CLI runs at each of its events: `bizra hook run` as a small
// program of its own. It is apart from bizra, since a process with a node's code in it takes
// longer to start than a decision takes to make. `bizra hook install` writes it into the CLI's settings.
//
// Usage: bizra-hook --home DIR < EVENT. Exit codes: 0 done, with the answer on standard output;
// 1 something went wrong that does not concern a tool call; 2 the tool call is blocked.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/bizra/bizra/hook"
)

func main() { os.Exit(mainCode()) }

// mainCode is main without the end of the process, so that deferred calls run.
func mainCode() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	flags := flag.NewFlagSet("bizra-hook", flag.ContinueOnError)
	flags.SetOutput(errOut)
	home := flags.String("home", "", "the hook's home, as `bizra hook install` made it")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 || *home == "" {
		fmt.Fprintln(errOut, "usage: bizra-hook --home DIR < EVENT; `bizra hook --help` says more")
		return hook.ExitBlocked // a hook that was set up wrongly must not let calls pass
	}
	return hook.Run(ctx, hook.Options{Dir: *home, In: in, Out: out, Err: errOut, Local: hook.JudgeBy(bizra(), "hook", "judge")})
}

// bizra is the program beside this one, else the one on the path.
func bizra() string {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "bizra")
		if _, err := exec.LookPath(beside); err == nil {
			return beside
		}
	}
	return "bizra"
}
