package link

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/p2p"
)

// sealed makes a machine with so many seals, each over one more session.
func sealed(t testing.TB, n *network, seals int) *machine {
	t.Helper()
	m := newMachine(t, n.fed)
	agent := n.fed.Agent("agent-1", startMillis)
	for i := range seals {
		m.submit(t, agent.Sign(fsm.ActionSessionOpen, map[string]any{"region": "a", "session": string(rune('a' + i))}, ""))
		m.apply(t, n.fed.Certify(m.apply(t, fsm.EncodeSeal())[0].Seal))
	}
	return m
}

func serveStatus(t *testing.T, n *netNode, cfg StatusConfig) *Asker {
	t.Helper()
	if cfg.Region == "" {
		cfg.Region = "a"
	}
	s, err := ServeStatus(n.host, n.access, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	a, err := NewAsker(AskerConfig{Host: n.host, Region: "a", Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestStatusTellsWhatANodeIs(t *testing.T) {
	net := newNetwork(t, 3, 0)
	m := sealed(t, net, 20)
	raftStatus := region.Status{Role: "Leader", Phase: region.PhasePast, AppliedIndex: 41, Entries: 21}
	serveStatus(t, net.nodes[0], StatusConfig{Version: "v1.2.3", Raft: func() region.Status { return raftStatus }, Read: m.read})
	asker := serveStatus(t, net.nodes[1], StatusConfig{Read: m.read})
	to := net.nodes[0]

	before := time.Now().UnixMilli()
	s, err := asker.Status(t.Context(), to.id(), 2, 17, 99, -1)
	if err != nil {
		t.Fatal(err)
	}
	if s.Version != "v1.2.3" || s.Region != "a" || s.Role != "Leader" || s.Phase != region.PhasePast || s.AppliedIndex != 41 || s.Entries != 21 {
		t.Errorf("%+v", s)
	}
	if s.ClockMillis < before || s.ClockMillis > time.Now().UnixMilli() {
		t.Errorf("clock %d", s.ClockMillis)
	}
	var numbers []int64
	for _, sum := range s.Seals {
		numbers = append(numbers, sum.Number)
		if err := m.read(t.Context(), func(v StateView) error {
			seal, err := v.SealAt(sum.Number)
			if err == nil && sum != sumOf(sum.Number, seal) {
				t.Errorf("seal %d: %+v", sum.Number, sum)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if want := []int64{2, 12, 13, 14, 15, 16, 17, 18, 19}; !slices.Equal(numbers, want) {
		t.Errorf("seals %v, want %v", numbers, want)
	}

	if phase, err := asker.FoundingOf(t.Context(), to.raftID()); err != nil || phase != region.PhasePast {
		t.Errorf("founding: %v, %v", phase, err)
	}
	if clock, err := asker.Clock(t.Context(), to.raftID()); err != nil || clock < before {
		t.Errorf("clock: %v, %v", clock, err)
	}
	if _, err := asker.Clock(t.Context(), "nobody"); err == nil {
		t.Error("a clock of nobody")
	}
}

// A node without a state still has a clock: founding voters ask each other before there is one.
func TestStatusWithoutState(t *testing.T) {
	net := newNetwork(t, 3, 0)
	none := func(context.Context, func(StateView) error) error { return errors.New("no state yet") }
	serveStatus(t, net.nodes[0], StatusConfig{Read: none, Raft: func() region.Status { return region.Status{Phase: region.PhaseFounding} }})
	asker := serveStatus(t, net.nodes[1], StatusConfig{Read: none})
	s, err := asker.Status(t.Context(), net.nodes[0].id(), 0)
	if err != nil || s.ClockMillis == 0 || s.Phase != region.PhaseFounding || len(s.Seals) != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestStatusLimits(t *testing.T) {
	net := newNetwork(t, 3, 0)
	m := sealed(t, net, 1)
	serveStatus(t, net.nodes[0], StatusConfig{Read: m.read})
	asker := serveStatus(t, net.nodes[1], StatusConfig{Read: m.read})
	_, err := asker.Status(t.Context(), net.nodes[0].id(), make([]int64, SealsAskedMax+1)...)
	var fault *p2p.Fault
	if !errors.As(err, &fault) || fault.Code != "too-many" {
		t.Errorf("%d seals asked for: %v", SealsAskedMax+1, err)
	}
	if _, err := asker.Status(t.Context(), net.nodes[0].id(), make([]int64, SealsAskedMax)...); err != nil {
		t.Error(err)
	}
	if _, err := ServeStatus(net.nodes[0].host, net.nodes[0].access, StatusConfig{Region: "a", Read: m.read, Version: strings.Repeat("v", statusTextBytesMax+1)}); err == nil {
		t.Error("a version of any length was taken")
	}
	for name, s := range map[string]*Status{
		"another region": {Region: "b"},
		"too many seals": {Region: "a", Seals: make([]SealSum, statusSealsLast+SealsAskedMax+1)},
		"a long role":    {Region: "a", Role: strings.Repeat("r", statusTextBytesMax+1)},
		"no such phase":  {Region: "a", Phase: region.PhasePast + 1},
	} {
		if asker.check("peer", s) == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// Clocks are compared by half the time of the call; who does not answer is left out.
func TestClocks(t *testing.T) {
	net := newNetwork(t, 3, 0)
	m := sealed(t, net, 0)
	serveStatus(t, net.nodes[0], StatusConfig{Read: m.read})
	asker := serveStatus(t, net.nodes[1], StatusConfig{Read: m.read})
	silent := net.nodes[2].id() // serves nothing
	offsets := asker.Clocks(t.Context(), []peer.ID{net.nodes[0].id(), silent})
	if _, ok := offsets[silent]; ok || len(offsets) != 1 {
		t.Errorf("offsets %v", offsets)
	}
	if off := offsets[net.nodes[0].id()]; off.Abs() > time.Second {
		t.Errorf("the same machine's clock is off by %v", off)
	}
}
