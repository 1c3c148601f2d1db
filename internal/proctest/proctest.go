// Package proctest gives tests regions and federations of real processes: it builds bizra,
// makes a federation, starts its voters on free ports of the loopback interface, waits until
// they can serve, and takes everything down with the test. When a test fails, the end
// of every node's log is part of its output.
//
// It polls with deadlines and never sleeps. It does not inject faults of its own but
// what package proc offers: killing, pausing and stopping processes.
package proctest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/internal/proc"
	"github.com/bizra/bizra/internal/workload"
	"github.com/bizra/bizra/pci"
)

// Patience bounds every wait that a test does not bound itself: far above what is
// needed on a busy machine.
const Patience = 60 * time.Second

// Build builds a command of this module, such as ./cmd/bizra, into a directory. The
// working directory must be inside the module, as it is in every test.
func Build(dir, pkg string) (binary string, err error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	binary = filepath.Join(dir, filepath.Base(pkg))
	c := exec.Command("go", "build", "-o", binary, pkg)
	c.Dir = root
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return binary, nil
}

// Root is the module's folder.
func Root() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// Options say what region a test wants.
type Options struct {
	Binary string   // of bizra
	Name   string   // of federation and region; "": a
	Voters int      // 0: 3
	Flags  []string // further flags of every `bizra node`
}

// Region is a region of real processes in a folder of the test.
type Region struct {
	t      testing.TB
	binary string
	flags  []string

	Dir      string // what `bizra federation new` made
	Name     string
	Document string // path
	Operator string // path of the operator's key
	Voters   []*Node
	others   []*Node // members and replacements
}

// Node is one home and the process that runs it, if one does.
type Node struct {
	Name  string
	Home  string
	Runs  int        // how often it was started
	Ready proc.Ready // of the last run
	t     testing.TB
	r     *Region
	run   *proc.Node // nil while it is down
	log   string     // path
	// listen and flags are those of a node behind a relay; see Link.
	listen string
	flags  []string

	stale   *client.Client
	staleAt string // the URL that stale was made for
}

// New makes a federation of one region; nothing runs yet.
func New(t testing.TB, o Options) *Region {
	t.Helper()
	if o.Name == "" {
		o.Name = "a"
	}
	return newFederation(t, o, o.Name)[0]
}

func newFederation(t testing.TB, o Options, names ...string) (regions []*Region) {
	t.Helper()
	if o.Voters == 0 {
		o.Voters = 3
	}
	dir := filepath.Join(t.TempDir(), o.Name)
	for _, region := range names {
		r := &Region{t: t, binary: o.Binary, flags: o.Flags, Dir: dir, Name: region,
			Document: filepath.Join(dir, "federation.json"), Operator: filepath.Join(dir, "operators", region+".key")}
		for i := range o.Voters {
			name := fmt.Sprintf("%s-%d", region, i+1)
			r.Voters = append(r.Voters, &Node{Name: name, Home: filepath.Join(dir, name), t: t, r: r, log: filepath.Join(dir, name+".log")})
		}
		t.Cleanup(r.end)
		regions = append(regions, r)
	}
	regions[0].MustBizra("federation", "new", "--name", o.Name, "--regions", strings.Join(names, ","), "--voters", fmt.Sprint(o.Voters), "--out", dir)
	return regions
}

// Found makes a region, starts its voters, each told of the first, and waits until all can serve.
func Found(t testing.TB, o Options) *Region {
	t.Helper()
	r := New(t, o)
	found(r)
	return r
}

// FoundFederation makes a federation of regions, named apart from Options.Name, and starts
// the voters of all of them, each told of the first region's first, until all can serve.
func FoundFederation(t testing.TB, o Options, names ...string) []*Region {
	t.Helper()
	regions := newFederation(t, o, names...)
	found(regions...)
	return regions
}

// FoundLinked is [FoundFederation] with every node behind a relay.
func FoundLinked(t testing.TB, o Options, names ...string) ([]*Region, *Links) {
	t.Helper()
	regions := newFederation(t, o, names...)
	links := Link(t, regions...)
	found(regions...)
	return regions, links
}

func found(regions ...*Region) {
	regions[0].t.Helper()
	var voters []*Node
	for _, r := range regions {
		voters = append(voters, r.Voters...)
	}
	first, others := voters[0], voters[1:]
	first.Start()
	for _, v := range others {
		v.StartUnready("--join", first.Ready.Address)
	}
	for _, v := range others {
		v.AwaitListening()
	}
	for _, v := range voters {
		v.AwaitReady()
	}
}

// Add gives the region a node with a home that the test had made.
func (r *Region) Add(home string) *Node {
	name := filepath.Base(home)
	n := &Node{Name: name, Home: home, t: r.t, r: r, log: filepath.Join(r.Dir, name+".log")}
	r.others = append(r.others, n)
	return n
}

