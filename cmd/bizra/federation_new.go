package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/node"
	"github.com/bizra/bizra/pci"
)

const (
	homeMode     = 0o700
	homeFileMode = 0o600
)

// founding stands in the file of that name, for who comes across it.
const foundingText = `This home may found its region, once. The node deletes this file before its first vote.
Do not copy it, keep it or put it back: a voter whose disk was lost is replaced with "bizra voter replace".
`

func newFederationNewCommand() *cobra.Command {
	c := &cobra.Command{Use: "new --name NAME --regions A,B,… --out DIR", Short: "Make a federation: its document, its keys, a home for each node", Args: takes(),
		Long: `new writes to a new folder:

  federation.json          the federation document, which everybody may have
  <region>-<i>/            the home of each voter: hand it to the machine that runs it
  operators/<region>.key   each region's operator key: keep it offline`,
		Example: `  bizra federation new --name demo --regions eu --voters 3 --out demo
  bizra federation new --name agents --regions eu,us,ap,af --voters 3 --out agents \
      --address eu-1=/dns4/eu1.example.org/tcp/4001 --address eu-2=/dns4/eu2.example.org/tcp/4001`,
		RunE: runFederationNew}
	c.Flags().String("name", "", "name of the federation: a-z, 0-9, '.' and '-'")
	c.Flags().StringSlice("regions", nil, "names of the regions")
	c.Flags().Int("voters", 3, "voters of each region: 1, 3 or 5")
	c.Flags().String("out", "", "folder to make; it must not exist")
	c.Flags().StringArray("address", nil, "NODE=MULTIADDR without /p2p, where a voter can be reached; may be repeated")
	c.Flags().String("constitution", "", "`file` of the constitution in YAML; without it the default one")
	c.Flags().Bool("open-registration", false, "register an unknown agent by its first accepted proof, whatever the constitution says; for demonstrations")
	addMarketFlags(c)
	return c
}

// newFederation is a federation on its way to disk.
type newFederation struct {
	doc       federation.Document
	operators map[string]*pci.PrivateKey // by region
	homes     []newHome
}

type newHome struct {
	name, region              string
	nodeKey, logKey, cosigner *pci.PrivateKey
}

func runFederationNew(cmd *cobra.Command, _ []string) error {
	out, err := need(cmd, "out", "name the folder to make")
	if err != nil {
		return err
	}
	f, err := plan(cmd)
	if err != nil {
		return err
	}
	if err := f.write(out); err != nil {
		return err
	}
	s := summarise(&f.doc)
	if s.FaultsTolerated == 0 {
		note(cmd, "warning: %d region(s) tolerate no faulty one: a certificate needs all of them. 4 regions are the fewest that tolerate one.", s.Regions)
	}
	var homes []string
	for _, h := range f.homes {
		homes = append(homes, filepath.Join(out, h.name))
	}
	result := struct {
		documentSummary
		Document string   `json:"document"`
		Homes    []string `json:"homes"`
	}{s, filepath.Join(out, node.FileDocument), homes}
	return show(cmd, result, func(w io.Writer) error {
		if err := s.writeTo(w); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "document     %s\nhomes        %s\noperators    %s: keep these keys offline\n\nStart a node:  bizra node --home %s\n",
			result.Document, strings.Join(homes, " "), filepath.Join(out, "operators"), homes[0])
		return err
	})
}

// plan makes document and keys, and checks all of it before anything is written.
func plan(cmd *cobra.Command) (*newFederation, error) {
	name, err := need(cmd, "name", "name the federation")
	if err != nil {
		return nil, err
	}
	regions, err := cmd.Flags().GetStringSlice("regions")
	if err != nil {
		return nil, err
	}
	if len(regions) == 0 {
		return nil, usagef("--regions is missing: name at least one region, such as --regions eu")
	}
	voters, err := cmd.Flags().GetInt("voters")
	if err != nil {
		return nil, err
	}
	if voters != 1 && voters != 3 && voters != 5 {
		return nil, usagef("--voters %d: a region is founded with 1, 3 or 5", voters)
	}
	if len(regions) > federation.RegionsMax {
		return nil, usagef("--regions names %d regions: at most %d", len(regions), federation.RegionsMax)
	}
	addresses, err := addressesByNode(cmd)
	if err != nil {
		return nil, err
	}
	f := &newFederation{operators: map[string]*pci.PrivateKey{}}
	law, err := chosenConstitution(cmd)
	if err != nil {
		return nil, err
	}
	f.doc = federation.Document{Version: 1, Name: name, Constitution: *law}
	rules, err := marketOf(cmd, nil)
	if err != nil {
		return nil, err
	}
	slices.Sort(regions)
	for _, r := range regions {
		if err := f.addRegion(r, voters, addresses); err != nil {
			return nil, err
		}
		f.doc.Regions[len(f.doc.Regions)-1].Market = rules
	}
	for n := range addresses {
		if !slices.ContainsFunc(f.homes, func(h newHome) bool { return h.name == n }) {
			return nil, usagef("--address names node %q: the nodes are %s-1 and so on", n, regions[0])
		}
	}
	if err := f.doc.Check(); err != nil {
		return nil, &usageError{err}
	}
	return f, nil
}

