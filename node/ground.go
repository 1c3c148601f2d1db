package node

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/libp2p/go-libp2p/core/host"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/consensus/follow"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/fsm/store/pebblestore"
	"github.com/bizra/bizra/p2p"
)

// Ground is what a node stands on: its disk, its network and its wall clock, and what many nodes in one
// process would all work out alike from the same bytes. Everything else of a node is the
// same on every ground, which is how the simulator runs what runs in earnest. Raft's log is
// opened by Config.Raft.OpenLog; the files that Raft keeps beside it always lie in the home.
type Ground interface {
	// OpenHome reads a node's home.
	OpenHome(dir string) (*Home, error)
	// NewHost puts the node on its network.
	NewHost(cfg p2p.Config) (host.Host, error)
	// OpenStore opens the store of a state in a directory, which may not exist yet.
	OpenStore(dir string, o pebblestore.Options) (store.Store, error)
	// RemoveStore removes such a store; it need not exist.
	RemoveStore(dir string) error
	// OpenCopy opens the copy of a region's ledger in such a directory; an error is as one of
	// [follow.CopiesConfig.Open].
	OpenCopy(dir string, o pebblestore.Options, cfg fsm.Config) (follow.CopyReplica, error)
	// OpenFollowed opens the state of a node that follows its own region in such a directory.
	OpenFollowed(dir string, o pebblestore.Options, cfg fsm.Config) (Followed, error)
	// OpenEntries is [follow.ParseEntries].
	OpenEntries(entries [][]byte, verify bool) (parsed []*fsm.Entry, good int, flaw error)
	// OpenStatement is [attest.Open].
	OpenStatement(data []byte, doc *federation.Document) (*attest.Statement, error)
	// Directory is [p2p.NewDirectory].
	Directory(doc *federation.Document) (*p2p.Directory, error)
	// Credential is [p2p.NewCredential].
	Credential(text []byte, doc *federation.Document) (*p2p.Credential, error)
	// Verify checks an Ed25519 signature of a heartbeat, a digest or a roster.
	Verify(public [32]byte, message, signature []byte) bool
	// Share is [gossip.Config.Share].
	Share(id string, data []byte) []byte
	// BookPath is the file of the address book, "" to keep it in memory.
	BookPath(home *Home) string
	// Wall reads the wall clock, which may be wrong; how time passes is package time's alone.
	Wall() time.Time
}

// Followed is the state of a node that follows its own region. One goroutine at a time changes it; any may view it.
type Followed interface {
	follow.Replica
	// Certify records a certificate of the region, verified, if its seal is here.
	Certify(signed []byte) error
	// InForce is [fsm.Machine.InForce], ProveCertified [fsm.Machine.ProveCertified].
	InForce() *federation.Document
	ProveCertified(key []byte) (*fsm.StateProof, error)
	Close() error
}

// Machine is the ground of nodes that run in earnest: the machine's disk, sockets and clock.
func Machine() Ground { return earth{} }

// earth is the machine's disk and sockets.
type earth struct{}

func (earth) OpenHome(dir string) (*Home, error)        { return OpenHome(dir) }
func (earth) NewHost(cfg p2p.Config) (host.Host, error) { return p2p.NewHost(cfg) }
func (earth) RemoveStore(dir string) error              { return os.RemoveAll(dir) }
func (earth) Wall() time.Time                           { return time.Now() }
func (earth) BookPath(home *Home) string                { return home.path(FilePeers) }

func (earth) OpenEntries(entries [][]byte, verify bool) ([]*fsm.Entry, int, error) {
	return follow.ParseEntries(entries, verify)
}

func (earth) OpenStatement(data []byte, doc *federation.Document) (*attest.Statement, error) {
	return attest.Open(data, doc)
}

func (earth) Directory(doc *federation.Document) (*p2p.Directory, error) {
	return p2p.NewDirectory(doc)
}

func (earth) Credential(text []byte, doc *federation.Document) (*p2p.Credential, error) {
	return p2p.NewCredential(text, doc)
}

func (earth) Verify(public [32]byte, message, signature []byte) bool {
	return ed25519.Verify(public[:], message, signature)
}

func (earth) Share(_ string, data []byte) []byte { return data }

func (earth) OpenStore(dir string, o pebblestore.Options) (store.Store, error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, err
	}
	return pebblestore.Open(dir, o)
}

// storedFollowed is a machine with its store.
type storedFollowed struct {
	*fsm.Machine
	st store.Store
}

func (f *storedFollowed) Certify(signed []byte) error {
	_, err := f.ApplyCertificate(signed) // what it refuses comes too early, or is known
	return err
}

func (f *storedFollowed) Close() error { return errors.Join(f.Machine.Close(), f.st.Close()) }

// OpenFollowed implements [Ground].
func (e earth) OpenFollowed(dir string, o pebblestore.Options, cfg fsm.Config) (Followed, error) {
	st, err := e.OpenStore(dir, o)
	if err != nil {
		return nil, err
	}
	return OpenFollowed(st, cfg)
}

// OpenFollowed opens such a state in a store, which its Close closes, as an error does.
func OpenFollowed(st store.Store, cfg fsm.Config) (Followed, error) {
	m, err := fsm.Open(st, cfg)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return &storedFollowed{m, st}, nil
}

// Watch is told what happens in a node, on the goroutine to which it happens: it must be quick.
// Each may be nil.
type Watch struct {
	Applied func(res *fsm.Result)  // of the region's own Raft
	Learned func(l attest.Learned) // a certificate, verified
	Alarm   func(a attest.Alarm)   // of attestation
	Said    func(t attest.Topic)   // to everybody, of attestation: about to be
}

func (w Watch) withDefaults() Watch {
	if w.Applied == nil {
		w.Applied = func(*fsm.Result) {}
	}
	if w.Learned == nil {
		w.Learned = func(attest.Learned) {}
	}
	if w.Said == nil {
		w.Said = func(attest.Topic) {}
	}
	if w.Alarm == nil {
		w.Alarm = func(attest.Alarm) {}
	}
	return w
}
