package node

import (
	"context"
	"testing"
	"time"

	"github.com/bizra/bizra/internal/testfed"
)

// newHome makes the home of the only founding voter of a federation.
func newHome(t *testing.T) (string, *testfed.Federation) {
	t.Helper()
	fed := testfed.New(1, 1)
	return newHomeIn(t, fed, "a"), fed
}

// newHomeIn makes the home of the only founding voter of a region.
func newHomeIn(t *testing.T, fed *testfed.Federation, region string) string {
	t.Helper()
	return homeOf(t, fed, region, 0)
}

func awaitReady(t *testing.T, n *Node) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); n.notReady() != ""; <-tick.C {
		if time.Now().After(deadline) || n.Failure() != nil {
			t.Fatalf("not ready: %s", n.notReady())
		}
	}
}

// A node that is told to end while it starts leaves nothing running and its home whole.
func TestCloseWhileStarting(t *testing.T) {
	dir, _ := newHome(t)
	for round := range 12 {
		n, err := Start(t.Context(), Config{Home: dir, Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if round%3 > 0 { // let it come a little further each time
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(round)*3*time.Millisecond)
			select {
			case <-ctx.Done():
			case <-n.Failed():
			}
			cancel()
		}
		if err := n.Close(context.Background()); err != nil {
			t.Fatalf("round %d: close: %v", round, err)
		}
		if err := n.Failure(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	n, err := Start(t.Context(), Config{Home: dir, Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err != nil {
		t.Fatal(err)
	}
	awaitReady(t, n)
	size, err := n.catchUp(t.Context())
	if err != nil || size < 1 || n.ledgerSize() < size {
		t.Errorf("a read as of now sees %d entries, the ledger has %d: %v", size, n.ledgerSize(), err)
	}
	if err := n.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}
