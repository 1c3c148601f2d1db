package node

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

// certificateBound is what half of the certificates must not exceed on loopback, from the seal, as
// its region first applies it, to the certificate in that region.
const certificateBound = 150 * time.Millisecond

// BenchmarkLoopbackCertificate runs four regions of three voters, with real disks and sockets, in
// this process. Each operation is a proof in each region, its seal and its certificate.
func BenchmarkLoopbackCertificate(b *testing.B) {
	fed := testfed.New(4, 3, testfed.Open, testfed.Lenient)
	var mu sync.Mutex
	sealed := map[string]time.Time{}
	var took []time.Duration
	certified := map[string]int64{}
	watch := func(region string) Watch {
		return Watch{Applied: func(res *fsm.Result) {
			if res.Seal == nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			key := fmt.Sprint(region, res.Seal.Size)
			if _, ok := sealed[key]; !ok {
				sealed[key] = time.Now()
			}
		}, Learned: func(l attest.Learned) {
			mu.Lock()
			defer mu.Unlock()
			key := fmt.Sprint(region, l.Size)
			if at, ok := sealed[key]; ok && l.Origin == region && !at.IsZero() {
				took = append(took, time.Since(at))
				sealed[key] = time.Time{}
			}
			if l.Origin == region {
				certified[region] = max(certified[region], l.Size)
			}
		}}
	}
	nodes := map[string][]*Node{}
	var join []string
	for _, r := range fed.Document.Regions {
		for i := range fed.Nodes[r.Name] {
			n, err := Start(b.Context(), Config{Home: homeOf(b, fed, r.Name, i), Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Join: join, Watch: watch(r.Name)})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = n.Close(context.Background()) })
			if join == nil {
				join = n.Addresses()
			}
			nodes[r.Name] = append(nodes[r.Name], n)
		}
	}
	step := func(region string, k int) {
		agent := fed.Agent("agent-of-"+region, time.Now().UnixMilli())
		proof := agent.Sign("session.open", map[string]any{"region": region, "session": fmt.Sprint("s", k)}, "",
			func(d *pci.Draft) {
				d.Nonce = [32]byte{byte(k), byte(k >> 8), 1}
				d.EnvelopeID = fmt.Sprintf("%08x-0000-4000-8000-000000000000", k)
			})
		var receipt fsm.Receipt
		eventually(b, "a receipt of "+region, func() error {
			o, err := nodes[region][k%3].Submit(b.Context(), [][]byte{proof.Canonical()})
			if err == nil && (o[0].Reject != nil || !o[0].Receipt.Accepted()) {
				b.Fatalf("refused: %+v", o[0])
			}
			if err == nil {
				receipt = o[0].Receipt
			}
			return err
		})
		eventually(b, fmt.Sprintf("entry %d of %s to be certified", receipt.Index, region), func() error {
			mu.Lock()
			defer mu.Unlock()
			if certified[region] <= receipt.Index {
				return fmt.Errorf("%d are", certified[region])
			}
			return nil
		})
	}
	k := 0
	all := func() {
		k++
		var regions sync.WaitGroup
		for region := range nodes {
			regions.Go(func() { step(region, k) })
		}
		regions.Wait()
	}
	for range 3 { // connected, and warm
		all()
	}
	mu.Lock()
	took = nil
	mu.Unlock()
	for b.Loop() {
		all()
	}
	mu.Lock()
	defer mu.Unlock()
	if len(took) == 0 {
		b.Fatal("nothing was certified")
	}
	slices.Sort(took)
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	b.ReportMetric(float64(p50)/1e6, "ms-p50")
	b.ReportMetric(float64(p99)/1e6, "ms-p99")
	if b.Logf("%d certificates, p50 %v, bound %v", len(took), p50, certificateBound); p50 > certificateBound {
		b.Errorf("half of the certificates took more than %v, bound %v", p50, certificateBound)
	}
}

// eventually polls until try succeeds.
func eventually(b *testing.B, what string, try func() error) {
	b.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("waited for %s: %v", what, err)
		}
	}
}

// homeOf makes the home of a founding voter.
func homeOf(t testing.TB, fed *testfed.Federation, region string, index int) string {
	t.Helper()
	dir := t.TempDir()
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, key := range map[string]*pci.PrivateKey{FileNodeKey: fed.Nodes[region][index], FileLogKey: fed.LogKeys[region], FileCosignKey: fed.Cosign[region]} {
		fail(key.Save(filepath.Join(dir, name)))
	}
	b, err := json.Marshal(Identity{Version: homeVersion, Name: fmt.Sprintf("%s-%d", region, index+1), Region: region, Role: RoleVoter})
	fail(err)
	fail(os.WriteFile(filepath.Join(dir, FileNode), b, 0o600))
	fail(os.WriteFile(filepath.Join(dir, FileDocument), fed.Document.Canonical(), 0o600))
	fail(os.WriteFile(filepath.Join(dir, FileFounding), nil, 0o600))
	return dir
}
