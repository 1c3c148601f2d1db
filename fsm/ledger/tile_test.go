package ledger_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/fsm/store"
)

// served is a ledger of generated entries behind a server of tiles; change may alter what is served.
func served(t *testing.T, size int64, change func(path string, data []byte) []byte) (client *torchwood.Client, tree tlog.Tree, requests *atomic.Int64) {
	t.Helper()
	view, tree := filled(t, size, tileEntry)
	requests = new(atomic.Int64)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		path := strings.TrimPrefix(r.URL.Path, "/")
		tile, err := torchwood.ParseTilePath(path)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		data, err := view.Tile(tile)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		_, _ = w.Write(change(path, data))
	}))
	t.Cleanup(srv.Close)
	fetcher, err := torchwood.NewTileFetcher(srv.URL, torchwood.WithConcurrencyLimit(8))
	if err != nil {
		t.Fatal(err)
	}
	client, err = torchwood.NewClient(fetcher)
	if err != nil {
		t.Fatal(err)
	}
	return client, tree, requests
}

// tileEntry is an entry of a length that depends on its index: empty ones, and one of the longest, are among them.
func tileEntry(i int64) []byte {
	if i == 300 {
		return bytes.Repeat([]byte("x"), ledger.EntryBytesMax)
	}
	return []byte(strings.Repeat(fmt.Sprint(i), int(i%7)))
}

func asIs(_ string, data []byte) []byte { return data }

// TestTorchwoodReadsLedger: a client of transparency logs that is not ours reads and verifies every entry.
func TestTorchwoodReadsLedger(t *testing.T) {
	for _, size := range []int64{1, 255, 256, 257, 5000} {
		client, tree, requests := served(t, size, asIs)
		read := int64(0)
		for i, entry := range client.AllEntries(t.Context(), tree, 0) {
			if i != read || !bytes.Equal(entry, tileEntry(i)) {
				t.Fatalf("of %d entries: number %d is %q, want number %d %q", size, i, entry, read, tileEntry(read))
			}
			read++
		}
		if err := client.Err(); err != nil || read != size {
			t.Fatalf("of %d entries %d were read: %v", size, read, err)
		}
		for range 10 {
			i := rand.Int64N(size)
			entry, proof, err := client.Entry(t.Context(), tree, i)
			if err != nil || !bytes.Equal(entry, tileEntry(i)) || ledger.CheckInclusion(proof, size, tree.Hash, i, ledger.LeafHash(entry)) != nil {
				t.Errorf("entry %d of %d: %q: %v", i, size, entry, err)
			}
		}
		if requests.Load() < 2 {
			t.Errorf("%d requests were made", requests.Load())
		}
	}
}

// TestTorchwoodFindsChange: what a server changes, the client finds.
func TestTorchwoodFindsChange(t *testing.T) {
	for name, change := range map[string]func(path string, data []byte) []byte{
		"an entry": func(path string, data []byte) []byte {
			if path == "tile/entries/003" {
				data[len(data)-1] ^= 1
			}
			return data
		},
		"a hash": func(path string, data []byte) []byte {
			if path == "tile/0/003" {
				data[40] ^= 1
			}
			return data
		},
		"an entry less": func(path string, data []byte) []byte {
			if path == "tile/entries/003" {
				return data[:len(data)-2-int(binary.BigEndian.Uint16(data))]
			}
			return data
		},
	} {
		client, tree, _ := served(t, 2000, change)
		for range client.AllEntries(t.Context(), tree, 0) {
		}
		if client.Err() == nil {
			t.Errorf("%s: the client found nothing", name)
		}
	}
}

// TestTilePaths: every tile of a tree is there under the standard's path, and none beyond.
func TestTilePaths(t *testing.T) {
	const size = 70_000
	view, _ := filled(t, size, func(i int64) []byte { return fmt.Append(nil, i) })
	for path, want := range map[string]bool{
		"tile/0/000": true, "tile/0/272": true, "tile/0/273": false, "tile/0/273.p/112": true, "tile/0/273.p/113": false, "tile/0/000.p/7": true,
		"tile/1/000": true, "tile/1/001": false, "tile/1/001.p/17": true, "tile/1/001.p/18": false, "tile/2/000.p/1": true, "tile/2/000": false,
		"tile/3/000.p/1": false, "tile/entries/272": true, "tile/entries/273": false, "tile/entries/273.p/112": true, "tile/entries/x001/000": false,
	} {
		tl, err := torchwood.ParseTilePath(path)
		if err != nil {
			t.Fatal(err)
		}
		data, err := view.Tile(tl)
		if (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", path, err, want)
		}
		if err == nil && tl.L >= 0 && len(data) != 32*tl.W {
			t.Errorf("%s: %d bytes", path, len(data))
		}
	}
}

// filled is a ledger of so many entries, and its tree.
func filled(t *testing.T, size int64, entry func(int64) []byte) (ledger.View, tlog.Tree) {
	t.Helper()
	st := store.NewMemory()
	log, err := ledger.Open(st)
	if err != nil {
		t.Fatal(err)
	}
	txn := store.NewTxn(st)
	for i := range size {
		if _, err := log.Append(txn, ledger.Appended{Data: entry(i)}); err != nil {
			t.Fatal(err)
		}
	}
	root, err := log.Root()
	if err := errors.Join(err, st.Commit(txn.Writes())); err != nil {
		t.Fatal(err)
	}
	return ledger.View{Reader: st}, tlog.Tree{N: size, Hash: root}
}
