package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
)

func newVerifyCommand() *cobra.Command {
	c := &cobra.Command{Use: "verify BUNDLE", Short: "Check a bundle against a federation document, offline", Args: takes("a bundle"),
		Long: `verify checks what a bundle says, step by step, with the federation document alone: no node is asked.
It says what was checked, against what, and what is known by it. BUNDLE may be - for standard input.
What it shows hangs on the document, so compare its digest with one from a source that you trust, or give it as --digest.

Exit codes: 0 the bundle is valid, 3 it is not, 1 it could not be checked.`,
		Example: `  bizra verify bundle.json --federation federation.json
  bizra verify bundle.json --federation federation.json --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := need(cmd, "federation", "the federation document that you trust")
			if err != nil {
				return err
			}
			doc, err := readDocument(path)
			if err != nil {
				return err
			}
			pinned, err := cmd.Flags().GetString("digest")
			if err != nil {
				return err
			}
			if got := fmt.Sprintf("%x", doc.Digest()); pinned != "" && pinned != got {
				return fmt.Errorf("%s is not the document that you trust: its digest is %s, not %s", path, got, pinned)
			}
			text, err := readBundle(cmd, args[0])
			if err != nil {
				return err
			}
			return verify(cmd, text, doc)
		}}
	c.Flags().String("federation", "", "federation document (file)")
	c.Flags().String("digest", "", "digest that the document must have, 64 hexadecimal digits")
	return c
}

// readBundle reads a bundle's text, whatever it says.
func readBundle(cmd *cobra.Command, path string) ([]byte, error) {
	in := cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path) //nolint:gosec // the file that the command line names
		if err != nil {
			return nil, fmt.Errorf("read the bundle: %w", err)
		}
		defer f.Close()
		in = f
	}
	// One byte more than a bundle may have shows that there is more.
	text, err := io.ReadAll(io.LimitReader(in, certificate.BundleBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("read the bundle: %w", err)
	}
	return text, nil
}

// verdict is what `bizra verify --json` prints.
type verdict struct {
	Valid          bool               `json:"valid"`
	Federation     string             `json:"federation"`
	Document       int64              `json:"document"`
	DocumentDigest string             `json:"document_digest"`
	Certified      *certified         `json:"certified,omitempty"`
	Steps          []certificate.Step `json:"steps"`
}

// certified is the checkpoint that a quorum stands behind.
type certified struct {
	Origin     string   `json:"origin"`
	Size       int64    `json:"size"`
	Root       string   `json:"root"`
	State      string   `json:"state"`
	TimeMillis int64    `json:"time_ms"`
	Cosigners  []string `json:"cosigners"`
}

func certifiedOf(c *checkpoint.Checkpoint, cosigners []string) *certified {
	return &certified{Origin: c.Origin, Size: c.Size, Root: hex.EncodeToString(c.Root[:]), State: hex.EncodeToString(c.State[:]),
		TimeMillis: c.TimeMillis, Cosigners: append([]string{}, cosigners...)}
}

func verify(cmd *cobra.Command, text []byte, doc *federation.Document) error {
	found := certificate.VerifyBundle(text, doc)
	digest := doc.Digest()
	v := verdict{Valid: found.Valid(), Federation: doc.Name, Document: doc.Version, DocumentDigest: hex.EncodeToString(digest[:]), Steps: found.Steps}
	if c := found.Checkpoint; c != nil {
		v.Certified = certifiedOf(c, found.Cosigners)
	}
	if err := show(cmd, v, v.writeTo); err != nil {
		return err
	}
	return found.Err()
}

func (v verdict) writeTo(out io.Writer) error {
	for _, s := range v.Steps {
		if _, err := fmt.Fprintf(out, "%s: %s\n  checked  %s\n  against  %s\n  result   %s\n", s.Name, s.Status, s.Checked, s.Against, s.Result); err != nil {
			return err
		}
	}
	says := "NOT VALID"
	if v.Valid {
		says = "valid"
	}
	_, err := fmt.Fprintf(out, "%s, by federation document %s, version %d, digest %s\n", says, v.Federation, v.Document, v.DocumentDigest)
	return err
}
