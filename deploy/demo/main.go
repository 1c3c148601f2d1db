// Command demo shows on one machine what a federation promises: it makes one of four
// regions with three voters each, starts the twelve as processes of their own, submits
// signed proofs to one region, kills its leader with SIGKILL while proofs are on their
// way, goes on, and has every voter of the region prove from its own ledger that it holds
// every proof that was acknowledged. It waits until other regions have re-executed and
// certified all of it, takes bundles away, and then has one region lie with a stolen
// voter's keys: it is caught, gets no more votes, and the others go on. In the end every
// node is stopped and the bundles are checked with the federation document alone.
// `make demo` runs it.
//
// Every figure that it prints was measured in this run, every check is made here and not
// believed, and each step shows the command that a person would type. It exits with 0 if
// all of it held and with 1 otherwise; then it keeps its folder and says where the logs
// are. `demo lie` is the lie alone, to be told by hand.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// totalTimeout ends a demo that hangs.
const totalTimeout = 3 * time.Minute

func main() { os.Exit(mainCode(os.Args[1:], os.Stdout, os.Stderr)) } //nolint:forbidigo // a command

// mainCode is main without the end of the process, so that deferred calls run.
func mainCode(args []string, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(args) > 0 && args[0] == "lie" {
		l, err := parseLie(args[1:], errOut)
		if err != nil {
			return 2
		}
		if err := tellLie(ctx, out, l); err != nil {
			fmt.Fprintf(errOut, "demo lie: %v\n", err)
			return 1
		}
		return 0
	}
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(errOut)
	binary := flags.String("bizra", "bin/bizra", "the program that the demo runs")
	dir := flags.String("dir", "", "new folder to work in (default: one below the system's folder for temporary files)")
	keep := flags.Bool("keep", false, "keep the folder: homes, keys, logs and proofs")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		return 2
	}
	ctx, cancel := context.WithTimeoutCause(ctx, totalTimeout, fmt.Errorf("the demo took longer than %v", totalTimeout))
	defer cancel()
	d, err := newDemo(*binary, *dir, out)
	if err != nil {
		fmt.Fprintf(errOut, "demo: %v\n", err)
		return 1
	}
	err = d.run(ctx)
	d.endNodes()
	if err != nil {
		fmt.Fprintf(out, "\nFAILED in step %d (%s) after %s\n", d.step, d.title, d.sinceStart())
		fmt.Fprintf(errOut, "demo: %v\nThe nodes' logs, their homes and the proofs are kept in %s\n", err, d.dir)
		return 1
	}
	if *keep {
		fmt.Fprintf(out, "\nKept: %s\n", d.dir)
		return 0
	}
	if err := os.RemoveAll(d.dir); err != nil {
		fmt.Fprintf(errOut, "demo: clean up: %v\n", err)
		return 1
	}
	return 0
}

func newDemo(binary, dir string, out io.Writer) (*demo, error) {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("there is no program %s: `make build` makes it, --bizra names another (%w)", binary, err)
	}
	if dir == "" {
		dir, err = os.MkdirTemp("", "bizra-demo-")
	} else if dir, err = filepath.Abs(dir); err == nil {
		if err = os.Mkdir(dir, 0o700); errors.Is(err, os.ErrExist) {
			err = fmt.Errorf("%s is there already: name a folder that the demo may make", dir)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make a folder to work in: %w", err)
	}
	return &demo{out: out, bizra: binary, dir: dir, started: time.Now()}, nil
}
