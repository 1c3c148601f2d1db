package p2p

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/bizra/bizra/pci"
)

// Limits of the address book.
const (
	BookPeersMax  = 1024
	BookBytesMax  = 4 << 20
	bookVersion   = 1
	bookDepthMax  = 5
	peerIDTextMax = 128
)

// Book remembers where peers of the own region, and voters of others, were reached, across restarts if it has
// a file. What is in it is a hint: who a peer is, its key shows. Safe for concurrent use.
type Book struct {
	path string // "" for a book without a file

	mu    sync.Mutex
	peers map[peer.ID]bookEntry
	dirty bool
}

type bookEntry struct {
	addresses  []ma.Multiaddr // best first, at most AddressesMax
	texts      []string       // of addresses
	seen       time.Time      // when it was last connected or heard of
	invitation []byte         // by which it is a member, canonical; nil for others
}

// OpenBook reads the book's file. A file that does not exist gives an empty book; one
// that cannot be read or understood too, with a warning, because the book is only a
// help. The path "" gives a book in memory only.
func OpenBook(path string, logger *slog.Logger) *Book {
	b := &Book{path: path, peers: make(map[peer.ID]bookEntry)}
	if path == "" {
		return b
	}
	if err := b.load(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		logger.Warn("address book not used; it is written anew", "path", path, "error", err)
		clear(b.peers)
	}
	return b
}

func (b *Book) load() error {
	f, err := os.Open(b.path)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, BookBytesMax+1))
	if err != nil {
		return err
	}
	if len(text) > BookBytesMax {
		return fmt.Errorf("it is longer than %d bytes", BookBytesMax)
	}
	return b.parse(text)
}

func (b *Book) parse(text []byte) error {
	v, err := pci.Parse(text, pci.Limits{BytesMax: BookBytesMax, DepthMax: bookDepthMax})
	if err != nil {
		return err
	}
	o := pci.ReadObject(v)
	if n := o.Int("v"); n != bookVersion {
		o.Fault("version %d of address books is not known to this program: it knows version %d", n, bookVersion)
	}
	for _, e := range o.Array("peers", BookPeersMax) {
		po := o.Element("peers", e)
		id, err := ParseNode(po.Text("id", peerIDTextMax))
		entry := bookEntry{addresses: dialable(po.Texts("addresses", AddressesMax, AddressBytesMax)), seen: time.UnixMilli(po.Int("seen_ms"))}
		entry.texts = texts(entry.addresses)
		if inv := po.OptionalText("invitation", InvitationBytesMax); inv != "" {
			entry.invitation = []byte(inv)
		}
		_ = po.Done()
		if err != nil {
			o.Fault("%v", err)
			break
		}
		b.peers[id] = entry
	}
	return o.Done()
}

func (b *Book) encode() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	ids := make([]peer.ID, 0, len(b.peers))
	for id := range b.peers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	text := []byte(`{"peers":[`)
	for i, id := range ids {
		e := b.peers[id]
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, "\n"+`{"addresses":[`...)
		for j, a := range e.texts {
			if j > 0 {
				text = append(text, ',')
			}
			text = pci.AppendString(text, a)
		}
		text = append(text, `],"id":`...)
		text = pci.AppendString(text, id.String())
		if len(e.invitation) > 0 {
			text = append(text, `,"invitation":`...)
			text = pci.AppendString(text, string(e.invitation))
		}
		text = append(text, `,"seen_ms":`...)
		text = strconv.AppendInt(text, e.seen.UnixMilli(), 10)
		text = append(text, '}')
	}
	text = append(text, "\n"+`],"v":`...)
	text = strconv.AppendInt(text, bookVersion, 10)
	b.dirty = false
	return append(text, "}\n"...)
}

// Save writes the book's file, whole or not at all, and durably. Without a file, or
// without anything new, it does nothing.
func (b *Book) Save() error {
	_, err := b.save()
	return err
}

// save is [Book.Save] and tells whether there was anything to write.
func (b *Book) save() (wrote bool, err error) {
	b.mu.Lock()
	idle := b.path == "" || !b.dirty
	b.mu.Unlock()
	if idle {
		return false, nil
	}
	if err := writeDurably(b.path, b.encode()); err != nil {
		b.mu.Lock()
		b.dirty = true
		b.mu.Unlock()
		return true, fmt.Errorf("write address book: %w", err)
	}
	return true, nil
}

