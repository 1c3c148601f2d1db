package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/api"
	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/node"
)

// Where a node listens if nothing else is said.
const (
	httpDefault   = "127.0.0.1:8420"
	listenTCP     = "/ip4/0.0.0.0/tcp/4420"
	listenQUIC    = "/ip4/0.0.0.0/udp/4420/quic-v1"
	shutdownGrace = 30 * time.Second
	minFreeMax    = 1 << 30 // MiB
)

func newNodeCommand() *cobra.Command {
	c := &cobra.Command{Use: "node --home DIR", Short: "Run a node", Args: takes(),
		Long: `node runs the node whose home is DIR: a voter made by "bizra federation new", or a
member made by "bizra federation invite". When it listens it prints one line,

  ready NAME MULTIADDR HTTP-URL

and then runs until it is told to stop (SIGINT or SIGTERM: it finishes what is under
way and hands over leadership first) or must stop, which it explains.

A region is founded once all of its voters have started. The first is started alone;
the others are told where it is with --join. Later starts need no --join.`,
		Example: `  bizra node --home demo/eu-1 --listen /ip4/127.0.0.1/tcp/4421 --http 127.0.0.1:8421
  bizra node --home demo/eu-2 --listen /ip4/127.0.0.1/tcp/4422 --http 127.0.0.1:8422 \
      --join /ip4/127.0.0.1/tcp/4421/p2p/12D3KooW…`,
		RunE: runNode}
	c.Flags().String("home", "", "the node's home")
	c.Flags().StringArray("listen", []string{listenTCP, listenQUIC}, "multiaddr to listen on; may be repeated")
	c.Flags().StringArray("announce", nil, "multiaddr to tell others instead, for a node behind NAT; may be repeated")
	c.Flags().Bool("port-map", false, "ask the router for a port (UPnP, NAT-PMP)")
	c.Flags().String("http", httpDefault, "address of the HTTP interface; \"\" for none")
	c.Flags().StringArray("join", nil, "multiaddr with /p2p/ID of a node of the federation; may be repeated")
	c.Flags().String("log-store", "", "where a new voter keeps its Raft log: wal (default) or bolt; move it later with \"bizra migrate log\"")
	c.Flags().Int64("min-free", 512, "MiB that must be free on the home's disk for the node to take proofs when it leads; 0: any number")
	c.Flags().String("pin", "", "digest that the federation document must have")
	c.Flags().StringArray("reader", nil, "public key that may read the ledger's entries over HTTP (see `bizra token`); may be repeated")
	c.Flags().Bool("open-entries", false, "let anybody who reaches the HTTP address read entries, payloads included")
	c.Flags().StringArray("witness", nil, "outside witness that is to cosign what is certified, as `KEY=URL`; may be repeated")
	addLogFlag(c, "info")
	addTuningFlags(c)
	return c
}

func addLogFlag(c *cobra.Command, otherwise string) {
	c.Flags().String("log", otherwise, "what is logged to standard error: debug, info, warn or error")
}

// addTuningFlags adds what tests and unusual disks need.
func addTuningFlags(c *cobra.Command) {
	c.Flags().Uint64("snapshot-entries", 0, "Raft log entries between snapshots (0: 8192)")
	c.Flags().Uint64("trailing-entries", 0, "Raft log entries kept behind a snapshot (0: 16384)")
	c.Flags().Duration("seal-interval", 0, "time between seals while the ledger grows (0: 1s)")
	c.Flags().String("cpu-profile", "", "file for a profile of what the processors did until the node stopped")
	for _, name := range []string{"snapshot-entries", "trailing-entries", "seal-interval", "cpu-profile"} {
		_ = c.Flags().MarkHidden(name) // the flag was just added
	}
}

func tuning(cmd *cobra.Command) (region.Config, error) {
	var cfg region.Config
	var err1, err2, err3 error
	cfg.SnapshotEntries, err1 = cmd.Flags().GetUint64("snapshot-entries")
	cfg.TrailingEntries, err2 = cmd.Flags().GetUint64("trailing-entries")
	cfg.SealInterval, err3 = cmd.Flags().GetDuration("seal-interval")
	return cfg, errors.Join(err1, err2, err3)
}

// logger logs to standard error at the level that --log names.
func logger(cmd *cobra.Command) (*slog.Logger, error) {
	var level slog.Level
	text, err := cmd.Flags().GetString("log")
	if err != nil {
		return nil, err
	}
	if err := level.UnmarshalText([]byte(text)); err != nil {
		return nil, usagef("--log %q: it must be debug, info, warn or error", text)
	}
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level})), nil
}

