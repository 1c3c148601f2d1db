package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client/audit"
	"github.com/bizra/bizra/consensus/certificate"
)

// Exit codes, which scripts rely on.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
	exitRefused = 3
)

// usageError is a mistake in the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// errRefused is wrapped where a gate refused a proof.
var errRefused = errors.New("refused")

func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[*hookExit](err); ok {
		return e.code
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	if errors.Is(err, errRefused) || errors.Is(err, certificate.ErrNotValid) || errors.Is(err, audit.ErrNotValid) {
		return exitRefused
	}
	return exitFailure
}

// run is the program with its arguments and streams.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	cmd, err := root.ExecuteContextC(ctx)
	code := exitCode(err)
	if _, said := errors.AsType[*hookExit](err); said || err == nil {
		return code
	}
	if asJSON(cmd) {
		_ = json.NewEncoder(errOut).Encode(struct {
			Error string `json:"error"`
			Exit  int    `json:"exit"`
		}{err.Error(), code})
		return code
	}
	fmt.Fprintf(errOut, "bizra: %v\n", err)
	if code == exitUsage {
		fmt.Fprintf(errOut, "See `%s --help`.\n", cmd.CommandPath())
	}
	return code
}

func newRootCommand() *cobra.Command {
	root := group("bizra", "A record of what agents did, kept by parties who do not trust each other",
		`bizra runs a node of a federation and talks to one.

Exit codes: 0 done, 1 failed, 2 used wrongly, 3 a gate refused a proof, or a bundle or a ledger is not valid.
The environment variable BIZRA_NODE names the node to talk to where --node does not.`,
		`  bizra dev                                    # a region to try things on
  echo '{"action":"session.open","data":{"session":"s1"}}' | bizra submit --key agent.key
  bizra session show s1`,
		newKeygenCommand(), newFederationCommand(), newAgentCommand(), newMarketCommand(), newSubmitCommand(), newSessionCommand(),
		newConstitutionCommand(), newStatusCommand(), newPeersCommand(), newEventsCommand(), newPatternsCommand(), newVoterCommand(), newHookCommand(), newBundleCommand(), newVerifyCommand(), newAuditCommand(), newTokenCommand(), newNodeCommand(), newDevCommand(), newFsckCommand(), newMigrateCommand(), newVersionCommand())
	root.PersistentFlags().Bool("json", false, "print JSON, errors too")
	root.SilenceUsage, root.SilenceErrors = true, true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	return root
}

// group is a command that only holds others.
func group(use, short, long, example string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Long: long, Example: example,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			hint := ""
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				hint = "; did you mean " + strings.Join(near, " or ") + "?"
			}
			return usagef("%q is no command of %s%s", args[0], cmd.CommandPath(), hint)
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.SuggestionsMinimumDistance = 2
	c.AddCommand(subs...)
	return c
}

// takes demands the arguments that names list.
func takes(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		if len(names) == 0 {
			return usagef("%s takes no arguments, not %q", cmd.CommandPath(), args[0])
		}
		return usagef("%s takes %s: %d arguments, not %d", cmd.CommandPath(), strings.Join(names, " and "), len(names), len(args))
	}
}

// need gives a flag's text, which must be there.
func need(cmd *cobra.Command, name, what string) (string, error) {
	f := cmd.Flags().Lookup(name)
	if f == nil || f.Value.String() == "" {
		return "", usagef("--%s is missing: %s", name, what)
	}
	return f.Value.String(), nil
}

func asJSON(cmd *cobra.Command) bool {
	f := cmd.Flags().Lookup("json")
	return f != nil && f.Value.String() == "true"
}

// show prints v as JSON where that was asked for, else calls text.
func show(cmd *cobra.Command, v any, text func(w io.Writer) error) error {
	if !asJSON(cmd) {
		return text(cmd.OutOrStdout())
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// note prints a remark for people beside the output.
func note(cmd *cobra.Command, format string, args ...any) {
	fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...)
}
