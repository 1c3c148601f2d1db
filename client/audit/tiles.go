package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/pci"
)

// bundlesAhead is how many bundles are read, and their signatures verified, while the one
// before is executed.
const bundlesAhead = 2

// bundle is a run of entries that are in the tree, parsed, their proofs' signatures verified.
type bundle struct {
	first   int64
	entries [][]byte
	parsed  []*fsm.Entry
	err     error // why there is none and no other follows
}

// reader reads the entries of a tree from tiles, on a goroutine of its own.
type reader struct {
	source  Source
	token   string
	tree    tlog.Tree
	hashes  *hashTiles
	bundles chan bundle
	done    sync.WaitGroup
	cancel  context.CancelFunc
}

// read begins to read from an entry on. Close ends it.
func read(ctx context.Context, source Source, token string, tree tlog.Tree, from int64) *reader {
	ctx, cancel := context.WithCancel(ctx)
	r := &reader{source: source, token: token, tree: tree, bundles: make(chan bundle, bundlesAhead), cancel: cancel,
		hashes: newHashTiles(ctx, source)}
	r.done.Go(func() {
		defer close(r.bundles)
		for from < tree.N {
			b := r.bundle(ctx, from)
			select {
			case r.bundles <- b:
			case <-ctx.Done():
				return
			}
			if b.err != nil {
				return
			}
			from += int64(len(b.entries))
		}
	})
	return r
}

func (r *reader) close() {
	r.cancel()
	r.done.Wait()
}

// bundle reads the entries from one on to the end of its tile or of the tree.
func (r *reader) bundle(ctx context.Context, from int64) bundle {
	n := from / torchwood.TileWidth
	base := n * torchwood.TileWidth
	t := tlog.Tile{H: torchwood.TileHeight, L: -1, N: n, W: int(min(torchwood.TileWidth, r.tree.N-base))}
	b := bundle{first: from}
	data, err := r.source.Tile(ctx, t, r.token)
	if err != nil {
		b.err = err
		return b
	}
	all, err := cut(data, t.W)
	if err != nil {
		b.err = notValid("%s: %w", torchwood.TilePath(t), err)
		return b
	}
	indexes := make([]int64, len(all))
	for i := range all {
		indexes[i] = tlog.StoredHashIndex(0, base+int64(i))
	}
	hashes, err := r.hashes.read(r.tree, indexes)
	if err != nil {
		b.err = err
		return b
	}
	for i, entry := range all {
		if ledger.LeafHash(entry) != hashes[i] {
			b.err = notValid("entry %d: its hash is not the one in the tree of %d entries that is certified", base+int64(i), r.tree.N)
			return b
		}
	}
	b.entries = all[from-base:]
	b.parse()
	return b
}

// cut takes a bundle's entries apart.
func cut(data []byte, count int) ([][]byte, error) {
	entries := make([][]byte, 0, count)
	for i := range count {
		if len(data) == 0 {
			return nil, fmt.Errorf("it has %d entries where %d belong", i, count)
		}
		entry, rest, err := torchwood.ReadTileEntry(data)
		if err != nil {
			return nil, fmt.Errorf("entry %d of it: %w", i, err)
		}
		entries, data = append(entries, entry), rest
	}
	if len(data) > 0 {
		return nil, fmt.Errorf("%d bytes follow its %d entries", len(data), count)
	}
	return entries, nil
}

func (b *bundle) parse() {
	envelopes := make([]*pci.Envelope, 0, len(b.entries))
	at := make([]int64, 0, len(b.entries))
	b.parsed = make([]*fsm.Entry, len(b.entries))
	for i, text := range b.entries {
		index := b.first + int64(i)
		e, err := fsm.ParseEntry(text)
		if err != nil {
			b.err = notValid("entry %d: %w", index, err)
			return
		}
		b.parsed[i] = e
		if e.Envelope != nil {
			envelopes, at = append(envelopes, e.Envelope), append(at, index)
		}
	}
	for i, err := range pci.VerifyBatch(envelopes) {
		if err != nil {
			b.err = notValid("entry %d: the signature of its proof does not hold: %w", at[i], err)
			return
		}
	}
}

// hashTiles reads hashes from tiles that lead to the root of a tree. Of the tiles that were found
// to do so it keeps those that come again: the higher ones, and the partial ones at the edge.
type hashTiles struct {
	ctx    context.Context
	source Source
	kept   map[tlog.Tile][]byte
	fresh  []tlog.Tile // asked for since read was called
	failed error       // why one could not be had
}

func newHashTiles(ctx context.Context, source Source) *hashTiles {
	return &hashTiles{ctx: ctx, source: source, kept: map[tlog.Tile][]byte{}}
}

func (h *hashTiles) read(tree tlog.Tree, indexes []int64) (hashes []tlog.Hash, err error) {
	err = h.reading(tree, func(r tlog.HashReader) error {
		hashes, err = r.ReadHashes(indexes)
		return err
	})
	return hashes, err
}

// prove gives the proof that leads to the tree from its first so many entries.
func (h *hashTiles) prove(tree tlog.Tree, size int64) (proof tlog.TreeProof, err error) {
	err = h.reading(tree, func(r tlog.HashReader) error {
		proof, err = tlog.ProveTree(tree.N, size, r)
		return err
	})
	return proof, err
}

// reading lends the hashes of a tree, and names the tiles where they do not lead to its root.
func (h *hashTiles) reading(tree tlog.Tree, read func(tlog.HashReader) error) error {
	h.fresh, h.failed = nil, nil
	err := read(tlog.TileHashReader(tree, h))
	switch {
	case h.failed != nil:
		return h.failed
	case err != nil:
		paths := make([]string, len(h.fresh))
		for i, t := range h.fresh {
			paths[i] = torchwood.TilePath(t)
		}
		return notValid("of the hash tiles %v one does not lead to the certified root of %d entries: %w", paths, tree.N, err)
	}
	return nil
}

// Height implements [tlog.TileReader].
func (*hashTiles) Height() int { return torchwood.TileHeight }

// ReadTiles implements [tlog.TileReader].
func (h *hashTiles) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, t := range tiles {
		if kept, ok := h.kept[t]; ok {
			data[i] = kept
			continue
		}
		h.fresh = append(h.fresh, t)
		if data[i], h.failed = h.source.Tile(h.ctx, t, ""); h.failed != nil {
			return nil, h.failed
		}
		if len(data[i]) != t.W*tlog.HashSize {
			h.failed = notValid("%s has %d bytes, and %d hashes belong there", torchwood.TilePath(t), len(data[i]), t.W)
			return nil, h.failed
		}
	}
	return data, nil
}

// SaveTiles implements [tlog.TileReader]: they were found to be right.
func (h *hashTiles) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	for i, t := range tiles {
		if t.L > 0 || t.W < torchwood.TileWidth {
			h.kept[t] = data[i]
		}
	}
}

// ErrNotValid is wrapped by every error that says what is wrong with a ledger.
var ErrNotValid = errors.New("the ledger is not valid")

func notValid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrNotValid, fmt.Errorf(format, args...))
}
