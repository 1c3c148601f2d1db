package client_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestLight: who embeds the client does not get a consensus, a peer-to-peer stack or
// a storage engine with it.
func TestLight(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 50 {
		t.Fatalf("%d dependencies: the list is not what the test means", len(deps))
	}
	for _, d := range deps {
		for _, heavy := range []string{"github.com/hashicorp/raft", "github.com/libp2p/", "github.com/cockroachdb/", "go.etcd.io/bbolt"} {
			if strings.HasPrefix(d, heavy) {
				t.Errorf("client imports %s", d)
			}
		}
	}
}