func (r *Region) nodes() []*Node { return append(append([]*Node(nil), r.Voters...), r.others...) }

// end takes everything down after the test.
func (r *Region) end() {
	for _, n := range r.nodes() {
		if n.run != nil {
			n.run.End()
		}
		if r.t.Failed() && n.Runs > 0 {
			r.t.Logf("the log of %s ends:\n%s", n.Name, n.logTail(30))
		}
	}
}

func (n *Node) logTail(lines int) string {
	text, err := os.ReadFile(n.log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	all = all[max(0, len(all)-lines):]
	for i, line := range all {
		all[i] = line[:min(len(line), logLineMax)]
	}
	return strings.Join(all, "\n")
}

const logLineMax = 400 // bytes shown of a line

// Bizra runs a command of bizra to its end.
func (r *Region) Bizra(args ...string) (stdout, stderr string, code int) {
	r.t.Helper()
	return Run(r.t, "", r.binary, args...)
}

// MustBizra runs a command that must succeed and returns its output.
func (r *Region) MustBizra(args ...string) string {
	r.t.Helper()
	stdout, stderr, code := r.Bizra(args...)
	if code != 0 {
		r.t.Fatalf("bizra %s: exit %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// Run runs a program with a text as its input, at most for Patience.
func Run(t testing.TB, input, program string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	c := exec.CommandContext(ctx, program, args...)
	c.Stdin = strings.NewReader(input)
	var out, errOut bytes.Buffer
	c.Stdout, c.Stderr = &out, &errOut
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		t.Fatalf("%s %s: %v\n%s%s", program, strings.Join(args, " "), err, out.String(), errOut.String())
	}
	return out.String(), errOut.String(), c.ProcessState.ExitCode()
}

// StartUnready starts the node and returns at once. After its first run a node listens
// where it did before, as one does that others know.
func (n *Node) StartUnready(flags ...string) {
	n.t.Helper()
	if n.run != nil {
		n.t.Fatalf("%s runs already", n.Name)
	}
	cfg := proc.Config{Binary: n.r.binary, Home: n.Home, Log: n.log, Listen: n.listen, Flags: append(append(append([]string(nil), n.r.flags...), n.flags...), flags...)}
	if n.Ready.Address != "" {
		if n.listen == "" {
			cfg.Listen, _, _ = strings.Cut(n.Ready.Address, "/p2p/")
		}
		cfg.HTTP = strings.TrimPrefix(n.Ready.HTTP, "http://")
	}
	run, err := proc.Start(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	n.run = run
	n.Runs++
}

// Start starts the node and waits until it listens, which it does before it can serve.
func (n *Node) Start(flags ...string) {
	n.t.Helper()
	n.StartUnready(flags...)
	n.AwaitListening()
}

// AwaitListening waits for the line that says where the node listens.
func (n *Node) AwaitListening() {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), Patience)
	defer cancel()
	ready, err := n.run.Ready(ctx)
	if err != nil {
		n.t.Fatal(err)
	}
	n.Ready = ready
}

// Running tells whether the node was started and not taken down by the test.
func (n *Node) Running() bool { return n.run != nil }

// Kill ends the node with SIGKILL. It must be running.
func (n *Node) Kill() {
	n.t.Helper()
	if n.run == nil {
		n.t.Fatalf("kill %s: it does not run", n.Name)
	}
	if err := n.run.Kill(); err != nil {
		n.t.Fatal(err)
	}
	n.run = nil
}

// Stop ends the node with SIGTERM, and must see it exit with 0.
func (n *Node) Stop() {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), Patience)
	defer cancel()
	if err := n.run.Stop(ctx); err != nil {
		n.t.Fatal(err)
	}
	n.run = nil
}

// AwaitExit waits until the node has ended by itself, and returns its exit code.
func (n *Node) AwaitExit() int {
	n.t.Helper()
	select {
	case <-n.run.Exited():
	case <-time.After(Patience):
		n.t.Fatalf("%s has not ended by itself after %v", n.Name, Patience)
	}
	code := n.run.ExitCode()
	n.run = nil
	return code
}

// Process is the running process, nil while the node is down.
func (n *Node) Process() *proc.Node { return n.run }

// Log is all that the node logged, in all its runs.
func (n *Node) Log() string {
	text, err := os.ReadFile(n.log)
	if err != nil {
		n.t.Fatal(err)
	}
	return string(text)
}

// Client speaks HTTP with this node.
func (n *Node) Client(change ...func(*client.Config)) *client.Client {
	n.t.Helper()
	return Client(n.t, []string{n.Ready.HTTP}, change...)
}

