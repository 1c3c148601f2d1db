package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm/federation"
)

func newTokenCommand() *cobra.Command {
	c := &cobra.Command{Use: "token --key FILE --origin FEDERATION/REGION", Short: "Make a token that reads a region's entries", Args: takes(),
		Long: `token makes a reader token: who sends it as "Authorization: Bearer TOKEN" reads the
entries of the region's ledger, payloads included, until it expires. The key must be
one that the region's nodes were given with --reader. No node is asked.`,
		Example: `  bizra token --key reader.key --origin demo/eu --valid 1h
  curl -H "Authorization: Bearer $(bizra token --key reader.key --origin demo/eu)" http://127.0.0.1:8420/tile/entries/000`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := loadKey(cmd, "key", "the reader key")
			if err != nil {
				return err
			}
			origin, err := need(cmd, "origin", "the region whose entries are to be read, such as demo/eu")
			if err != nil {
				return err
			}
			if name, region, _ := strings.Cut(origin, "/"); !federation.IsName(name) || !federation.IsName(region) {
				return usagef("--origin %q: it must be FEDERATION/REGION, such as demo/eu", origin)
			}
			valid, err := cmd.Flags().GetDuration("valid")
			if err != nil {
				return err
			}
			if valid < time.Second || valid > client.ReaderTokenLongest {
				return usagef("--valid %v: it must be from 1s to %v", valid, client.ReaderTokenLongest)
			}
			expires := time.Now().Add(valid)
			token := client.ReaderToken(key, origin, expires)
			return show(cmd, map[string]string{"token": token, "expires": expires.UTC().Format(time.RFC3339)}, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, token)
				return err
			})
		}}
	c.Flags().String("key", "", "reader key (file)")
	c.Flags().String("origin", "", "region whose entries are to be read: FEDERATION/REGION")
	c.Flags().Duration("valid", time.Hour, "how long the token holds, at most a week")
	return c
}