func nodeConfig(cmd *cobra.Command) (cfg node.Config, err error) {
	if cfg.Home, err = need(cmd, "home", "name the node's home, which `bizra federation new` makes"); err != nil {
		return cfg, err
	}
	var errs [6]error
	cfg.Listen, errs[0] = cmd.Flags().GetStringArray("listen")
	cfg.Announce, errs[1] = cmd.Flags().GetStringArray("announce")
	cfg.PortMap, errs[2] = cmd.Flags().GetBool("port-map")
	cfg.HTTP, errs[3] = cmd.Flags().GetString("http")
	cfg.Join, errs[4] = cmd.Flags().GetStringArray("join")
	cfg.Raft, errs[5] = tuning(cmd)
	if err := errors.Join(errs[:]...); err != nil {
		return cfg, err
	}
	kind, err := region.ParseLogKind(cmd.Flags().Lookup("log-store").Value.String())
	if err != nil {
		return cfg, usagef("--log-store: %w", err)
	}
	cfg.Raft.LogKind = kind
	minFree, err := cmd.Flags().GetInt64("min-free")
	if err != nil {
		return cfg, err
	}
	if minFree < 0 || minFree > minFreeMax {
		return cfg, usagef("--min-free %d: it must be from 0 to %d MiB", minFree, minFreeMax)
	}
	if cfg.Raft.DiskFreeMin = minFree << 20; minFree == 0 {
		cfg.Raft.DiskFreeMin = -1
	}
	if pin := cmd.Flags().Lookup("pin").Value.String(); pin != "" {
		b, err := hex.DecodeString(pin)
		if err != nil || len(b) != 32 {
			return cfg, usagef("--pin %q: a digest has 64 hexadecimal digits; `bizra federation show` prints it", pin)
		}
		cfg.Pin = (*[32]byte)(b)
	}
	if err := readersOf(cmd, &cfg.API); err != nil {
		return cfg, err
	}
	if cfg.Witnesses, err = witnessesOf(cmd); err != nil {
		return cfg, err
	}
	cfg.Version = programVersion()
	cfg.Log, err = logger(cmd)
	return cfg, err
}

// readersOf says who may read entries.
func readersOf(cmd *cobra.Command, cfg *api.Config) (err error) {
	if cfg.OpenEntries, err = cmd.Flags().GetBool("open-entries"); err != nil {
		return err
	}
	readers, err := cmd.Flags().GetStringArray("reader")
	if err != nil {
		return err
	}
	for _, text := range readers {
		key, err := federation.ParseKey(text)
		if err != nil {
			return usagef("--reader %q: %v; `bizra keygen` prints it", text, err)
		}
		cfg.Readers = append(cfg.Readers, key)
	}
	return nil
}

// witnessesOf reads the outside witnesses, each as KEY=URL. A verifier key may end in '='
// itself, so the URL is what follows the last "=http".
func witnessesOf(cmd *cobra.Command) ([]node.Witness, error) {
	texts, err := cmd.Flags().GetStringArray("witness")
	if err != nil {
		return nil, err
	}
	var list []node.Witness
	for _, text := range texts {
		at := strings.LastIndex(text, "=http")
		if at < 0 {
			return nil, usagef("--witness %q: it must be KEY=URL, such as witness.example/w+0123abcd+BASE64=https://witness.example", text)
		}
		list = append(list, node.Witness{Key: text[:at], URL: text[at+1:]})
	}
	return list, nil
}

