package region

import (
	"fmt"

	"github.com/hashicorp/raft"
)

// boundaryType marks the entry that stands for the end of a snapshot where the log holds none (see logstore.go). It is answered
// to Raft only, never sent.
const boundaryType raft.LogType = 0xff

// check says whether this peer may send this RPC, and makes the RPC safe for Raft, which trusts its contents: malformed
// entries and configurations would make it panic.
func (t *Transport) check(from raft.ServerID, command any) error {
	withHeader, ok := command.(raft.WithRPCHeader)
	if !ok {
		return fmt.Errorf("%T has no header", command)
	}
	header := withHeader.GetRPCHeader()
	// Raft takes the leader's and the candidate's names from the header without asking who sent it.
	if string(header.ID) != string(from) || string(header.Addr) != string(from) {
		return fmt.Errorf("%T under the name %q and the address %q", command, printable(header.ID), printable(header.Addr))
	}
	if err := t.cfg.Admit(from, command); err != nil {
		return fmt.Errorf("%T: %w", command, err)
	}
	switch request := command.(type) {
	case *raft.AppendEntriesRequest:
		return checkAppend(request)
	case *raft.InstallSnapshotRequest:
		return checkInstall(request)
	}
	return nil
}

// printable bounds what a stranger's bytes may add to the log.
func printable(b []byte) string { return string(b[:min(len(b), 80)]) }

func checkAppend(request *raft.AppendEntriesRequest) error {
	for i, entry := range request.Entries {
		if entry == nil {
			return fmt.Errorf("entry %d of %d is missing", i, len(request.Entries))
		}
		if want := request.PrevLogEntry + 1 + uint64(i); entry.Index != want {
			return fmt.Errorf("entry %d has index %d, not %d", i, entry.Index, want)
		}
		switch entry.Type {
		case raft.LogCommand, raft.LogNoop, raft.LogBarrier:
		case raft.LogConfiguration:
			if _, err := decodeConfiguration(entry.Data); err != nil {
				return fmt.Errorf("entry at index %d: %w", entry.Index, err)
			}
		default:
			return fmt.Errorf("entry at index %d has type %d", entry.Index, entry.Type)
		}
	}
	// Raft's paper commits up to min(leaderCommit, index of the last new entry); the library takes its own last entry instead,
	// and so could commit what a former leader left behind those that this request has compared.
	request.LeaderCommitIndex = min(request.LeaderCommitIndex, request.PrevLogEntry+uint64(len(request.Entries)))
	return nil
}

func checkInstall(request *raft.InstallSnapshotRequest) error {
	if request.SnapshotVersion != 1 {
		return fmt.Errorf("snapshot version %d", request.SnapshotVersion)
	}
	if request.Size < 0 || request.LastLogIndex == 0 || request.LastLogTerm == 0 {
		return fmt.Errorf("snapshot of %d bytes at index %d, term %d", request.Size, request.LastLogIndex, request.LastLogTerm)
	}
	_, err := decodeConfiguration(request.Configuration)
	return err
}

// decodeConfiguration is raft.DecodeConfiguration without its panic.
func decodeConfiguration(b []byte) (c raft.Configuration, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("decode a configuration: %v", r)
		}
	}()
	c = raft.DecodeConfiguration(b)
	if len(c.Servers) == 0 {
		return c, fmt.Errorf("decode a configuration: it has no servers")
	}
	return c, nil
}

// checkOutgoing keeps a boundary from being sent in place of the entry that it stands for.
func checkOutgoing(request *raft.AppendEntriesRequest) error {
	for _, entry := range request.Entries {
		if entry != nil && entry.Type == boundaryType {
			return fmt.Errorf("entry at index %d is known by its term only: %w", entry.Index, raft.ErrLogNotFound)
		}
	}
	return nil
}

// emptyResponse is what goes with an error: the codec needs a value of the right kind.
func emptyResponse(command any) any {
	switch command.(type) {
	case *raft.AppendEntriesRequest:
		return &raft.AppendEntriesResponse{}
	case *raft.RequestVoteRequest:
		return &raft.RequestVoteResponse{}
	case *raft.RequestPreVoteRequest:
		return &raft.RequestPreVoteResponse{}
	case *raft.InstallSnapshotRequest:
		return &raft.InstallSnapshotResponse{}
	default:
		return &raft.TimeoutNowResponse{}
	}
}
