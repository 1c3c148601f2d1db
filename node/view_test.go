package node

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/api"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/internal/testregion"
)

// TestViewOfLedger: the newest certificate and the tiles are shown, and what is not there is not found.
func TestViewOfLedger(t *testing.T) {
	r := testregion.New(t, testfed.New(4, 1), "a")
	r.Session("alice", "s1")
	seal := r.Seal()
	open := func() *apiView {
		t.Helper()
		state, err := r.Machine.View()
		if err != nil {
			t.Fatal(err)
		}
		v, err := newAPIView(state, "a")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = v.Close() })
		return v
	}
	if _, _, err := open().Checkpoint(); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("before the first certificate: %v", err)
	}
	cert := r.Certify(seal)
	if res := r.Apply(fsm.EncodeCertify(seal.Number, cert)); res.Attested == nil || !res.Attested.Accepted() {
		t.Fatalf("certify: %+v", res)
	}
	v := open()
	if note, size, err := v.Checkpoint(); err != nil || size != seal.Size || !bytes.Equal(note, cert) {
		t.Errorf("checkpoint of %d entries %q: %v", size, note, err)
	}
	if b, err := v.Tile(tlog.Tile{H: 8, L: 0, N: 0, W: int(seal.Size)}); err != nil || len(b) != 32*int(seal.Size) {
		t.Errorf("tile of %d bytes: %v", len(b), err)
	}
	if _, err := v.Tile(tlog.Tile{H: 8, L: 0, N: 1, W: 1}); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("a tile beyond: %v", err)
	}
}

// TestCertificateForAMemberThatEnds: gossip may bring one while a member is made a voter, and hold
// what is closed meanwhile.
func TestCertificateForAMemberThatEnds(t *testing.T) {
	fed := testfed.New(1, 1)
	r := testregion.New(t, fed, "a")
	cert := r.Certify(r.Seal())
	st := &state{openFollowed: earth{}.OpenFollowed, watch: func() fsm.Observer { return nil }, onDocument: func(*federation.Document) {}}
	o, followed, err := st.follow(t.TempDir(), "a", slog.New(slog.DiscardHandler), fed.Document)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	m := &member{Followed: followed, opened: o, view: st.View, newest: func() ([]byte, bool) { asked++; return cert, true }}
	if err := m.certify(); err != nil {
		t.Fatal(err)
	}
	if err := m.end(); err != nil {
		t.Fatal(err)
	}
	if err := m.certify(); err != nil || asked != 2 {
		t.Errorf("asked %d times; after its end: %v", asked, err)
	}
}