// Stale reads what this node has, and tries once.
func (n *Node) Stale() *client.Client {
	n.t.Helper()
	if n.stale == nil || n.staleAt != n.Ready.HTTP {
		n.staleAt = n.Ready.HTTP
		n.stale = n.Client(func(c *client.Config) { c.Stale, c.RetriesMax = true, -1 })
	}
	return n.stale
}

// Client makes a client of some URLs.
func Client(t testing.TB, urls []string, change ...func(*client.Config)) *client.Client {
	t.Helper()
	cfg := client.Config{URLs: urls}
	for _, c := range change {
		c(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Await polls until try returns nil, at most for Patience.
func Await(t testing.TB, what string, try func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	if err := proc.Poll(ctx, what, try); err != nil {
		t.Fatal(err)
	}
}

// Status is how the node stands, by its own view.
func (n *Node) Status(ctx context.Context) (*client.Status, error) { return n.Stale().Status(ctx) }

// AwaitReady waits until the node says that it can serve.
func (n *Node) AwaitReady() {
	n.t.Helper()
	Await(n.t, "wait until "+n.Name+" can serve", func(ctx context.Context) error {
		s, err := n.Status(ctx)
		if err != nil {
			return n.alive(err)
		}
		if !s.Ready {
			return n.alive(fmt.Errorf("not ready: %s", s.Reason))
		}
		return nil
	})
}

// alive ends the test at once where the process has ended, instead of waiting for nothing.
func (n *Node) alive(err error) error {
	select {
	case <-n.run.Exited():
		n.t.Fatalf("%s has ended with exit code %d: %v", n.Name, n.run.ExitCode(), err)
	default:
	}
	return err
}

// AwaitSize waits until the node's ledger has at least so many entries.
func (n *Node) AwaitSize(size int64) {
	n.t.Helper()
	Await(n.t, fmt.Sprintf("wait until %s has %d entries", n.Name, size), func(ctx context.Context) error {
		s, err := n.Status(ctx)
		if err != nil {
			return n.alive(err)
		}
		if s.Ledger.Size < size {
			return n.alive(fmt.Errorf("it has %d", s.Ledger.Size))
		}
		return nil
	})
}

// Leader waits until every running voter names the same leader, and returns it.
func (r *Region) Leader() *Node {
	r.t.Helper()
	var leader *Node
	Await(r.t, "wait for a leader", func(ctx context.Context) error {
		key := ""
		leader = nil
		for _, n := range r.nodes() {
			if n.run == nil {
				continue
			}
			s, err := n.Status(ctx)
			if err != nil {
				return n.alive(err)
			}
			if s.Role != client.RoleVoter {
				continue
			}
			if s.Raft.Leader == "" || key != "" && key != s.Raft.Leader {
				return fmt.Errorf("%s says %q, another %q", n.Name, s.Raft.Leader, key)
			}
			if key = s.Raft.Leader; key == s.NodeKey {
				leader = n
			}
		}
		if leader == nil {
			return fmt.Errorf("the leader %q does not run", key)
		}
		return nil
	})
	return leader
}

// Others are the running voters but one.
func (r *Region) Others(but *Node) []*Node {
	var others []*Node
	for _, v := range r.Voters {
		if v != but && v.run != nil {
			others = append(others, v)
		}
	}
	return others
}

// Key makes a new agent's key in a file.
func (r *Region) Key(name string) (path string, key *pci.PrivateKey) {
	r.t.Helper()
	path = filepath.Join(r.Dir, name+".key")
	r.MustBizra("keygen", "--out", path)
	key, err := pci.LoadKey(path)
	if err != nil {
		r.t.Fatal(err)
	}
	return path, key
}

// Agent makes an agent, registers it with the operator's key, and lets it submit to the given nodes.
func (r *Region) Agent(id string, record *workload.Record, nodes ...*Node) *workload.Agent {
	r.t.Helper()
	_, key := r.Key(id)
	urls := make([]string, len(nodes))
	for i, n := range nodes {
		urls[i] = n.Ready.HTTP
	}
	c := Client(r.t, urls)
	policy, err := c.Policy(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	operatorKey, err := pci.LoadKey(r.Operator)
	if err != nil {
		r.t.Fatal(err)
	}
	known := client.Context{PolicyHash: policy.PolicyHash, Region: policy.Region}
	operator := &workload.Agent{Client: c, Signer: client.Signer{Key: operatorKey, AgentType: pci.AgentSAT}, Known: known, Record: record}
	if _, err := operator.Submit(r.t.Context(), workload.RegisterStep(policy.Region, id, key.Public())); err != nil {
		r.t.Fatalf("register agent %s: %v", id, err)
	}
	return &workload.Agent{Client: c, Signer: client.Signer{Key: key, AgentID: id}, Known: known, Record: record}
}
