package node

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

var keepHome = flag.Bool("keep-home", false, "make the home of the present state version for testdata/homes anew")

const (
	keptDir     = "testdata/homes"
	keptEntries = 200 // of a kept home's ledger, at least
	keptRetries = 10  // proofs that are kept to be sent again
)

// kept says what a kept home holds; it lies beside it in its archive.
type kept struct {
	Entries  int64    `json:"entries"`
	Root     string   `json:"root"`  // over all of them
	State    string   `json:"state"` // commitment after all of them
	AgentID  string   `json:"agent_id"`
	Session  string   `json:"session"`
	Head     string   `json:"head"` // of that session, in state active
	Proofs   [][]byte `json:"proofs"`
	Receipts []int64  `json:"receipts"` // index of each proof's entry
}

const (
	keptHome     = "home"
	keptFacts    = "kept.json"
	keptAgentKey = "agent.key"
)

// TestKeptHomes opens the homes that earlier versions have left, checks them and goes on. There must be one of the present state
// version: after a change of it, `go test ./node -run TestKeptHomes -keep-home` makes it.
func TestKeptHomes(t *testing.T) {
	present := filepath.Join(keptDir, fmt.Sprintf("state-%d.tar.gz", fsm.StateVersion))
	if *keepHome {
		makeKept(t, present)
	}
	archives, err := filepath.Glob(filepath.Join(keptDir, "*.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, archive := range archives {
		found = found || archive == present
		t.Run(filepath.Base(archive), func(t *testing.T) { openKept(t, archive) })
	}
	if !found {
		t.Errorf("there is no %s: make it with `go test ./node -run TestKeptHomes -keep-home`", present)
	}
}

// keeper is a node whose home is to be kept, or was, and its agent.
type keeper struct {
	t     *testing.T
	n     *Node
	agent *testfed.Signer
}

func (k *keeper) sign(action string, data map[string]any, head string) *pci.Envelope {
	k.agent.NowMillis = time.Now().UnixMilli()
	return k.agent.Sign(action, data, head, func(d *pci.Draft) {
		d.EnvelopeID = uuid.NewString()
		if _, err := rand.Read(d.Nonce[:]); err != nil {
			k.t.Fatal(err)
		}
	})
}

func (k *keeper) submit(env *pci.Envelope) fsm.Receipt {
	k.t.Helper()
	outcomes, err := k.n.Submit(k.t.Context(), [][]byte{env.Canonical()})
	if err != nil {
		k.t.Fatal(err)
	}
	r := outcomes[0].Receipt
	if outcomes[0].Reject != nil || !r.Accepted() {
		k.t.Fatalf("%s: %+v", env.Payload.Action, outcomes[0])
	}
	return r
}

// step is a transition with all that the governance layers ask for.
func (k *keeper) step(session, to, head string) fsm.Receipt {
	k.t.Helper()
	data := map[string]any{"session": session, "to": to, "operation": "review_notes",
		"operation_type": "tool", "intent": "review notes", "task": "lookup", "input": map[string]any{"text": "what was said"},
		"meta": map[string]any{"description": "reads the notes of a meeting"}, "observation": 0.95}
	if to == "validated" { // a budget was allocated before
		data["use"] = map[string]any{"tokens": 10, "time_ms": 20}
	}
	return k.submit(k.sign("session.transition", data, head))
}

func startKept(t *testing.T, home string) *Node {
	t.Helper()
	n, err := Start(t.Context(), Config{Home: home, Listen: []string{"/ip4/127.0.0.1/tcp/0"},
		Raft: region.Config{SnapshotEntries: 60, TrailingEntries: 20, SealInterval: 100 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	awaitReady(t, n)
	return n
}

// makeKept runs a voter and keeps what it leaves: sessions in several states, branches and merges, a snapshot that cut the log.
func makeKept(t *testing.T, archive string) {
	home, fed := newHome(t)
	k := &keeper{t: t, n: startKept(t, home), agent: fed.Operator("a", 0)}
	facts := kept{AgentID: "agent-1", Session: "kept"}
	agent := fed.Agent(facts.AgentID, 0)
	k.submit(k.sign("agent.register", map[string]any{"region": "a", "agent_id": agent.AgentID, "agent_type": agent.AgentType,
		"public_key": hex.EncodeToString(keyBytes(agent.Key)), "owner": "acme"}, ""))
	k.agent = agent
	open := func(id string) fsm.Receipt {
		env := k.sign("session.open", map[string]any{"region": "a", "session": id}, "")
		r := k.submit(env)
		if len(facts.Proofs) < keptRetries {
			facts.Proofs, facts.Receipts = append(facts.Proofs, env.Canonical()), append(facts.Receipts, r.Index)
		}
		return r
	}
	for i := 0; k.n.ledgerSize() < keptEntries; i++ {
		id := fmt.Sprintf("s-%d", i)
		r := open(id)
		for _, to := range []string{"active", "computing", "validated", "committed", "active"}[:1+i%5] {
			r = k.step(id, to, r.Head)
		}
		if i%3 == 0 {
			other := k.submit(k.sign("session.branch", map[string]any{"session": id, "name": "b"}, r.Head))
			k.submit(k.sign("session.merge", map[string]any{"session": id, "heads": []any{r.Head, other.Head}}, r.Head))
		}
	}
	facts.Head = k.step(facts.Session, "active", open(facts.Session).Head).Head
	if k.n.region.Load().Status().SnapshotIndex == 0 {
		t.Fatal("no snapshot was taken: the home would not be worth keeping")
	}
	if err := k.n.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	report, err := Fsck(t.Context(), home, t.TempDir(), func(string, int64, int64) {})
	if err != nil {
		t.Fatal(err)
	}
	facts.Entries, facts.Root, facts.State = report.Entries, hex.EncodeToString(report.Root[:]), hex.EncodeToString(report.State[:])
	if err := pack(archive, home, agent.Key, facts); err != nil {
		t.Fatal(err)
	}
}

func keyBytes(k *pci.PrivateKey) []byte {
	public := k.Public()
	return public[:]
}

// openKept does what an upgrade does.
func openKept(t *testing.T, archive string) {
	dir := t.TempDir()
	if err := unpack(archive, dir); err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(dir, keptHome)
	b, err := os.ReadFile(filepath.Join(dir, keptFacts))
	if err != nil {
		t.Fatal(err)
	}
	var facts kept
	if err := json.Unmarshal(b, &facts); err != nil {
		t.Fatal(err)
	}
	key, err := pci.LoadKey(filepath.Join(dir, keptAgentKey))
	if err != nil {
		t.Fatal(err)
	}
	fsck := func() FsckReport {
		r, err := Fsck(t.Context(), home, t.TempDir(), func(string, int64, int64) {})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	report := fsck()
	if report.Entries != facts.Entries || hex.EncodeToString(report.Root[:]) != facts.Root || hex.EncodeToString(report.State[:]) != facts.State {
		t.Errorf("it holds %d entries, root %x, state %x; %+v was kept", report.Entries, report.Root, report.State, facts)
	}
	if facts.Entries < keptEntries || len(facts.Proofs) < keptRetries {
		t.Errorf("only %d entries and %d proofs were kept: the test does not test", facts.Entries, len(facts.Proofs))
	}

	n := startKept(t, home)
	k := &keeper{t: t, n: n, agent: &testfed.Signer{Key: key, AgentID: facts.AgentID, AgentType: pci.AgentPAT,
		PolicyHash: n.home.Document.Constitution.PolicyHash()}}
	for i, p := range facts.Proofs {
		outcomes, err := n.Submit(t.Context(), [][]byte{p})
		if err != nil {
			t.Fatal(err)
		}
		if r := outcomes[0].Receipt; !r.Repeated || r.Index != facts.Receipts[i] {
			t.Errorf("proof %d sent again: %+v, its entry was %d", i, outcomes[0], facts.Receipts[i])
		}
	}
	k.step(facts.Session, "computing", facts.Head)
	k.submit(k.sign("session.open", map[string]any{"region": "a", "session": "after"}, ""))
	if err := n.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if again := fsck(); again.Entries < facts.Entries+2 {
		t.Errorf("%d entries after going on from %d", again.Entries, facts.Entries)
	}
}

// pack writes the archive of a home.
func pack(archive, home string, agent *pci.PrivateKey, facts kept) (err error) {
	b, err := json.MarshalIndent(facts, "", " ")
	if err != nil {
		return err
	}
	beside := filepath.Dir(home)
	agentKey := filepath.Join(beside, keptAgentKey)
	if err := errors.Join(agent.Save(agentKey), os.WriteFile(filepath.Join(beside, keptFacts), b, 0o600)); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(archive), 0o755); err != nil {
		return err
	}
	f, err := os.Create(archive)
	if err != nil {
		return err
	}
	zipped, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	out := tar.NewWriter(zipped)
	defer func() { err = errors.Join(err, out.Close(), zipped.Close(), f.Close()) }()
	add := func(path, name string) error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(b))}); err != nil {
			return err
		}
		_, err = out.Write(b)
		return err
	}
	if err := errors.Join(add(agentKey, keptAgentKey), add(filepath.Join(beside, keptFacts), keptFacts)); err != nil {
		return err
	}
	return filepath.WalkDir(home, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(home, path)
		if err != nil {
			return err
		}
		return add(path, keptHome+"/"+filepath.ToSlash(rel))
	})
}

func unpack(archive, dir string) (err error) {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	in := tar.NewReader(unzipped)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !filepath.IsLocal(h.Name) || strings.Contains(h.Name, "\\") {
			return fmt.Errorf("the archive holds %q", h.Name)
		}
		path := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		b, err := io.ReadAll(in)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			return err
		}
	}
}
