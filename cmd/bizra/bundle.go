package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/consensus/certificate"
)

const (
	waitDefault = 30 * time.Second
	waitMax     = 24 * time.Hour
)

func newBundleCommand() *cobra.Command {
	c := &cobra.Command{Use: "bundle DIGEST|--session ID", Short: "Take away a proof, or where a session stands, to check it offline",
		Long: `bundle gets what somebody keeps of a proof: its entry in the ledger, the path from it to the
root, and the certificate in which a quorum of the regions vouches for that root. DIGEST is
the digest of the proof's envelope, or its envelope_id. With --session it gets what the certified state holds of a session
instead: its tips at that checkpoint.

Nothing but the federation document is needed to check it: bizra verify. An entry has a bundle
once a certificate covers it; --wait waits for that.`,
		Example: `  bizra bundle 7564d2… --wait --out bundle.json
  bizra bundle --session build-17 > session.json
  bizra verify bundle.json --federation federation.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch session := cmd.Flags().Changed("session"); {
			case len(args) > 1, len(args) == 1 && session:
				return usagef("%s takes one digest, or --session", cmd.CommandPath())
			case len(args) == 0 && !session:
				return usagef("%s: name a proof by its digest, or a session with --session", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := getBundle(cmd, args)
			if err != nil {
				return err
			}
			if _, err := certificate.ParseBundle(text); err != nil {
				return fmt.Errorf("what the node sent is no bundle: %w", err)
			}
			path, err := cmd.Flags().GetString("out")
			if err != nil {
				return err
			}
			text = append(bytes.TrimSpace(text), '\n')
			if path == "" || path == "-" {
				_, err := cmd.OutOrStdout().Write(text)
				return err
			}
			if err := os.WriteFile(path, text, 0o600); err != nil {
				return fmt.Errorf("write the bundle: %w", err)
			}
			note(cmd, "wrote %s: check it with `bizra verify %s --federation FILE`", path, path)
			return nil
		}}
	readFlags(c)
	c.Flags().String("session", "", "a session, instead of a proof")
	c.Flags().String("out", "", "file to write (default: standard output)")
	c.Flags().Bool("wait", false, "wait until a certificate covers it")
	addWaitTimeout(c)
	return c
}

func addWaitTimeout(c *cobra.Command) {
	c.Flags().Duration("wait-timeout", waitDefault, "how long to wait")
}

// waitTimeout is for how long a command is to wait.
func waitTimeout(cmd *cobra.Command) (time.Duration, error) {
	d, err := cmd.Flags().GetDuration("wait-timeout")
	if err == nil && (d <= 0 || d > waitMax) {
		err = usagef("--wait-timeout %v: it must be above 0 and at most %v", d, waitMax)
	}
	return d, err
}

// addWaitFlags is for commands that submit.
func addWaitFlags(c *cobra.Command) {
	c.Flags().String("wait", client.FinalityCommitted, "until when to wait: committed (on a majority of the region's disks) or attested (executed by a quorum of the regions)")
	addWaitTimeout(c)
}

// waiting is what a command waits for.
type waiting struct {
	finality string
	timeout  time.Duration
	failed   error // why it was not reached; nothing is waited for after that
}

func waitOf(cmd *cobra.Command) (*waiting, error) {
	w := &waiting{finality: cmd.Flags().Lookup("wait").Value.String()}
	if w.finality != client.FinalityCommitted && w.finality != client.FinalityAttested {
		return nil, usagef("--wait %q: it must be %s or %s", w.finality, client.FinalityCommitted, client.FinalityAttested)
	}
	var err error
	w.timeout, err = waitTimeout(cmd)
	return w, err
}

// await gives the receipt once its entry has come as far as is waited for, or as it is when the
// time is over.
func (w *waiting) await(ctx context.Context, c *client.Client, r *client.Receipt) *client.Receipt {
	if w.failed != nil || w.finality != client.FinalityAttested || r.Index == nil {
		return r
	}
	limited, cancel := context.WithTimeoutCause(ctx, w.timeout, fmt.Errorf("it took longer than %v", w.timeout))
	defer cancel()
	later, err := c.Await(limited, r.Digest, w.finality)
	switch {
	case errors.Is(err, client.ErrNotYet) && ctx.Err() == nil:
		w.failed = fmt.Errorf("not attested within %v: %s; `bizra bundle %s --wait` waits on", w.timeout, whyNotAttested(ctx, c), r.Digest)
	case err != nil:
		w.failed = err
	}
	if later == nil {
		return r
	}
	return later
}

func getBundle(cmd *cobra.Command, args []string) ([]byte, error) {
	wait, err := cmd.Flags().GetBool("wait")
	if err != nil {
		return nil, err
	}
	limit, err := waitTimeout(cmd)
	if err != nil {
		return nil, err
	}
	c, err := dial(cmd, readRetriesMax)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ctx, cancel := patiently(cmd, limit)
	defer cancel()
	var text []byte
	session := cmd.Flags().Lookup("session").Value.String()
	if cmd.Flags().Changed("session") {
		if text, err = c.SessionBundle(ctx, session, wait); errors.Is(err, client.ErrNotFound) {
			return nil, notFound(cmd, session, err)
		}
	} else if text, err = c.Bundle(ctx, args[0], wait); errors.Is(err, client.ErrNotFound) {
		return nil, fmt.Errorf("the region has no entry of a proof %s: a proof that was refused before the Ihsan gate leaves none", args[0])
	}
	if errors.Is(err, client.ErrNotYet) {
		return nil, fmt.Errorf("no certificate covers it yet: %s", whyNotAttested(cmd.Context(), c))
	}
	return text, explained(cmd, err)
}

// whyNotAttested says what is known of why a region's ledger is not certified further.
func whyNotAttested(ctx context.Context, c *client.Client) string {
	ctx, cancel := context.WithTimeout(ctx, waitDefault)
	defer cancel()
	const stays = "what is committed stays committed, and is attested once a quorum of the regions has executed it"
	s, err := c.Status(ctx)
	switch {
	case err != nil:
		return stays
	case s.Local != nil && s.Local.Local:
		return fmt.Sprintf("no other region is heard since %s; %s", s.Local.Since, stays)
	case s.Attestation.Evidence:
		return "there is evidence that this region signed two things that cannot both be true, so others do not vote for it"
	case len(s.Attestation.Missing) > 0:
		return fmt.Sprintf("%d seals wait for %d votes each, and of %v votes are missing; %s", s.Attestation.Waiting, s.Attestation.Needed, s.Attestation.Missing, stays)
	}
	return stays
}