// chosenConstitution is what the command line names, or the default.
func chosenConstitution(cmd *cobra.Command) (*constitution.Constitution, error) {
	path, err1 := cmd.Flags().GetString("constitution")
	open, err2 := cmd.Flags().GetBool("open-registration")
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	law, err := constitution.Default()
	if path != "" {
		law, err = readConstitution(cmd, path)
	}
	if err != nil {
		return nil, err
	}
	law.Limits.OpenRegistration = law.Limits.OpenRegistration || open
	return law, nil
}

func addressesByNode(cmd *cobra.Command) (map[string][]string, error) {
	given, err := cmd.Flags().GetStringArray("address")
	if err != nil {
		return nil, err
	}
	addresses := map[string][]string{}
	for _, g := range given {
		n, a, ok := strings.Cut(g, "=")
		if !ok {
			return nil, usagef("--address %q: it must be NODE=MULTIADDR, such as eu-1=/ip4/192.0.2.1/tcp/4001", g)
		}
		if err := federation.CheckAddresses([]string{a}); err != nil {
			return nil, usagef("--address %q: %w", g, err)
		}
		addresses[n] = append(addresses[n], a)
	}
	return addresses, nil
}

func (f *newFederation) addRegion(name string, voters int, addresses map[string][]string) error {
	keys := make([]*pci.PrivateKey, 3+voters) // log, cosign, operator, then the voters'
	for i := range keys {
		var err error
		if keys[i], err = pci.GenerateKey(); err != nil {
			return err
		}
	}
	logKey, cosigner, operator := keys[0], keys[1], keys[2]
	r := federation.Region{Name: name, LogKey: logKey.Public(), CosignKey: cosigner.Public(), Operators: []federation.Key{operator.Public()}}
	f.operators[name] = operator
	for i, key := range keys[3:] {
		h := newHome{name: fmt.Sprintf("%s-%d", name, i+1), region: name, nodeKey: key, logKey: logKey, cosigner: cosigner}
		f.homes = append(f.homes, h)
		r.Voters = append(r.Voters, federation.Voter{Name: h.name, NodeKey: key.Public(), Addresses: addresses[h.name]})
	}
	f.doc.Regions = append(f.doc.Regions, r)
	return nil
}

// write makes the folder. Where it fails in the middle, nothing is left.
func (f *newFederation) write(dir string) (err error) {
	if err := makeNewDir(dir); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	document := append(f.doc.Canonical(), '\n')
	if err := writeNew(filepath.Join(dir, node.FileDocument), document, 0o644); err != nil {
		return err
	}
	operators := filepath.Join(dir, "operators")
	if err := os.Mkdir(operators, homeMode); err != nil {
		return fmt.Errorf("make the folder of operator keys: %w", err)
	}
	for name, key := range f.operators {
		if err := saveKey(key, filepath.Join(operators, name+".key")); err != nil {
			return err
		}
	}
	for _, h := range f.homes {
		if err := h.write(filepath.Join(dir, h.name), document); err != nil {
			return fmt.Errorf("make the home of %s: %w", h.name, err)
		}
	}
	return syncDirs(operators, dir, filepath.Dir(dir))
}

func (h *newHome) write(dir string, document []byte) error {
	if err := os.Mkdir(dir, homeMode); err != nil {
		return err
	}
	keys := map[string]*pci.PrivateKey{node.FileNodeKey: h.nodeKey, node.FileLogKey: h.logKey, node.FileCosignKey: h.cosigner}
	if err := writeHome(dir, node.Identity{Version: 1, Name: h.name, Region: h.region, Role: node.RoleVoter}, keys, document); err != nil {
		return err
	}
	// Last: a home that was not finished must not found a region.
	if err := writeNew(filepath.Join(dir, node.FileFounding), []byte(foundingText), homeFileMode); err != nil {
		return err
	}
	return syncDirs(dir)
}

func writeHome(dir string, who node.Identity, keys map[string]*pci.PrivateKey, document []byte) error {
	for name, key := range keys {
		if err := saveKey(key, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := writeNew(filepath.Join(dir, node.FileDocument), document, homeFileMode); err != nil {
		return err
	}
	text, err := json.Marshal(who)
	if err != nil {
		return err
	}
	return writeNew(filepath.Join(dir, node.FileNode), append(text, '\n'), homeFileMode)
}

// makeNewDir makes a folder that must not be there yet, and those above it.
func makeNewDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil { //nolint:gosec // only what the umask leaves; the folder itself is closed
		return fmt.Errorf("make the folder above %s: %w", dir, err)
	}
	err := os.Mkdir(dir, homeMode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already and is left as it is: name a new folder, since keys are never overwritten", dir)
	}
	if err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	return nil
}

// writeNew writes a file that must not be there, durably.
func writeNew(path string, text []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode) //nolint:gosec // a new file in a folder that the command line names
	if err != nil {
		return fmt.Errorf("write a new file: %w", err)
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func syncDirs(dirs ...string) error {
	for _, dir := range dirs {
		d, err := os.Open(dir) //nolint:gosec // a folder that was just made
		if err != nil {
			return fmt.Errorf("make %s durable: %w", dir, err)
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return fmt.Errorf("make %s durable: %w", dir, err)
		}
	}
	return nil
}
