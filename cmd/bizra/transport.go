package main

import (
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
)

// newSubmission decides by the form of --node how proofs travel.
func newSubmission(cmd *cobra.Command, signer client.Signer) (*submission, error) {
	s := &submission{out: cmd.OutOrStdout(), signer: signer, heads: map[string]string{}, waiting: map[string]bool{}}
	var err error
	if s.signOnly, err = cmd.Flags().GetBool("sign-only"); err != nil {
		return nil, err
	}
	if path := cmd.Flags().Lookup("federation").Value.String(); path != "" {
		d, err := readDocument(path)
		if err != nil {
			return nil, err
		}
		s.context = &client.Context{PolicyHash: d.Constitution.PolicyHash()}
		if len(d.Regions) == 1 {
			s.context.Region = d.Regions[0].Name
		}
	}
	nodes, err := targets(cmd)
	if err != nil {
		return nil, err
	}
	if s.until, err = waitOf(cmd); err != nil {
		return nil, err
	}
	if isMultiaddr(nodes) {
		if s.until.finality == client.FinalityAttested {
			return nil, usagef("--wait attested: give an http:// URL as --node: over libp2p a node tells no more of a proof than that it is committed")
		}
		err := s.overStream(cmd, nodes[0])
		return s, err
	}
	first, err := dial(cmd, readRetriesMax)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, first.Close)
	if !s.signOnly || s.context == nil {
		// A person who named the wrong address wants to know at once; an election later on is sat out.
		if _, err := first.Status(cmd.Context()); err != nil {
			return nil, explained(cmd, err)
		}
	}
	patient, err := dial(cmd, submitRetriesMax)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, patient.Close)
	s.to, s.region = patient, patient
	return s, nil
}

// overStream sends over libp2p, to nodes that have no HTTP address to reach them at.
func (s *submission) overStream(cmd *cobra.Command, multiaddr string) error {
	if s.signOnly {
		return nil
	}
	key := s.signer.Key // nodes take proofs from the keys of registered agents
	if cmd.Flags().Changed("node-key") {
		var err error
		if key, err = loadKey(cmd, "node-key", "name the key file of a node"); err != nil {
			return err
		}
	}
	to, err := dialStream(cmd.Context(), multiaddr, key)
	if err != nil {
		return err
	}
	s.to = to
	s.closers = append(s.closers, to.close)
	return nil
}

const progressThrottle = 100 * time.Millisecond

// progress shows on a terminal how far something has come.
type progress struct{ bar *progressbar.ProgressBar }

// newProgress makes the bar of so many items, or bytes; -1: it is not known how many.
func newProgress(cmd *cobra.Command, what string, size int64, bytes bool) *progress {
	f, ok := cmd.ErrOrStderr().(*os.File)
	if !ok {
		return &progress{}
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 || os.Getenv("TERM") == "dumb" {
		return &progress{}
	}
	return &progress{progressbar.NewOptions64(size, progressbar.OptionSetWriter(f), progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(bytes), progressbar.OptionShowCount(), progressbar.OptionThrottle(progressThrottle), progressbar.OptionClearOnFinish())}
}

func (p *progress) at(offset int64) {
	if p.bar != nil {
		_ = p.bar.Set64(offset) // a terminal that does not take it is no reason to stop
	}
}

// of is at for a total that is known by now.
func (p *progress) of(done, total int64) {
	if p.bar != nil && p.bar.GetMax64() != total {
		p.bar.ChangeMax64(total)
	}
	p.at(done)
}

func (p *progress) done() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
