package sim

import (
	"crypto/ed25519"
	"crypto/sha256"
	"maps"
	"sync"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/consensus/follow"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/p2p"
)

// What is memoised, as [World.Memo] counts it.
const (
	MemoEntry       = "entry"        // parsed, its signature verified
	MemoCheckpoint  = "checkpoint"   // signature verified
	MemoCosignature = "cosignature"  // signature verified
	MemoCertificate = "certificate"  // a quorum's signatures verified
	MemoReexecution = "re-execution" // of an entry
	MemoSeal        = "seal"         // worked out and compared
	MemoCertified   = "certified"    // a certificate recorded in a state
	MemoInvitation  = "invitation"   // parsed, its signature verified
	MemoSignature   = "signature"    // of a heartbeat, a digest or a roster, verified
)

const memoMax = 1 << 14 // of each of the two generations of what is remembered

// MemoCount says how often something was worked out, and how often the result of the same before
// was taken instead.
type MemoCount struct{ Real, Memoised int64 }

// memo remembers what the nodes of a world would each work out from the same bytes, with the same
// result. A key is a hash of all that the result depends on, and only what holds is remembered:
// what is refused is refused anew each time.
type memo struct {
	off bool

	mu          sync.Mutex
	counts      map[string]MemoCount
	statements  generations[statementKey, *attest.Statement]
	entries     generations[entryKey, *fsm.Entry]
	invitations generations[statementKey, *p2p.Credential]
	signatures  generations[signatureKey, struct{}]
	messages    generations[string, []byte]          // of gossip, by the hash that names them; only those that are worth it
	directories map[[sha256.Size]byte]*p2p.Directory // by the digest of their document; there are few
	histories   map[historyKey]*history
}

// signatureKey is of a key, a signature and what is signed.
type signatureKey struct {
	public    [32]byte
	signature [64]byte
	message   [sha256.Size]byte
}

// statementKey is of a message, or a note, under a document.
type statementKey struct{ document, data [sha256.Size]byte }

type entryKey struct {
	data   [sha256.Size]byte
	verify bool
}

func newMemo(off bool) *memo {
	return &memo{off: off, counts: map[string]MemoCount{}, directories: map[[sha256.Size]byte]*p2p.Directory{}, histories: map[historyKey]*history{}}
}

// Memo says what was worked out and what was memoised, by kind. With [Config.NoMemo], nothing is counted.
func (w *World) Memo() map[string]MemoCount {
	w.memo.mu.Lock()
	defer w.memo.mu.Unlock()
	return maps.Clone(w.memo.counts)
}

// count is called under mu.
func (m *memo) count(kind string, worked, memoised int) {
	c := m.counts[kind]
	c.Real, c.Memoised = c.Real+int64(worked), c.Memoised+int64(memoised)
	m.counts[kind] = c
}

// kindOf says as what a statement counts; what is rare is not remembered.
func kindOf(s *attest.Statement) (kind string, kept bool) {
	switch s.Kind {
	case attest.KindCheckpoint:
		return MemoCheckpoint, true
	case attest.KindCosignature:
		return MemoCosignature, true
	case attest.KindCertificate:
		return MemoCertificate, true
	default:
		return "", false
	}
}

// statement is [attest.Open].
func (m *memo) statement(data []byte, doc *federation.Document) (*attest.Statement, error) {
	if m.off {
		return attest.Open(data, doc)
	}
	key := statementKey{doc.Digest(), sha256.Sum256(data)}
	m.mu.Lock()
	if s, ok := m.statements.get(key); ok {
		kind, _ := kindOf(s)
		m.count(kind, 0, 1)
		m.mu.Unlock()
		again := *s
		return &again, nil
	}
	m.mu.Unlock()
	s, err := attest.Open(data, doc)
	if err != nil {
		return nil, err
	}
	if kind, kept := kindOf(s); kept {
		again := *s
		m.mu.Lock()
		m.count(kind, 1, 0)
		m.statements.put(key, &again)
		m.mu.Unlock()
	}
	return s, nil
}

