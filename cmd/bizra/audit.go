package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/client/audit"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/store/pebblestore"
)

// auditRetriesMax is how often a request is repeated: a long audit sits out a restart.
const auditRetriesMax = 12

func newAuditCommand() *cobra.Command {
	c := &cobra.Command{Use: "audit --from URL", Short: "Check a region's whole ledger: execute it again and hold it against its certificates", Args: takes(),
		Long: `audit reads every entry of a region's ledger from a node, checks that it is in the certified tree
and that the proof in it is signed, executes it again, and at each certificate compares the
root, the state, the time and the signatures. It says which entry, tile or certificate is wrong.

What it shows hangs on the federation document: give the one that you trust as --federation,
else the node's word is taken for it. Entries need a reader token where the region has not opened
them (bizra token). With --dir what was executed is kept, and the next audit goes on there, after an
interruption too; without, it is kept nowhere.

Exit codes: 0 the ledger is valid, 3 it is not, 1 it could not be checked.`,
		Example: `  bizra audit --from http://127.0.0.1:8420 --federation federation.json --dir audit-eu
  bizra audit --from http://10.0.0.7:8420 --federation federation.json --token "$(bizra token --key reader.key --origin demo/eu)" --json`,
		RunE: runAudit}
	c.Flags().StringSlice("from", nil, "URL of a node, or several of one region, to be asked in turn")
	c.Flags().String("federation", "", "federation document that you trust (file)")
	c.Flags().String("dir", "", "folder to keep what was executed, and to go on with")
	c.Flags().String("token", "", "reader token (default: $BIZRA_READER_TOKEN)")
	return c
}

// auditReport is what `bizra audit --json` prints.
type auditReport struct {
	Valid          bool       `json:"valid"`
	Found          string     `json:"found,omitempty"` // what is wrong
	Federation     string     `json:"federation"`
	Region         string     `json:"region"`
	Entries        int64      `json:"entries"`
	Resumed        int64      `json:"resumed"`
	Certificates   int64      `json:"certificates"`
	Certified      *certified `json:"certified,omitempty"`
	Document       int64      `json:"document,omitempty"`
	DocumentDigest string     `json:"document_digest,omitempty"`
	Trusted        bool       `json:"document_trusted"` // it is the auditor's, or came of that
}

func runAudit(cmd *cobra.Command, _ []string) (err error) {
	urls, err := cmd.Flags().GetStringSlice("from")
	if err != nil {
		return err
	}
	if len(urls) == 0 {
		return usagef("--from is missing: the URL of a node of the region")
	}
	cfg := audit.Config{Token: cmd.Flags().Lookup("token").Value.String()}
	if cfg.Token == "" {
		cfg.Token = os.Getenv("BIZRA_READER_TOKEN")
	}
	if path := cmd.Flags().Lookup("federation").Value.String(); path != "" {
		if cfg.Document, err = readDocument(path); err != nil {
			return err
		}
	}
	source, err := client.New(client.Config{URLs: urls, RetriesMax: auditRetriesMax, Stale: true, UserAgent: "bizra/" + programVersion()})
	if err != nil {
		return &usageError{err}
	}
	defer source.Close()
	cfg.Source = source
	dir := cmd.Flags().Lookup("dir").Value.String()
	if dir == "" {
		if dir, err = os.MkdirTemp("", "bizra-audit-"); err != nil {
			return fmt.Errorf("make a folder for the audit: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	st, err := pebblestore.Open(dir, pebblestore.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("open the folder of the audit: %w", err)
	}
	cfg.Store = st
	bar := newProgress(cmd, "auditing", -1, false)
	cfg.Progress = bar.of
	report, err := audit.Run(cmd.Context(), cfg)
	bar.done()
	err = errors.Join(err, st.Sync(), st.Close())
	return showAudit(cmd, &report, cfg.Document, err)
}

// showAudit prints what was found. What could not be checked is an error alone.
func showAudit(cmd *cobra.Command, found *audit.Report, own *federation.Document, err error) error {
	if err != nil && !errors.Is(err, audit.ErrNotValid) {
		if op := explained(cmd, err); found.Entries > 0 {
			return fmt.Errorf("after %d entries: %w", found.Entries, op)
		}
		return err
	}
	r := auditReport{Valid: err == nil, Federation: found.Federation, Region: found.Region, Entries: found.Entries, Resumed: found.Resumed,
		Certificates: found.Certificates, Trusted: own != nil}
	if err != nil {
		r.Found = err.Error()
	}
	if d := found.Document; d != nil {
		r.Document, r.DocumentDigest = d.Version, fmt.Sprintf("%x", d.Digest())
	}
	if c := found.Certified; c != nil {
		r.Certified = certifiedOf(&c.Checkpoint, c.Cosigners)
	}
	return errors.Join(show(cmd, r, r.writeTo), err)
}

func (r auditReport) writeTo(w io.Writer) error {
	fmt.Fprintf(w, "region %s of %s: %d entries executed again, %d of them by earlier audits; %d certificates checked\n", r.Region, r.Federation, r.Entries, r.Resumed, r.Certificates)
	if c := r.Certified; c != nil {
		fmt.Fprintf(w, "certified: %d entries, root %s, state %s, cosigned by %v\n", c.Size, c.Root, c.State, c.Cosigners)
	}
	if r.Document > 0 {
		whose := "AS THE NODE SAYS: give the one that you trust as --federation"
		if r.Trusted {
			whose = "yours, or one that came of it"
		}
		fmt.Fprintf(w, "federation document: version %d, digest %s, %s\n", r.Document, r.DocumentDigest, whose)
	}
	says := "NOT VALID"
	if r.Valid {
		says = "valid"
	}
	_, err := fmt.Fprintln(w, says)
	return err
}
