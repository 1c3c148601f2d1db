package region

import (
	"sync"

	"github.com/hashicorp/raft"
)

// pipeline ends raft's pipeline as soon as one of its requests failed.
//
// After such an answer Raft no longer takes answers, but may be about to send one more request: raft's own pipeline then waits
// for that answer to be taken, and Raft for the request to be sent, for ever. The follower would get nothing more from this
// leader, and the leader could not be shut down.
type pipeline struct {
	raft.AppendPipeline
	stored  func(index uint64, stop <-chan struct{}) error
	answers chan raft.AppendFuture
	closed  chan struct{}
	once    sync.Once
}

func newPipeline(inner raft.AppendPipeline, stored func(uint64, <-chan struct{}) error) *pipeline {
	p := &pipeline{AppendPipeline: inner, stored: stored, answers: make(chan raft.AppendFuture), closed: make(chan struct{})}
	go p.pump()
	return p
}

// pump hands answers on until the pipeline is closed, each when its entries are on this node's own disk.
func (p *pipeline) pump() {
	for {
		select {
		case answer := <-p.AppendPipeline.Consumer():
			last := answer.Error() != nil || !answer.Response().Success || answer.Response().Term > answer.Request().Term
			if last {
				_ = p.AppendPipeline.Close() // never fails; frees a request that is being sent
			}
			if !last && awaitOwn(p.stored, answer.Request(), p.closed) != nil {
				_ = p.AppendPipeline.Close() // as above: this node is stopping
				return
			}
			select {
			case p.answers <- answer:
			case <-p.closed:
				return
			}
			if last {
				return
			}
		case <-p.closed:
			return
		}
	}
}

// AppendEntries implements raft.AppendPipeline. It keeps a boundary (logstore.go) from being sent as an entry.
func (p *pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if err := checkOutgoing(args); err != nil {
		return nil, err
	}
	return p.AppendPipeline.AppendEntries(args, resp)
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.AppendPipeline.Close()
}
