package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/pci"
)

func newKeygenCommand() *cobra.Command {
	c := &cobra.Command{Use: "keygen --out FILE", Short: "Make a key for an agent or an operator", Args: takes(),
		Long: `keygen makes an Ed25519 key, writes it to a new file that only you may read
(PKCS #8, PEM, as openssl reads and writes it) and prints the public key.`,
		Example: "  bizra keygen --out agent.key",
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, err := need(cmd, "out", "name the file for the new key")
			if err != nil {
				return err
			}
			key, err := pci.GenerateKey()
			if err != nil {
				return err
			}
			if err := saveKey(key, out); err != nil {
				return err
			}
			public := federation.Key(key.Public()).String()
			return show(cmd, map[string]string{"file": out, "public_key": public}, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, public)
				return err
			})
		}}
	c.Flags().String("out", "", "file for the new key; it must not exist")
	return c
}

func saveKey(key *pci.PrivateKey, path string) error {
	err := key.Save(path)
	switch {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s is there already and is left as it is: choose another name, or move it away if nothing needs it any more", path)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the folder of %s does not exist: make it first (%w)", path, err)
	}
	return err
}

// loadKey reads the key file that a flag names.
func loadKey(cmd *cobra.Command, flag, what string) (*pci.PrivateKey, error) {
	path, err := need(cmd, flag, what)
	if err != nil {
		return nil, err
	}
	key, err := pci.LoadKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("--%s: there is no file %s: `bizra keygen --out FILE` makes an agent's key, `bizra federation new` those of operators", flag, path)
	}
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	return key, nil
}
