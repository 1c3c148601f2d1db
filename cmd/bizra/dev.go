package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/node"
	"github.com/bizra/bizra/pci"
)

const (
	devRegionsMax  = 26
	devReadyWithin = 60 * time.Second
	devReadyPoll   = 50 * time.Millisecond
)

// dev is a federation whose nodes all run in this process.
type dev struct {
	dir     string
	regions int
	homes   []string
	nodes   []*node.Node
}

// openDev makes the federation of `bizra dev`, or takes the one that is in the folder.
func openDev(cmd *cobra.Command, dir string) (*dev, error) {
	doc, err := readDocument(filepath.Join(dir, node.FileDocument))
	if errors.Is(err, fs.ErrNotExist) || doc == nil && !exists(dir) {
		doc, err = makeDev(cmd, dir)
	}
	if err != nil {
		return nil, err
	}
	d := &dev{dir: dir, regions: len(doc.Regions)}
	for _, r := range doc.Regions {
		for _, v := range r.Voters {
			d.homes = append(d.homes, filepath.Join(dir, v.Name))
		}
	}
	return d, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func makeDev(cmd *cobra.Command, dir string) (*federation.Document, error) {
	regions, err1 := cmd.Flags().GetInt("regions")
	voters, err2 := cmd.Flags().GetInt("voters")
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if regions < 1 || regions > devRegionsMax {
		return nil, usagef("--regions %d: it must be from 1 to %d", regions, devRegionsMax)
	}
	if voters != 1 && voters != 3 && voters != 5 {
		return nil, usagef("--voters %d: a region has 1, 3 or 5", voters)
	}
	f := &newFederation{operators: map[string]*pci.PrivateKey{}}
	law, err := constitution.Default()
	if err != nil {
		return nil, err
	}
	law.Limits.OpenRegistration = true
	f.doc = federation.Document{Version: 1, Name: "dev", Constitution: *law}
	for i := range regions {
		if err := f.addRegion(string(rune('a'+i)), voters, nil); err != nil {
			return nil, err
		}
	}
	return &f.doc, f.write(dir)
}

// start starts every node, each told where the first is, and waits until all can serve.
func (d *dev) start(cmd *cobra.Command, log *slog.Logger) error {
	host, port, err := net.SplitHostPort(cmd.Flags().Lookup("http").Value.String())
	first, perr := strconv.Atoi(port)
	if err := errors.Join(err, perr); err != nil {
		return usagef("--http: it must be HOST:PORT such as %s: %w", httpDefault, err)
	}
	for i, home := range d.homes {
		cfg := node.Config{Home: home, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Version: programVersion(), Log: log}
		cfg.API.OpenEntries = true // what one tries on one's own machine
		cfg.HTTP = net.JoinHostPort(host, strconv.Itoa(first))
		if first != 0 {
			cfg.HTTP = net.JoinHostPort(host, strconv.Itoa(first+i))
		}
		if i > 0 {
			cfg.Join = d.nodes[0].Addresses()
		}
		n, err := node.Start(cmd.Context(), cfg)
		if err != nil {
			return err
		}
		d.nodes = append(d.nodes, n)
	}
	if err := d.awaitReady(cmd.Context()); err != nil {
		return err
	}
	for _, n := range d.nodes {
		if err := announce(cmd, n); err != nil {
			return err
		}
	}
	if asJSON(cmd) {
		return nil
	}
	return d.greet(cmd.OutOrStdout())
}

func (d *dev) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, devReadyWithin)
	defer cancel()
	for _, n := range d.nodes {
		for {
			s, err := n.Status()
			if err == nil && s.Ready {
				break
			}
			if failure := n.Failure(); failure != nil {
				return failure
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("node %s is not ready after %v: %s", n.Name(), devReadyWithin, s.Reason)
			case <-time.After(devReadyPoll):
			}
		}
	}
	return nil
}

func (d *dev) greet(w io.Writer) error {
	url := d.nodes[0].HTTPAddress()
	up, wait, offline := fmt.Sprintf("A region of %d voters is up.", len(d.homes)), "", ""
	if d.regions > 1 {
		up = fmt.Sprintf("A federation of %d regions is up, %d nodes in all.", d.regions, len(d.homes))
		wait = " --wait attested"
		offline = fmt.Sprintf("\n  bizra bundle --session s1 --out bundle.json\n  bizra verify bundle.json --federation %s", filepath.Join(d.dir, node.FileDocument))
	}
	_, err := fmt.Fprintf(w, `
%s Data are in %s. In another terminal:

  export BIZRA_NODE=%s
  bizra keygen --out agent.key
  echo '{"action":"session.open","data":{"session":"s1"}}' | bizra submit --key agent.key%s
  bizra session show s1%s

Ctrl-C stops it.
`, up, d.dir, url, wait, offline)
	return err
}

// take hands the nodes over to whoever ends them.
func (d *dev) take() []*node.Node {
	nodes := d.nodes
	d.nodes = nil
	return nodes
}

// close ends what was started and not taken.
func (d *dev) close() error {
	var errs []error
	for _, n := range d.nodes {
		errs = append(errs, n.Close(context.Background()))
	}
	return errors.Join(errs...)
}
