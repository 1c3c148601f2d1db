package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/fsm/federation"
)

func newFederationCommand() *cobra.Command {
	return group("federation", "Make federation documents and homes of nodes, look at documents, change them, invite members", "",
		`  bizra federation new --name demo --regions eu --voters 3 --out demo
  bizra federation check demo/federation.json`,
		newFederationNewCommand(), newFederationShowCommand(), newFederationCheckCommand(), newFederationAmendCommand(), newFederationAdoptCommand(), newFederationInviteCommand())
}

// readDocument reads and checks a federation document.
func readDocument(path string) (*federation.Document, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no file %s: `bizra federation new` makes a federation document and names it federation.json (%w)", path, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("read the federation document: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file: name the federation document itself, such as %s/federation.json", path, path)
	}
	if info.Size() > federation.DocumentBytesMax {
		return nil, fmt.Errorf("%s has %d bytes: a federation document has at most %d", path, info.Size(), federation.DocumentBytesMax)
	}
	text, err := os.ReadFile(path) //nolint:gosec // the file that the command line names
	if err != nil {
		return nil, fmt.Errorf("read the federation document: %w", err)
	}
	d, err := federation.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// documentSummary is what people compare of a document.
type documentSummary struct {
	Name            string `json:"name"`
	Version         int64  `json:"version"`
	Digest          string `json:"digest"`
	PolicyHash      string `json:"policy_hash"`
	Regions         int    `json:"regions"`
	Quorum          int    `json:"quorum"`
	FaultsTolerated int    `json:"faults_tolerated"`
}

func summarise(d *federation.Document) documentSummary {
	n := len(d.Regions)
	return documentSummary{Name: d.Name, Version: d.Version, Digest: fmt.Sprintf("%x", d.Digest()), PolicyHash: d.Constitution.PolicyHash(),
		Regions: n, Quorum: federation.Quorum(n), FaultsTolerated: federation.FaultsTolerated(n)}
}

func (s documentSummary) writeTo(w io.Writer) error {
	_, err := fmt.Fprintf(w, "federation   %s, version %d\ndigest       %s\npolicy_hash  %s\nregions      %d, of which %d make a certificate; %d may be faulty\n",
		s.Name, s.Version, s.Digest, s.PolicyHash, s.Regions, s.Quorum, s.FaultsTolerated)
	return err
}

func newFederationShowCommand() *cobra.Command {
	return &cobra.Command{Use: "show FILE", Short: "Show what a federation document says", Args: takes("a federation document"),
		Example: "  bizra federation show demo/federation.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := readDocument(args[0])
			if err != nil {
				return err
			}
			if asJSON(cmd) {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", d.Canonical())
				return err
			}
			if err := summarise(d).writeTo(cmd.OutOrStdout()); err != nil {
				return err
			}
			return printRegions(cmd.OutOrStdout(), d)
		}}
}

func printRegions(out io.Writer, d *federation.Document) error {
	c := d.Constitution
	fmt.Fprintf(out, "constitution ihsan_score ≥ %v, snr_score ≥ %v, FATE ≥ %v by %s, %d deny rules, timestamps within %v, open registration %v\n",
		c.Thresholds.IhsanMin, c.Thresholds.SNRMin, c.Thresholds.FateMin, c.Composite.Rule, len(c.Rules),
		time.Duration(c.Thresholds.TimestampWindowMillis)*time.Millisecond, c.Limits.OpenRegistration)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, r := range d.Regions {
		fmt.Fprintf(w, "\nregion %s\n  log key\t%v\n  cosign key\t%v\n", r.Name, r.LogKey, r.CosignKey)
		for _, k := range r.Operators {
			fmt.Fprintf(w, "  operator\t%v\n", k)
		}
		for _, v := range r.Voters {
			fmt.Fprintf(w, "  voter %s\t%v\t%v\n", v.Name, v.NodeKey, v.Addresses)
		}
		if r.Market != nil {
			fmt.Fprintf(w, "  market\t%s\n", describeMarket(r.Market))
		}
	}
	return w.Flush()
}

func newFederationCheckCommand() *cobra.Command {
	c := &cobra.Command{Use: "check FILE", Short: "Check a federation document, and its digest if given", Args: takes("a federation document"),
		Example: "  bizra federation check federation.json --digest 3f0c…",
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := readDocument(args[0])
			if err != nil {
				return err
			}
			s := summarise(d)
			want, err := cmd.Flags().GetString("digest")
			if err != nil {
				return err
			}
			if want != "" && want != s.Digest {
				return fmt.Errorf("%s is sound, but it is another document: its digest is %s, not %s", args[0], s.Digest, want)
			}
			return show(cmd, s, s.writeTo)
		}}
	c.Flags().String("digest", "", "digest that the document must have, 64 hexadecimal digits, from a source that you trust")
	return c
}
