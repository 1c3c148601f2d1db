package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/node"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

func newFederationInviteCommand() *cobra.Command {
	c := &cobra.Command{Use: "invite --federation FILE --operator-key FILE (--out DIR | --node-key KEY)",
		Short: "Let a node that the document does not list follow a region as a member", Args: takes(),
		Long: `invite signs, with an operator key, the statement that a node belongs to the operator's region.

With --out it makes a key and a home for a new member. With --node-key it only prints the
invitation for a node that has its key already: save it in that node's home as invitation.json.
A member follows the region, answers reads and forwards proofs; it does not vote.`,
		Example: `  bizra federation invite --federation demo/federation.json --operator-key demo/operators/eu.key --name eu-reader --out eu-reader
  bizra federation invite --federation demo/federation.json --operator-key demo/operators/eu.key --node-key 12D3KooW… > invitation.json`,
		RunE: runInvite}
	c.Flags().String("federation", "", "the federation document")
	c.Flags().String("operator-key", "", "key file of an operator of the region")
	c.Flags().String("out", "", "home to make for the new member; it must not exist")
	c.Flags().String("node-key", "", "peer ID or public key of a node that has its key already")
	c.Flags().String("name", "", "the new member's name (default: the name of the folder)")
	c.Flags().Duration("valid", 365*24*time.Hour, "how long the invitation holds")
	return c
}

func runInvite(cmd *cobra.Command, _ []string) error {
	path, err := need(cmd, "federation", "name the federation document")
	if err != nil {
		return err
	}
	operator, err := loadKey(cmd, "operator-key", "name the key file of an operator of the region")
	if err != nil {
		return err
	}
	out, given := cmd.Flags().Lookup("out").Value.String(), cmd.Flags().Lookup("node-key").Value.String()
	if (out == "") == (given == "") {
		return usagef("give either --out, to make a home for a new member, or --node-key, for a node that has its key")
	}
	valid, err := cmd.Flags().GetDuration("valid")
	if err != nil {
		return err
	}
	if valid <= 0 {
		return usagef("--valid %v: it must be above 0", valid)
	}
	d, err := readDocument(path)
	if err != nil {
		return err
	}
	region := ""
	for i := range d.Regions {
		if d.Regions[i].IsOperator(operator.Public()) {
			region = d.Regions[i].Name
		}
	}
	if region == "" {
		return fmt.Errorf("--operator-key: %v is not an operator of any region of %s: use the key of one that the document lists", federation.Key(operator.Public()), d.Name)
	}
	inv := p2p.Invitation{Federation: d.Name, Region: region, Role: p2p.RoleMember, ExpiresMillis: time.Now().Add(valid).UnixMilli()}
	if out != "" {
		return inviteNew(cmd, d, inv, operator, out)
	}
	id, err := p2p.ParseNode(given)
	if err == nil {
		inv.Node, err = p2p.NodeKey(id)
	}
	if err != nil {
		return usagef("--node-key: %w", err)
	}
	if inv, err = p2p.SignInvitation(inv, operator); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", inv.Canonical())
	return err
}

func inviteNew(cmd *cobra.Command, d *federation.Document, inv p2p.Invitation, operator *pci.PrivateKey, dir string) (err error) {
	name := cmd.Flags().Lookup("name").Value.String()
	if name == "" {
		name = filepath.Base(dir)
	}
	key, err := pci.GenerateKey()
	if err != nil {
		return err
	}
	inv.Node = key.Public()
	if inv, err = p2p.SignInvitation(inv, operator); err != nil {
		return err
	}
	if err := makeNewDir(dir); err != nil {
		return err
	}
	who := node.Identity{Version: 1, Name: name, Region: inv.Region, Role: node.RoleMember}
	err = writeHome(dir, who, map[string]*pci.PrivateKey{node.FileNodeKey: key}, append(d.Canonical(), '\n'))
	if err == nil {
		err = writeNew(filepath.Join(dir, node.FileInvitation), append(inv.Canonical(), '\n'), homeFileMode)
	}
	if err == nil {
		err = syncDirs(dir, filepath.Dir(dir))
	}
	if err != nil {
		_ = os.RemoveAll(dir) // the first error is the one to tell
		return fmt.Errorf("make the home of %s: %w", name, err)
	}
	expires := time.UnixMilli(inv.ExpiresMillis).UTC().Format(time.RFC3339)
	result := map[string]string{"home": dir, "name": name, "region": inv.Region, "node_key": inv.Node.String(), "expires": expires}
	return show(cmd, result, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: a member of region %s until %s\n\nStart it:  bizra node --home %s --join MULTIADDR-OF-ANY-NODE\n", dir, inv.Region, expires, dir)
		return err
	})
}
