package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/internal/proc"
	"github.com/bizra/bizra/internal/workload"
	"github.com/bizra/bizra/pci"
)

const (
	votersCount = 3
	agentsCount = 64
	patience    = 60 * time.Second
)

// region is a region of processes, and agents that are registered in it.
type region struct {
	voters  []*proc.Node
	clients []*client.Client // one a voter, that reads what it has
	leader  int              // of voters
	address string           // of the leader's HTTP interface
	known   client.Context
	agents  []client.Signer
	conns   []*connection
	entries int64 // that every voter must have
}

// startRegion makes a federation of one region in a folder, starts its voters and waits until they can serve.
func startRegion(ctx context.Context, bizra, dir string, flags []string) (_ *region, err error) {
	c := exec.CommandContext(ctx, bizra, "federation", "new", "--name", "bench", "--regions", "a", "--voters", fmt.Sprint(votersCount), "--out", dir) //nolint:gosec // the program that the caller built
	if out, err := c.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make a federation: %w\n%s", err, out)
	}
	r := &region{}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var first string
	for i := range votersCount {
		name := filepath.Join(dir, fmt.Sprintf("a-%d", i+1))
		cfg := proc.Config{Binary: bizra, Home: name, Log: name + ".log", Flags: forVoter(flags, i+1)}
		if i > 0 {
			cfg.Join = []string{first}
		}
		v, err := proc.Start(cfg)
		if err != nil {
			return nil, err
		}
		r.voters = append(r.voters, v)
		ready, err := v.Ready(ctx)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			first = ready.Address
		}
		c, err := client.New(client.Config{URLs: []string{ready.HTTP}, Stale: true, RetriesMax: -1})
		if err != nil {
			return nil, err
		}
		r.clients = append(r.clients, c)
	}
	if err := r.findLeader(ctx); err != nil {
		return nil, err
	}
	if err := r.register(ctx, filepath.Join(dir, "operators", "a.key")); err != nil {
		return nil, err
	}
	return r, nil
}

// forVoter puts a voter's number where flags ask for it.
func forVoter(flags []string, number int) []string {
	own := make([]string, len(flags))
	for i, f := range flags {
		own[i] = strings.ReplaceAll(f, "{voter}", fmt.Sprint(number))
	}
	return own
}

func (r *region) findLeader(ctx context.Context) error {
	return proc.Poll(ctx, "wait for the region to have a leader", func(ctx context.Context) error {
		found := -1
		for i, c := range r.clients {
			s, err := c.Status(ctx)
			if err != nil {
				return err
			}
			if !s.Ready {
				return errors.New(s.Reason)
			}
			if s.Raft.State == "leader" {
				found = i
			}
		}
		if found < 0 {
			return errors.New("no voter leads")
		}
		ready, err := r.voters[found].Ready(ctx)
		if err != nil {
			return err
		}
		address := strings.TrimPrefix(ready.HTTP, "http://")
		if address != r.address {
			r.disconnect()
		}
		r.leader, r.address = found, address
		return nil
	})
}

// register registers the agents, by the operator's key.
func (r *region) register(ctx context.Context, operatorKey string) error {
	policy, err := r.clients[r.leader].Policy(ctx)
	if err != nil {
		return err
	}
	r.known = client.Context{PolicyHash: policy.PolicyHash, Region: policy.Region}
	key, err := pci.LoadKey(operatorKey)
	if err != nil {
		return err
	}
	operator := workload.Agent{Client: r.clients[r.leader], Signer: client.Signer{Key: key, AgentType: pci.AgentSAT}, Known: r.known, Record: &workload.Record{}}
	steps := make([]workload.Step, agentsCount)
	for i := range steps {
		key, err := pci.GenerateKey()
		if err != nil {
			return err
		}
		id := fmt.Sprintf("agent-%d", i)
		r.agents = append(r.agents, client.Signer{Key: key, AgentID: id})
		steps[i] = workload.RegisterStep(policy.Region, id, key.Public())
	}
	if _, err := operator.SubmitAll(ctx, steps); err != nil {
		return fmt.Errorf("register the agents: %w", err)
	}
	s, err := r.clients[r.leader].Status(ctx)
	if err != nil {
		return err
	}
	r.entries = s.Ledger.Size
	return nil
}

