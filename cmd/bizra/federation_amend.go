package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/pci"
)

func newFederationAmendCommand() *cobra.Command {
	c := &cobra.Command{Use: "amend FILE --out NEW", Short: "Make the next version of a federation document", Args: takes("a federation document"),
		Long: `amend writes the version that may follow a federation document, with another constitution, with
operators added or removed, or a market that is new or has other numbers. The document in force can be had with
"curl $NODE/v1/federation | jq .document". Nothing changes until the region adopts it: see
"bizra federation adopt".`,
		Example: `  bizra federation amend federation.json --constitution policy.yaml --out federation-2.json
  bizra federation amend federation.json --add-operator 9d61b19d… --remove-operator 3f0c17aa… --out federation-2.json
  bizra federation amend federation.json --market-supply 1000000 --market-resource gpu=64@2.5 --out federation-2.json`,
		RunE: runFederationAmend}
	c.Flags().String("constitution", "", "`file` of the constitution in YAML, or - for standard input")
	c.Flags().StringArray("add-operator", nil, "public `key` of an operator to add; may be repeated")
	c.Flags().StringArray("remove-operator", nil, "public `key` of an operator to remove; may be repeated")
	c.Flags().String("region", "", "whose operators or market change (default: the only region)")
	c.Flags().String("out", "", "file to write; it must not exist")
	addMarketFlags(c)
	return c
}

func runFederationAmend(cmd *cobra.Command, args []string) error {
	out, err := need(cmd, "out", "name the file to write")
	if err != nil {
		return err
	}
	was, err := readDocument(args[0])
	if err != nil {
		return err
	}
	// Read again, so that nothing of the old document changes with the new one.
	next, err := readDocument(args[0])
	if err != nil {
		return err
	}
	next = &federation.Document{Version: was.Version + 1, Name: next.Name, Constitution: next.Constitution, Regions: next.Regions}
	if path := cmd.Flags().Lookup("constitution").Value.String(); path != "" {
		law, err := readConstitution(cmd, path)
		if err != nil {
			return err
		}
		next.Constitution = *law
	}
	if err := errors.Join(changeOperators(cmd, next), changeMarket(cmd, next)); err != nil {
		return err
	}
	if err := errors.Join(next.Check(), was.CheckSuccessor(next)); err != nil {
		return &usageError{err}
	}
	same := &federation.Document{Version: was.Version, Name: next.Name, Constitution: next.Constitution, Regions: next.Regions}
	if same.Digest() == was.Digest() {
		return usagef("nothing would change: give --constitution, --add-operator, --remove-operator, --market-supply or --market-resource")
	}
	if err := writeNew(out, append(next.Canonical(), '\n'), 0o644); err != nil {
		return err
	}
	if len(next.Regions) > 1 {
		note(cmd, "warning: a federation of several regions adopts a document only with the endorsement of a quorum, which this version of bizra cannot give yet")
	}
	s := summarise(next)
	return show(cmd, struct {
		documentSummary
		Document string `json:"document"`
	}{s, out}, func(w io.Writer) error {
		if err := s.writeTo(w); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "document     %s\n\nPut it in force:  bizra federation adopt --document %s --operator-key FILE\n", out, out)
		return err
	})
}

// chosenRegion is the region that the command line names, or the only one.
func chosenRegion(cmd *cobra.Command, d *federation.Document) (*federation.Region, error) {
	name := cmd.Flags().Lookup("region").Value.String()
	if name == "" && len(d.Regions) == 1 {
		name = d.Regions[0].Name
	}
	r, ok := d.Region(name)
	if !ok {
		return nil, usagef("--region %q: name the region whose operators or market change, one of the document's %d", name, len(d.Regions))
	}
	return r, nil
}

// changeOperators adds and removes the operators that the command line names.
func changeOperators(cmd *cobra.Command, d *federation.Document) error {
	add, err1 := cmd.Flags().GetStringArray("add-operator")
	remove, err2 := cmd.Flags().GetStringArray("remove-operator")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if len(add)+len(remove) == 0 {
		return nil
	}
	r, err := chosenRegion(cmd, d)
	if err != nil {
		return err
	}
	for _, text := range remove {
		k, err := federation.ParseKey(text)
		i := slices.Index(r.Operators, k)
		if err != nil || i < 0 {
			return usagef("--remove-operator %q is no operator of region %s", text, r.Name)
		}
		r.Operators = slices.Delete(r.Operators, i, i+1)
	}
	for _, text := range add {
		k, err := federation.ParseKey(text)
		if err != nil {
			return usagef("--add-operator %q: %w; `bizra keygen` prints it", text, err)
		}
		r.Operators = append(r.Operators, k)
	}
	slices.SortFunc(r.Operators, func(a, b federation.Key) int { return bytes.Compare(a[:], b[:]) })
	return nil
}

func newFederationAdoptCommand() *cobra.Command {
	c := &cobra.Command{Use: "adopt --document FILE --operator-key FILE", Short: "Put the next version of the federation document in force", Args: takes(),
		Long: `adopt submits a federation document with the proof, signed by an operator of the region, by which
the region adopts it. From the entry of that proof on, proofs are judged by the new
constitution and by the new operators; proofs that were signed under the old policy hash are
refused with the new one named. Every node of the region takes the document into its home.

It must be the version after the one in force, of the same federation, with the same regions
and keys; constitution, operators, addresses and markets may differ. A document cannot be taken back:
amend it and adopt the next.`,
		Example: `  bizra federation amend federation.json --constitution policy.yaml --out federation-2.json
  bizra federation adopt --document federation-2.json --operator-key operators/eu.key`,
		RunE: runFederationAdopt}
	addOperatorFlags(c)
	c.Flags().String("document", "", "`file` of the federation document to adopt")
	return c
}

func runFederationAdopt(cmd *cobra.Command, _ []string) error {
	path, err := need(cmd, "document", "name the federation document to adopt; `bizra federation amend` makes one")
	if err != nil {
		return err
	}
	next, err := readDocument(path)
	if err != nil {
		return err
	}
	c, err := dial(cmd, submitRetriesMax)
	if err != nil {
		return err
	}
	defer c.Close()
	f, err := c.Federation(cmd.Context())
	if err != nil {
		return explained(cmd, err)
	}
	was, err := federation.Parse(f.Document)
	if err != nil {
		return fmt.Errorf("the node's federation document: %w", err)
	}
	if was.Digest() == next.Digest() {
		note(cmd, "%s is in force already", path)
		s := summarise(next)
		return show(cmd, s, s.writeTo)
	}
	if err := was.CheckSuccessor(next); err != nil {
		return fmt.Errorf("%s cannot be adopted: %w", path, err)
	}
	digest := fmt.Sprintf("%x", next.Digest())
	r, err := operateBy(cmd.Context(), cmd, c, fsm.ActionFederationAdopt, map[string]any{"version": next.Version, "digest": digest},
		func(ctx context.Context, env *pci.Envelope) (*client.Receipt, error) {
			return c.Adopt(ctx, next.Canonical(), env.Canonical())
		})
	if err != nil {
		return err
	}
	return done(cmd, r, "version %d of the federation document is in force, policy hash %s", next.Version, next.Constitution.PolicyHash())
}
