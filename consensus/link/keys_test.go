package link

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

// machine is a real state machine in memory.
type machine struct {
	*fsm.Machine
	index uint64
}

func newMachine(t testing.TB, fed *testfed.Federation) *machine {
	t.Helper()
	m, err := fsm.Open(store.NewMemory(), fsm.Config{Region: "a"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	f := &machine{Machine: m}
	f.apply(t, fsm.EncodeGenesis(startMillis, fed.Document.Canonical()))
	return f
}

func (m *machine) apply(t testing.TB, commands ...[]byte) []fsm.Result {
	t.Helper()
	var cmds []fsm.Command
	for _, c := range commands {
		m.index++
		cmds = append(cmds, fsm.Command{Index: m.index, Term: 1, Data: c})
	}
	results, err := m.Apply(cmds)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// submit applies a proof and returns the index of its entry.
func (m *machine) submit(t testing.TB, e *pci.Envelope) int64 {
	t.Helper()
	r := m.apply(t, fsm.EncodeProofs(startMillis, [][]byte{e.Canonical()}))[0].Receipts[0]
	if !r.Accepted() {
		t.Fatalf("refused: %s", r.Message())
	}
	return r.Index
}

func (m *machine) read(_ context.Context, fn func(StateView) error) error {
	v, err := m.View()
	if err != nil {
		return err
	}
	return errors.Join(fn(v), v.Close())
}

func voterChange(op string, node federation.Key, name string, more ...string) map[string]any {
	data := map[string]any{"region": "a", "op": op, "node": node.String()}
	if name != "" {
		data["name"] = name
	}
	for i := 0; i+1 < len(more); i += 2 {
		data[more[i]] = more[i+1]
	}
	return data
}

// keyCast is a region with one voter and a node that an entry makes the second.
type keyCast struct {
	fed    *testfed.Federation
	state  *machine
	op     *testfed.Signer // the region's operator
	node   *pci.PrivateKey
	entry  int64
	sender peer.ID
	access *p2p.Access
}

func newKeyCast(t testing.TB) *keyCast {
	t.Helper()
	k := &keyCast{fed: testfed.New(2, 1, testfed.Open), node: testfed.Key("new-node")}
	k.state, k.op = newMachine(t, k.fed), k.fed.Operator("a", startMillis)
	k.entry = k.state.submit(t, k.op.Sign(fsm.ActionRegionVoter, voterChange(fsm.VoterAdd, k.node.Public(), "a-2"), ""))
	id, err := p2p.PeerID(k.fed.Nodes["a"][0].Public())
	if err != nil {
		t.Fatal(err)
	}
	k.sender = id
	if k.access, err = p2p.NewAccess(p2p.AccessConfig{Region: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := k.access.SetDocument(k.fed.Document); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *keyCast) keys() RegionKeys { return RegionKeys{k.fed.LogKeys["a"], k.fed.Cosign["a"]} }

func (k *keyCast) request() keysRequest {
	return keysRequest{Region: "a", Document: k.fed.Document.Digest(), LogSeed: k.keys().Log.Seed(), CosignSeed: k.keys().Cosign.Seed(),
		Entry: k.entry, Senders: []string{k.sender.String()}}
}

func (k *keyCast) taker(home RaftHome) *keyTaker {
	return &keyTaker{access: k.access, self: k.node.Public(), cfg: KeysConfig{Region: "a", Read: k.state.read, Entries: k.state.Size,
		IsVoter: func(p peer.ID) bool { return p == k.sender }, Home: func() (RaftHome, error) { return home, nil },
		Store: func(RegionKeys) error { return nil }, StartAsAdded: func(context.Context, []raft.ServerID) error { return nil },
		Logger: slog.New(slog.DiscardHandler)}}
}

// Every check of the receiver, with the fault that it is there for.
func TestKeysReceiverRefuses(t *testing.T) {
	k := newKeyCast(t)
	other := k.state.submit(t, k.op.Sign(fsm.ActionRegionVoter,
		voterChange(fsm.VoterAdd, testfed.Key("somebody else").Public(), "a-3"), ""))
	session := k.state.submit(t, k.fed.Agent("x", startMillis).Sign(fsm.ActionSessionOpen, map[string]any{"region": "a", "session": "s"}, ""))
	for name, test := range map[string]struct {
		change func(r *keysRequest)
		cfg    func(c *KeysConfig)
		from   peer.ID
		want   string
	}{
		"another region":         {change: func(r *keysRequest) { r.Region = "b" }, want: `of region "a"`},
		"sender no voter":        {from: "stranger", want: "not one of the region's voters"},
		"sender not named":       {change: func(r *keysRequest) { r.Senders = nil }, want: "does not name itself"},
		"too many voters":        {change: func(r *keysRequest) { r.Senders = make([]string, keysSendersMax+1) }, want: "at most"},
		"a voter that is none":   {change: func(r *keysRequest) { r.Senders = append(r.Senders, "x") }, want: "is named"},
		"another document":       {change: func(r *keysRequest) { r.Document[0] ^= 1 }, want: "another federation document"},
		"another log key":        {change: func(r *keysRequest) { r.LogSeed[0] ^= 1 }, want: "log key"},
		"another cosign key":     {change: func(r *keysRequest) { r.CosignSeed[0] ^= 1 }, want: "cosign key"},
		"keys swapped":           {change: func(r *keysRequest) { r.LogSeed, r.CosignSeed = r.CosignSeed, r.LogSeed }, want: "log key"},
		"an entry for another":   {change: func(r *keysRequest) { r.Entry = other }, want: "names another node"},
		"an entry of an agent":   {change: func(r *keysRequest) { r.Entry = session }, want: "makes nobody a voter"},
		"the genesis entry":      {change: func(r *keysRequest) { r.Entry = 0 }, want: "no accepted proof"},
		"a negative entry":       {change: func(r *keysRequest) { r.Entry = -1 }, want: "no entry has index"},
		"it has voted":           {cfg: func(c *KeysConfig) { c.Home = func() (RaftHome, error) { return RaftVoted, nil } }, want: "under a new one"},
		"nobody knows if it has": {cfg: func(c *KeysConfig) { c.Home = func() (RaftHome, error) { return RaftUnknown, nil } }, want: "under a new one"},
		"the home is unreadable": {cfg: func(c *KeysConfig) { c.Home = func() (RaftHome, error) { return RaftNone, errors.New("EIO") } }, want: "EIO"},
		"keys cannot be stored":  {cfg: func(c *KeysConfig) { c.Store = func(RegionKeys) error { return errors.New("ENOSPC") } }, want: "ENOSPC"},
	} {
		t.Run(name, func(t *testing.T) {
			taker, request, from := k.taker(RaftNone), k.request(), k.sender
			started, stored := false, false
			taker.cfg.Store = func(RegionKeys) error { stored = true; return nil }
			taker.cfg.StartAsAdded = func(context.Context, []raft.ServerID) error { started = true; return nil }
			if test.cfg != nil {
				test.cfg(&taker.cfg)
			}
			if test.change != nil {
				test.change(&request)
			}
			if test.from != "" {
				from = test.from
			}
			_, err := taker.take(t.Context(), from, &request)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if started || stored {
				t.Errorf("started %v, stored %v all the same", started, stored)
			}
		})
	}
}

func TestKeysReceiverTakes(t *testing.T) {
	k := newKeyCast(t)
	for name, test := range map[string]struct {
		home  RaftHome
		entry int64
		read  bool
		start bool
	}{
		"a new node":                       {RaftNone, k.entry, true, true},
		"a node that has no state":         {RaftNone, k.entry, false, true},
		"a node that has not followed yet": {RaftNone, k.entry + 100, true, true},
		"once more":                        {RaftAdded, k.entry, true, false},
	} {
		taker, request := k.taker(test.home), k.request()
		request.Entry = test.entry
		if !test.read {
			taker.cfg.Read, taker.cfg.Entries = nil, nil
		}
		var got RegionKeys
		var senders []raft.ServerID
		taker.cfg.Store = func(keys RegionKeys) error { got = keys; return nil }
		taker.cfg.StartAsAdded = func(_ context.Context, ids []raft.ServerID) error { senders = ids; return nil }
		response, err := taker.take(t.Context(), k.sender, &request)
		if err != nil || response.Started != test.start {
			t.Errorf("%s: %+v, %v", name, response, err)
			continue
		}
		if got.Log.Public() != k.keys().Log.Public() || got.Cosign.Public() != k.keys().Cosign.Public() {
			t.Errorf("%s: other keys were stored", name)
		}
		if test.start != (len(senders) == 1 && senders[0] == raft.ServerID(k.sender.String())) {
			t.Errorf("%s: started with the senders %v", name, senders)
		}
	}
}

// What the sender checks before a secret leaves it.
func TestKeysSenderRefuses(t *testing.T) {
	k := newKeyCast(t)
	sender := func(change func(*KeySenderConfig)) *KeySender {
		cfg := KeySenderConfig{Region: "a", Read: k.state.read, Keys: k.keys()}
		if change != nil {
			change(&cfg)
		}
		return &KeySender{cfg}
	}
	check := func(s *KeySender, node federation.Key) (r keysRequest, err error) {
		err = s.cfg.Read(t.Context(), func(v StateView) error { return s.check(v, node, &r) })
		return r, err
	}
	if r, err := check(sender(nil), k.node.Public()); err != nil || r.Entry != k.entry || r.Document != k.fed.Document.Digest() {
		t.Fatalf("for the node that the entry names: %+v, %v", r, err)
	}
	_, err := check(sender(nil), testfed.Key("stranger").Public())
	mustBe(t, err, ErrKeysRefused)
	_, err = check(sender(nil), k.fed.Nodes["a"][0].Public())
	mustBe(t, err, ErrKeysRefused) // a founding voter has them
	_, err = check(sender(func(c *KeySenderConfig) { c.Keys = RegionKeys{k.fed.LogKeys["b"], k.fed.Cosign["b"]} }), k.node.Public())
	mustBe(t, err, ErrKeysRefused)

	k.state.submit(t, k.op.Sign(fsm.ActionRegionVoter, voterChange(fsm.VoterRemove, k.node.Public(), ""), ""))
	_, err = check(sender(nil), k.node.Public())
	mustBe(t, err, ErrKeysRefused) // it was removed again
}

// forgedView lets entries be what no state machine would let them be.
type forgedView struct {
	StateView
	entry *fsm.Entry
}

func (f forgedView) Entry(int64) (*fsm.Entry, error) { return f.entry, nil }

func TestNamedByChecksTheSigner(t *testing.T) {
	k := newKeyCast(t)
	data := voterChange(fsm.VoterAdd, k.node.Public(), "a-2")
	entry := func(e *pci.Envelope, change ...func(*fsm.Entry)) *fsm.Entry {
		en := &fsm.Entry{Kind: fsm.EntryProof, Region: "a", Index: 1, Envelope: e}
		for _, c := range change {
			c(en)
		}
		return en
	}
	operator := k.fed.Operator("a", startMillis)
	good := operator.Sign(fsm.ActionRegionVoter, data, "")
	badly, err := pci.Decode(forged(good.Canonical()))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		entry *fsm.Entry
		ok    bool
	}{
		"operator":                   {entry(good), true},
		"replace":                    {entry(operator.Sign(fsm.ActionRegionVoter, voterChange(fsm.VoterReplace, k.node.Public(), "a-2"), "")), true},
		"agent":                      {entry(k.fed.Agent("x", startMillis).Sign(fsm.ActionRegionVoter, data, "")), false},
		"operator of another region": {entry(k.fed.Operator("b", startMillis).Sign(fsm.ActionRegionVoter, data, "")), false},
		"bad signature":              {entry(badly), false},
		"refused":                    {entry(good, func(e *fsm.Entry) { e.Outcome.Code = pci.RejectRoleViolation }), false},
		"of another region":          {entry(good, func(e *fsm.Entry) { e.Region = "b" }), false},
		"remove":                     {entry(operator.Sign(fsm.ActionRegionVoter, voterChange(fsm.VoterRemove, k.node.Public(), ""), "")), false},
		"another action":             {entry(operator.Sign(fsm.ActionAgentRegister, data, "")), false},
	} {
		err := k.state.read(t.Context(), func(v StateView) error {
			return namedBy(forgedView{v, test.entry}, "a", k.node.Public(), 1)
		})
		if (err == nil) != test.ok || err != nil && !errors.Is(err, ErrKeysRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The keys go from a voter to the node that the entry names, over the network; nobody
// else gets them, and nobody else may bring them.
func TestKeysOverTheNetwork(t *testing.T) {
	net := newNetwork(t, 1, 2) // a voter, the node that is to be one, and another member
	state := newMachine(t, net.fed)
	voter, added, other := net.nodes[0], net.nodes[1], net.nodes[2]
	state.submit(t, net.fed.Operator("a", startMillis).Sign(fsm.ActionRegionVoter, voterChange(fsm.VoterAdd, added.key.Public(), "a-2"), ""))
	var logs bytes.Buffer
	var starts, stores atomic.Int32
	home := RaftNone
	server, err := ServeKeys(added.host, added.access, KeysConfig{Region: "a", Read: state.read, Entries: state.Size,
		Home: func() (RaftHome, error) { return home, nil },
		Store: func(keys RegionKeys) error {
			stores.Add(1)
			return keys.fit(&net.fed.Document.Regions[0])
		},
		StartAsAdded: func(context.Context, []raft.ServerID) error { starts.Add(1); home = RaftAdded; return nil },
		Logger:       slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	configuration := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: voter.raftID()}}}
	sender := func(n *netNode) *KeySender {
		s, err := NewKeySender(KeySenderConfig{Host: n.host, Region: "a", Read: state.read, Keys: RegionKeys{net.fed.LogKeys["a"], net.fed.Cosign["a"]},
			Configuration: func() raft.Configuration { return configuration }, Timeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	mustBe(t, sender(other).HandOver(t.Context(), added.key.Public()), p2p.ErrCallRefused)
	if stores.Load() != 0 {
		t.Fatal("a member's keys were taken")
	}
	for range 2 {
		if err := sender(voter).HandOver(t.Context(), added.key.Public()); err != nil {
			t.Fatal(err)
		}
	}
	if starts.Load() != 1 || stores.Load() != 2 {
		t.Errorf("started %d times, stored %d times", starts.Load(), stores.Load())
	}
	home = RaftVoted
	err = sender(voter).HandOver(t.Context(), added.key.Public())
	var fault *p2p.Fault
	if !errors.As(err, &fault) || !strings.Contains(fault.Detail, "new one") {
		t.Errorf("to a node that has voted: %v", err)
	}
	mustBe(t, sender(voter).HandOver(t.Context(), other.key.Public()), ErrKeysRefused)
	for _, k := range []*pci.PrivateKey{net.fed.LogKeys["a"], net.fed.Cosign["a"]} {
		s := k.Seed()
		if strings.Contains(logs.String(), fmt.Sprintf("%x", s)) || bytes.Contains(logs.Bytes(), s[:]) {
			t.Error("a key is in the log")
		}
	}
}

// A request that is printed, whichever way, keeps its secrets; CBOR alone carries them.
func TestKeysRequestDoesNotPrint(t *testing.T) {
	k := newKeyCast(t)
	request := k.request()
	var text strings.Builder
	asJSON, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&text, "%v %+v %#v %x %s %d %v %s", request, request, request, request.LogSeed, request.CosignSeed, request.LogSeed, &request, asJSON)
	slog.New(slog.NewTextHandler(&text, nil)).Info("x", "request", request, "seed", request.LogSeed)
	slog.New(slog.NewJSONHandler(&text, nil)).Info("x", "request", request, "seed", request.LogSeed)
	for _, s := range []seed{request.LogSeed, request.CosignSeed} {
		raw := [32]byte(s)
		for _, form := range []string{fmt.Sprintf("%x", raw), fmt.Sprint(raw), strings.Trim(fmt.Sprint(raw), "[]"), string(raw[:]),
			strings.ReplaceAll(strings.Trim(fmt.Sprint(raw), "[]"), " ", ",")} {
			if strings.Contains(text.String(), form) {
				t.Errorf("a secret is in %s", text.String())
			}
		}
	}
	b, err := p2p.Marshal(&request)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > keysRequestBytesMax {
		t.Errorf("%d bytes", len(b))
	}
	var got keysRequest
	if err := p2p.Unmarshal(b, &got); err != nil || got.LogSeed != request.LogSeed {
		t.Errorf("the way by CBOR: %v", err)
	}
	got.wipe()
	if got.LogSeed != (seed{}) || got.CosignSeed != (seed{}) {
		t.Error("wiped, and still there")
	}
}