// sign makes the bodies of all requests of a load: proofs that open sessions, which build on nothing that
// a receipt would have to tell first.
func (r *region) sign(l load, round int) ([][]byte, error) {
	bodies := make([][]byte, l.Requests)
	faults := make([]error, runtime.GOMAXPROCS(0))
	var signers sync.WaitGroup
	for s := range faults {
		signers.Go(func() {
			for n := s; n < len(bodies) && faults[s] == nil; n += len(faults) {
				bodies[n], faults[s] = r.body(l, round, n)
			}
		})
	}
	signers.Wait()
	return bodies, errors.Join(faults...)
}

func (r *region) body(l load, round, n int) ([]byte, error) {
	var lines [][]byte
	for i := range l.PerRequest {
		agent := workload.Agent{Signer: r.agents[n%len(r.agents)], Known: r.known}
		env, err := agent.Sign(workload.OpenStep(r.known.Region, fmt.Sprintf("%d-%d-%d-%d", round, l.Clients*l.PerRequest, n, i)))
		if err != nil {
			return nil, err
		}
		lines = append(lines, env.Canonical())
	}
	return bytes.Join(lines, []byte{'\n'}), nil
}

// ask signs all proofs of a round, to submit them when asked.
func (r *region) ask(ctx context.Context, l load, round int) (ask, error) {
	if err := r.findLeader(ctx); err != nil {
		return nil, err
	}
	bodies, err := r.sign(l, round)
	if err != nil {
		return nil, err
	}
	for len(r.conns) < l.Clients {
		c, err := connect(r.address)
		if err != nil {
			return nil, err
		}
		r.conns = append(r.conns, c)
	}
	media := client.MediaJSON
	if l.PerRequest > 1 {
		media = client.MediaNDJSON
	}
	r.entries += int64(l.Requests * l.PerRequest)
	return func(ctx context.Context, c, n int) error {
		return r.conns[c].submit(ctx, media, bodies[n], l.PerRequest)
	}, nil
}

// settle waits until every voter has exactly the entries that were acknowledged, and the same root.
func (r *region) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return proc.Poll(ctx, "wait for the voters to be level", func(ctx context.Context) error {
		root := ""
		for i, c := range r.clients {
			s, err := c.Status(ctx)
			if err != nil {
				return err
			}
			if s.Ledger.Size != r.entries {
				return fmt.Errorf("voter %d has %d entries, %d were acknowledged", i+1, s.Ledger.Size, r.entries)
			}
			if root != "" && s.Ledger.Root != root {
				return fmt.Errorf("voter %d has root %s, another %s", i+1, s.Ledger.Root, root)
			}
			root = s.Ledger.Root
		}
		return nil
	})
}

// disconnect closes what the clients hold; nothing is under way any more.
func (r *region) disconnect() {
	for _, c := range r.conns {
		_ = c.conn.Close()
	}
	r.conns = nil
}

func (r *region) close() {
	r.disconnect()
	for _, c := range r.clients {
		c.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, v := range r.voters {
		if v.Stop(ctx) != nil {
			v.End()
		}
	}
}

// connection speaks HTTP/1.1 with the least work: the clients share the processors with the servers.
type connection struct {
	conn    net.Conn
	answers *bufio.Reader
	request []byte
}

func connect(address string) (*connection, error) {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, fmt.Errorf("connect to the region: %w", err)
	}
	return &connection{conn: c, answers: bufio.NewReader(c)}, nil
}

// errAgain says that the region did not decide, as when it has no leader.
var errAgain = errors.New("the region has not decided")

// submit posts proofs, and again while the region does not decide, as on a machine so busy that its leader is taken for dead.
func (c *connection) submit(ctx context.Context, media string, body []byte, proofs int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := c.post(media, body, proofs)
		if !errors.Is(err, errAgain) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pauseBetweenTries):
		}
	}
}

const pauseBetweenTries = 50 * time.Millisecond

// post submits proofs once and checks that each was accepted.
func (c *connection) post(media string, body []byte, proofs int) error {
	c.request = fmt.Appendf(c.request[:0], "POST /v1/proofs HTTP/1.1\r\nHost: bench\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", media, len(body))
	c.request = append(c.request, body...)
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	res, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return err
	}
	if res.StatusCode == http.StatusServiceUnavailable {
		return fmt.Errorf("%w: %.400s", errAgain, answer)
	}
	if got := bytes.Count(answer, []byte(`"finality":"committed"`)); res.StatusCode != http.StatusOK || got != proofs || bytes.Count(answer, []byte(`"code":0,`)) != proofs {
		return fmt.Errorf("%s: %d of %d proofs accepted: %.400s", res.Status, got, proofs, answer)
	}
	return nil
}
