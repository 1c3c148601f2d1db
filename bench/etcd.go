package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"go.uber.org/zap"

	"github.com/bizra/bizra/internal/proc"
)

const (
	membersCount = 3
	putBytes     = 512
	// etcdConnectionsMax is how many connections the clients share: etcd does best with fewer than one each.
	etcdConnectionsMax = 16
)

// memberCommand is this program's first argument when it is a member of etcd: what follows
// are etcd's own flags.
const memberCommand = "etcd"

// beMember runs etcd as its own program does.
func beMember(args []string) { etcdmain.Main(args) }

// etcd is a cluster of processes.
type etcd struct {
	members []*exec.Cmd
	conns   []*clientv3.Client // to the leader
	leader  string
	value   string
}

// startEtcd founds a cluster in a folder and waits until it has a leader.
func startEtcd(ctx context.Context, self, dir string) (_ *etcd, err error) {
	e := &etcd{value: string(bytes.Repeat([]byte{'v'}, putBytes))}
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	urls, err := freeURLs(2 * membersCount)
	if err != nil {
		return nil, err
	}
	clients, peers := urls[:membersCount], urls[membersCount:]
	var cluster []string
	for i := range membersCount {
		cluster = append(cluster, fmt.Sprintf("m%d=%s", i+1, peers[i]))
	}
	for i := range membersCount {
		name := fmt.Sprintf("m%d", i+1)
		if err := e.member(ctx, self, filepath.Join(dir, name),
			"--name", name, "--data-dir", filepath.Join(dir, name), "--log-level", "warn",
			"--listen-client-urls", clients[i], "--advertise-client-urls", clients[i],
			"--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i],
			"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-token", "bench"); err != nil {
			return nil, err
		}
	}
	if err := e.connect(ctx, clients); err != nil {
		return e, err
	}
	return e, nil
}

// member starts one as a process, whose log lies beside its data.
func (e *etcd) member(ctx context.Context, self, dir string, flags ...string) error {
	log, err := os.Create(dir + ".log") //nolint:gosec // a folder of the benchmark's own
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	defer log.Close()                                                                 // the process has its own descriptor
	c := exec.CommandContext(ctx, self, append([]string{memberCommand}, flags...)...) //nolint:gosec // this very program
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	e.members = append(e.members, c)
	return nil
}

// freeURLs are addresses that nobody listens at.
func freeURLs(n int) ([]string, error) {
	urls := make([]string, n)
	for i := range urls {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close() //nolint:gocritic // all are held until all are found, so that none is found twice
		urls[i] = "http://" + l.Addr().String()
	}
	return urls, nil
}

func (e *etcd) connect(ctx context.Context, urls []string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := proc.Poll(ctx, "wait for etcd to have a leader", func(ctx context.Context) error {
		for _, u := range urls {
			c, err := clientv3.New(clientv3.Config{Endpoints: []string{u}, DialTimeout: time.Second, Logger: zap.NewNop()})
			if err != nil {
				return err
			}
			status, err := statusOf(ctx, c, u)
			if err := errors.Join(err, c.Close()); err != nil {
				return err
			}
			if status.Leader == status.Header.MemberId {
				e.leader = u
				return nil
			}
		}
		return errors.New("no member leads")
	})
	if err != nil {
		return err
	}
	for range etcdConnectionsMax {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{e.leader}, DialTimeout: patience, Logger: zap.NewNop()})
		if err != nil {
			return fmt.Errorf("connect to etcd: %w", err)
		}
		e.conns = append(e.conns, c)
	}
	return nil
}

func statusOf(ctx context.Context, c *clientv3.Client, url string) (*clientv3.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return c.Status(ctx, url)
}

// ask puts values under new keys; where a request has several, they are one transaction.
func (e *etcd) ask(l load, round int) ask {
	return func(ctx context.Context, client, n int) error {
		c := e.conns[client%len(e.conns)]
		if l.PerRequest == 1 {
			_, err := c.Put(ctx, fmt.Sprintf("%d/%d/%d", round, l.Clients, n), e.value)
			return err
		}
		puts := make([]clientv3.Op, l.PerRequest)
		for i := range puts {
			puts[i] = clientv3.OpPut(fmt.Sprintf("%d/%d/%d/%d", round, l.Clients, n, i), e.value)
		}
		_, err := c.Txn(ctx).Then(puts...).Commit()
		return err
	}
}

// settle waits until every member has applied what the leader has.
func (e *etcd) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c := e.conns[0]
	endpoints, err := c.MemberList(ctx)
	if err != nil {
		return fmt.Errorf("list etcd's members: %w", err)
	}
	return proc.Poll(ctx, "wait for etcd's members to be level", func(ctx context.Context) error {
		var applied uint64
		for i, m := range endpoints.Members {
			s, err := statusOf(ctx, c, m.ClientURLs[0])
			if err != nil {
				return err
			}
			if i > 0 && s.RaftAppliedIndex != applied {
				return fmt.Errorf("one has applied %d, another %d", s.RaftAppliedIndex, applied)
			}
			applied = s.RaftAppliedIndex
		}
		return nil
	})
}

func (e *etcd) close() {
	for _, c := range e.conns {
		_ = c.Close() // nothing is under way any more
	}
	for _, m := range e.members {
		_ = m.Process.Kill() // an error says that it has ended
		_ = m.Wait()
	}
}