// parse is [follow.ParseEntries].
func (m *memo) parse(entries [][]byte, verify bool) (parsed []*fsm.Entry, good int, flaw error) {
	if m.off {
		return follow.ParseEntries(entries, verify)
	}
	keys := make([]entryKey, len(entries))
	for i, b := range entries {
		keys[i] = entryKey{sha256.Sum256(b), verify}
	}
	m.mu.Lock()
	for _, key := range keys {
		e, ok := m.entries.get(key)
		if !ok {
			break
		}
		parsed = append(parsed, e)
	}
	k := len(parsed)
	m.count(MemoEntry, 0, k)
	m.mu.Unlock()
	if k == len(entries) {
		return parsed, k, nil
	}
	rest, good, flaw := follow.ParseEntries(entries[k:], verify)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count(MemoEntry, good, 0)
	for i, e := range rest[:good] {
		m.entries.put(keys[k+i], e)
	}
	return append(parsed, rest...), k + good, flaw
}

// directory is [p2p.NewDirectory].
func (m *memo) directory(doc *federation.Document) (*p2p.Directory, error) {
	if m.off {
		return p2p.NewDirectory(doc)
	}
	key := doc.Digest()
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.directories[key]; d != nil {
		return d, nil
	}
	d, err := p2p.NewDirectory(doc)
	if err == nil {
		m.directories[key] = d
	}
	return d, err
}

// credential is [p2p.NewCredential].
func (m *memo) credential(text []byte, doc *federation.Document) (*p2p.Credential, error) {
	if m.off || doc == nil {
		return p2p.NewCredential(text, doc)
	}
	key := statementKey{doc.Digest(), sha256.Sum256(text)}
	m.mu.Lock()
	c, ok := m.invitations.get(key)
	if ok {
		m.count(MemoInvitation, 0, 1)
	}
	m.mu.Unlock()
	if ok {
		return c, nil
	}
	c, err := p2p.NewCredential(text, doc)
	if err == nil {
		m.mu.Lock()
		m.count(MemoInvitation, 1, 0)
		m.invitations.put(key, c)
		m.mu.Unlock()
	}
	return c, err
}

// verify is ed25519.Verify.
func (m *memo) verify(public [32]byte, message, signature []byte) bool {
	if m.off || len(signature) != ed25519.SignatureSize {
		return ed25519.Verify(public[:], message, signature)
	}
	key := signatureKey{public, [64]byte(signature), sha256.Sum256(message)}
	m.mu.Lock()
	_, ok := m.signatures.get(key)
	if ok {
		m.count(MemoSignature, 0, 1)
	}
	m.mu.Unlock()
	if ok {
		return true
	}
	if !ed25519.Verify(public[:], message, signature) {
		return false
	}
	m.mu.Lock()
	m.count(MemoSignature, 1, 0)
	m.signatures.put(key, struct{}{})
	m.mu.Unlock()
	return true
}

// sharedBytesMin is how long a message of gossip must be to be held once for all nodes.
const sharedBytesMin = 1 << 10

// share is [gossip.Config.Share]. A name is a hash of the topic and the data.
func (m *memo) share(id string, data []byte) []byte {
	if m.off || len(data) < sharedBytesMin {
		return data
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	same, ok := m.messages.get(id)
	if !ok {
		same = data
		m.messages.put(id, data)
	}
	return same
}

// generations remember at least the last so many of what was put in, and at most twice as many.
type generations[K comparable, V any] struct{ young, old map[K]V }

func (g *generations[K, V]) get(key K) (v V, ok bool) {
	if v, ok = g.young[key]; !ok {
		if v, ok = g.old[key]; ok {
			g.put(key, v)
		}
	}
	return v, ok
}

func (g *generations[K, V]) put(key K, v V) {
	if g.young == nil || len(g.young) >= memoMax {
		g.old, g.young = g.young, make(map[K]V)
	}
	g.young[key] = v
}