func writeDurably(path string, content []byte) (err error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	temporary := path + ".new"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // the node's own home names it
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	return dir.Sync()
}

// Learn adds addresses that others tell of a peer, behind those known. It reports
// whether there was a new one. Above [BookPeersMax] peers the one that was not heard of
// for the longest time goes.
func (b *Book) Learn(p peer.ID, addrs []ma.Multiaddr) (news bool) {
	return b.merge(p, func(known []ma.Multiaddr) []ma.Multiaddr {
		var unknown []ma.Multiaddr
		for _, a := range addrs {
			if !ma.Contains(known, a) && len(unknown) < AddressesMax {
				unknown = appendDialable(unknown, a)
			}
		}
		// Where there is no room the oldest hearsay makes it.
		return append(slices.Clone(known[:min(len(known), AddressesMax-len(unknown))]), unknown...)
	})
}

// heard is [Book.Learn] of addresses as they were told, if none of them is new; else it says so and does nothing.
func (b *Book) heard(p peer.ID, addresses []string) (known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.peers[p]
	for _, a := range addresses {
		ok = ok && slices.Contains(e.texts, a)
	}
	if ok {
		e.seen = time.Now()
		b.peers[p] = e
	}
	return ok
}

// toldAgain is [Book.Told] of addresses as they were told, if it would change nothing; else it says so and does nothing.
func (b *Book) toldAgain(p peer.ID, addresses []string) (known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.peers[p]
	if len(addresses) == 0 || len(addresses) > len(e.texts) || !slices.Equal(addresses, e.texts[:len(addresses)]) {
		return false
	}
	e.seen = time.Now()
	b.peers[p] = e
	return true
}

// Told puts addresses first that the peer itself gave, or at which it was reached.
func (b *Book) Told(p peer.ID, addrs []ma.Multiaddr) (news bool) {
	return b.merge(p, func(known []ma.Multiaddr) []ma.Multiaddr {
		var merged []ma.Multiaddr
		for _, a := range slices.Concat(addrs, known) {
			if len(merged) < AddressesMax {
				merged = appendDialable(merged, a)
			}
		}
		return merged
	})
}

func (b *Book) merge(p peer.ID, with func(known []ma.Multiaddr) []ma.Multiaddr) (news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entry(p)
	merged := with(e.addresses)
	changed := false
	for i, a := range merged {
		news = news || !ma.Contains(e.addresses, a)
		changed = changed || i >= len(e.addresses) || !a.Equal(e.addresses[i])
	}
	if changed {
		e.addresses, e.texts, b.dirty = merged, texts(merged), true
	}
	e.seen = time.Now()
	b.peers[p] = e
	return news
}

// entry is the peer's, or a new one for which it makes room; under mu.
func (b *Book) entry(p peer.ID) bookEntry {
	e, ok := b.peers[p]
	if ok || len(b.peers) < BookPeersMax {
		return e
	}
	var oldest peer.ID
	for id, other := range b.peers {
		if oldest == "" || other.seen.Before(b.peers[oldest].seen) || other.seen.Equal(b.peers[oldest].seen) && id < oldest {
			oldest = id
		}
	}
	delete(b.peers, oldest)
	return e
}

// Invited remembers the invitation by which a peer is a member, which must not be changed.
func (b *Book) Invited(p peer.ID, invitation []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entry(p)
	if string(e.invitation) == string(invitation) {
		return
	}
	e.invitation = invitation
	if e.seen.IsZero() {
		e.seen = time.Now()
	}
	b.peers[p] = e
	b.dirty = true
}

// Forget drops a peer.
func (b *Book) Forget(p peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.peers[p]; ok {
		delete(b.peers, p)
		b.dirty = true
	}
}

// Addresses are where the peer may be, best first.
func (b *Book) Addresses(p peer.ID) []ma.Multiaddr {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.peers[p].addresses)
}

// told are the texts of Addresses, which must not be changed.
func (b *Book) told(p peer.ID) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.peers[p].texts
}

// Invitations are those remembered, by peer.
func (b *Book) Invitations() map[peer.ID][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make(map[peer.ID][]byte)
	for id, e := range b.peers {
		if len(e.invitation) > 0 {
			out[id] = e.invitation
		}
	}
	return out
}

// Peers lists the peers in the book, sorted.
func (b *Book) Peers() []peer.ID {
	b.mu.Lock()
	defer b.mu.Unlock()
	ids := make([]peer.ID, 0, len(b.peers))
	for id := range b.peers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