func runNode(cmd *cobra.Command, _ []string) (err error) {
	cfg, err := nodeConfig(cmd)
	if err != nil {
		return err
	}
	stop, err := profile(cmd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	n, err := node.Start(cmd.Context(), cfg)
	if err != nil {
		return err
	}
	if err := announce(cmd, n); err != nil {
		return errors.Join(err, n.Close(context.WithoutCancel(cmd.Context())))
	}
	return untilStopped(cmd, n)
}

// profile notes what the processors do, if --cpu-profile says where, until stop.
func profile(cmd *cobra.Command) (stop func() error, err error) {
	path, err := cmd.Flags().GetString("cpu-profile")
	if err != nil || path == "" {
		return func() error { return nil }, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) //nolint:gosec // a path that the operator gives
	if err != nil {
		return nil, fmt.Errorf("--cpu-profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("--cpu-profile: %w", err), f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// ready is the line that a node prints when it listens.
type ready struct {
	Ready     string   `json:"ready"` // the node's name
	Address   string   `json:"address"`
	Addresses []string `json:"addresses"`
	HTTP      string   `json:"http"`
}

func announce(cmd *cobra.Command, n *node.Node) error {
	r := ready{Ready: n.Name(), Addresses: n.Addresses(), HTTP: n.HTTPAddress()}
	r.Address = "none" // of a node that does not listen
	if len(r.Addresses) > 0 {
		r.Address = r.Addresses[0]
	}
	return show(cmd, r, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "ready %s %s %s\n", r.Ready, r.Address, orNone(r.HTTP))
		return err
	})
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// untilStopped runs nodes until the command is interrupted or one of them must stop.
func untilStopped(cmd *cobra.Command, nodes ...*node.Node) error {
	ctx, stop := context.WithCancelCause(cmd.Context())
	defer stop(nil)
	for _, n := range nodes {
		go func() {
			select {
			case <-n.Failed():
				stop(fmt.Errorf("node %s has stopped: %w", n.Name(), n.Failure()))
			case <-ctx.Done():
			}
		}()
	}
	<-ctx.Done()
	var err error
	if cmd.Context().Err() == nil {
		err = context.Cause(ctx)
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	for _, n := range nodes {
		err = errors.Join(err, n.Close(grace))
	}
	return err
}

func newFsckCommand() *cobra.Command {
	c := &cobra.Command{Use: "fsck --home DIR", Short: "Derive everything again from what is on a node's disk, and compare", Args: takes(),
		Long: `fsck checks the ledger's hashes and indexes, re-executes every entry, and compares
root, state, every session and every seal with what is on the disk. The node must not
be running. It changes nothing.`,
		Example: "  bizra fsck --home demo/eu-1\n  bizra fsck --home demo/eu-1 --copy us",
		RunE:    runFsck}
	c.Flags().String("home", "", "the node's home")
	c.Flags().String("copy", "", "check the copy of this other region's ledger instead of the node's own")
	c.Flags().String("scratch", "", "folder for the copy that is derived (default: the system's)")
	return c
}

func runFsck(cmd *cobra.Command, _ []string) error {
	home, err := need(cmd, "home", "name the node's home")
	if err != nil {
		return err
	}
	bar := newProgress(cmd, "checking", 100, false)
	scratch, region := cmd.Flags().Lookup("scratch").Value.String(), cmd.Flags().Lookup("copy").Value.String()
	progress := func(_ string, done, total int64) { bar.at(100 * done / max(total, 1)) }
	var report node.FsckReport
	if region == "" {
		report, err = node.Fsck(cmd.Context(), home, scratch, progress)
	} else {
		report, err = node.FsckCopy(cmd.Context(), home, region, scratch, progress)
	}
	bar.done()
	if err != nil {
		return err
	}
	result := struct {
		Home     string `json:"home"`
		Entries  int64  `json:"entries"`
		Sessions int64  `json:"sessions"`
		Agents   int64  `json:"agents"`
		Seals    int64  `json:"seals"`
		Applied  uint64 `json:"applied_index"`
		Root     string `json:"root"`
		State    string `json:"state"`
	}{home, report.Entries, report.Sessions, report.Agents, report.Seals, report.Applied, hex.EncodeToString(report.Root[:]), hex.EncodeToString(report.State[:])}
	return show(cmd, result, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s is sound: %d entries re-executed, %d sessions, %d agents, %d seals\nroot   %s\nstate  %s\n",
			filepath.Clean(home), report.Entries, report.Sessions, report.Agents, report.Seals, result.Root, result.State)
		return err
	})
}

func newDevCommand() *cobra.Command {
	c := &cobra.Command{Use: "dev", Short: "Run a region, or a federation of several, in one process, to try things on", Args: takes(),
		Long: `dev makes a federation with open registration, so that an agent is registered by its
first accepted proof, and runs all of its nodes in this process until it is told to
stop. Its data go with it, unless --dir keeps them. With several regions, these attest each
other as those of any federation do; four are the fewest of which one may lie or be down.`,
		Example: `  bizra dev
  bizra dev --regions 4 --voters 1
  bizra dev --voters 1 --dir ./dev   # keeps its data and can be started again`,
		RunE: runDev}
	c.Flags().Int("regions", 1, "regions, named a, b and so on, which execute and attest what each other records")
	c.Flags().Int("voters", 3, "voters of each region: 1, 3 or 5")
	c.Flags().String("dir", "", "folder to keep the data in")
	c.Flags().String("http", httpDefault, "address of the first node's HTTP interface; the others take the next ports")
	addLogFlag(c, "error") // what Raft has to say would hide what a person tries on
	return c
}

func runDev(cmd *cobra.Command, _ []string) (err error) {
	log, err := logger(cmd)
	if err != nil {
		return err
	}
	dir := cmd.Flags().Lookup("dir").Value.String()
	if dir == "" {
		if dir, err = os.MkdirTemp("", "bizra-dev-"); err != nil {
			return fmt.Errorf("make a folder for the data: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		dir = filepath.Join(dir, "federation")
	}
	d, err := openDev(cmd, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.start(cmd, log); err != nil {
		return err
	}
	return untilStopped(cmd, d.take()...)
}
