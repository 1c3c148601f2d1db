package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/consensus/region"
)

// A disk below the watermark shows wherever somebody looks: in the answer to a proof, in the status, in the metrics.
func TestLowDiskIsShown(t *testing.T) {
	dir, fed := newHome(t)
	n, err := Start(t.Context(), Config{Home: dir, HTTP: "127.0.0.1:0", Raft: region.Config{DiskFreeMin: 1 << 50,
		FreeBytes: func(string) (int64, error) { return 1 << 30, nil }}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	awaitReady(t, n)
	k := &keeper{t: t, n: n, agent: fed.Operator("a", 0)}
	proof := k.sign("agent.register", map[string]any{"region": "a", "agent_id": "x", "agent_type": "PAT",
		"public_key": "00", "owner": "o"}, "")
	res, err := http.Post(n.HTTPAddress()+"/v1/proofs", client.MediaJSON, bytes.NewReader(proof.Canonical()))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") != "30" || !strings.Contains(string(body), "disk is nearly full: 1024 MiB are free") {
		t.Errorf("%s, Retry-After %q: %s", res.Status, res.Header.Get("Retry-After"), body)
	}
	s, err := n.Status()
	if err != nil || s.Disk == nil || !s.Disk.Low || s.Disk.FreeBytes != 1<<30 || s.Disk.MinBytes != 1<<50 {
		text, _ := json.Marshal(s)
		t.Errorf("the status is %s: %v", text, err)
	}
	registry, err := n.registry.Open()
	if err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "bizra_disk_low" && f.GetMetric()[0].GetGauge().GetValue() == 1 {
			return
		}
	}
	t.Error("bizra_disk_low is not 1")
}
