package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/bizra/bizra/internal/liar"
)

// lieFlags are those of `demo lie`.
type lieFlags struct {
	home   string   // of a voter that does not run
	first  string   // file with a checkpoint, or certificate, of its region
	second string   // file for the one that contradicts it
	to     []string // multiaddrs of voters of other regions
}

func parseLie(args []string, errOut io.Writer) (lieFlags, error) {
	var l lieFlags
	flags := flag.NewFlagSet("demo lie", flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.StringVar(&l.home, "home", "", "home of a voter that does not run, whose keys are used")
	flags.StringVar(&l.first, "first", "", "file with a checkpoint of its region")
	flags.StringVar(&l.second, "second", "", "file to write the contradicting one to")
	flags.Func("to", "multiaddr of a voter of another region that is told; may be repeated", func(a string) error {
		l.to = append(l.to, a)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return l, err
	}
	if l.home == "" || l.first == "" || l.second == "" || len(l.to) == 0 || flags.NArg() > 0 {
		flags.Usage()
		return l, flag.ErrHelp
	}
	return l, nil
}

// tellLie signs a checkpoint that contradicts another, and hands it to voters of other regions.
func tellLie(ctx context.Context, out io.Writer, l lieFlags) error {
	first, err := os.ReadFile(l.first)
	if err != nil {
		return err
	}
	second, err := liar.Fork(l.home, first)
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.second, second, 0o600); err != nil {
		return err
	}
	evidence, err := liar.Tell(ctx, l.home, second, l.to...)
	if err != nil {
		return err
	}
	for i, regions := range evidence {
		fmt.Fprintf(out, "told %s, which answers: evidence against %s\n", l.to[i], orNobody(regions))
	}
	return nil
}

func orNobody(regions []string) string {
	if len(regions) == 0 {
		return "nobody"
	}
	return strings.Join(regions, ", ")
}
