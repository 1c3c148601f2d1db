package client

import (
	"context"
	"fmt"
	"net/http"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
)

// What a node serves of its region's ledger in the forms of c2sp.org/tlog-tiles. Nothing
// of it is checked here: package certificate checks a certificate, package audit a whole ledger.

// entryBundleBytesMax is the longest bundle of entries: 256 of them with their lengths.
const entryBundleBytesMax = torchwood.TileWidth * (2 + 65535)

// Checkpoint is the newest certificate of the region's ledger, with the lines of outside witnesses behind
// it; the error matches [ErrNotFound] before the first.
func (c *Client) Checkpoint(ctx context.Context) ([]byte, error) {
	return c.raw(ctx, "read the checkpoint", request{path: "/checkpoint"})
}

// Tile is a tile of the region's ledger, at level -1 a bundle of entries, which needs a reader token
// ([ReaderToken]) unless the region has opened them.
func (c *Client) Tile(ctx context.Context, t tlog.Tile, token string) ([]byte, error) {
	r := request{path: "/" + torchwood.TilePath(t)}
	if t.L == -1 {
		r.token, r.bytesMax = token, entryBundleBytesMax
	}
	return c.raw(ctx, fmt.Sprintf("read %s", r.path[1:]), r)
}

// raw gets what is no JSON.
func (c *Client) raw(ctx context.Context, what string, r request) ([]byte, error) {
	r.method = http.MethodGet
	ans, err := c.do(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if p := ans.problem(); p != nil {
		return nil, fmt.Errorf("%s: %w", what, p)
	}
	return ans.body, nil
}
