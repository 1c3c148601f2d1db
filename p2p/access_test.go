package p2p

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
)

// cast is one node of every kind that a node of region a can meet.
type cast struct {
	fed   *testfed.Federation
	raft  RaftPeers
	known bool
	peers map[string]peer.ID
}

func newCast(t *testing.T) *cast {
	fed := testfed.New(2, 3)
	c := &cast{fed: fed, peers: map[string]peer.ID{
		"listed voter":                   idOf(t, fed.Nodes["a"][0]),
		"listed, removed from Raft":      idOf(t, fed.Nodes["a"][2]),
		"voter that is not listed":       idOf(t, testfed.Key("replacement")),
		"Raft non-voter, not listed":     idOf(t, testfed.Key("catching-up")),
		"invited member":                 idOf(t, testfed.Key("member")),
		"member, invitation expired":     idOf(t, testfed.Key("late")),
		"listed voter of another region": idOf(t, fed.Nodes["b"][0]),
		"voter by another's ledger":      idOf(t, testfed.Key("b-new")),
		"registered agent":               idOf(t, testfed.Key("agent")),
		"unknown key":                    idOf(t, testfed.Key("stranger")),
	}}
	c.raft = NewRaftPeers([]peer.ID{c.peers["listed voter"], idOf(t, fed.Nodes["a"][1]), c.peers["voter that is not listed"]},
		[]peer.ID{c.peers["Raft non-voter, not listed"]})
	return c
}

func (c *cast) access(t *testing.T, logger *slog.Logger) *Access {
	a := newAccessWith(t, AccessConfig{Region: "a", Raft: func() (RaftPeers, bool) { return c.raft, c.known },
		Client: func(p peer.ID) bool { return p == c.peers["registered agent"] }, Logger: logger,
		Foreign: func() map[peer.ID]ForeignVoter {
			return map[peer.ID]ForeignVoter{c.peers["voter by another's ledger"]: {Region: "b", Addresses: []string{"/ip4/10.1.1.1/tcp/1"}},
				c.peers["listed voter"]: {Region: "b"}}
		}}, c.fed.Document)
	for label, lifetime := range map[string]time.Duration{"member": time.Hour, "late": time.Minute} {
		key := testfed.Key(label)
		text := invite(t, c.fed, "a", key, func(inv *Invitation) { inv.ExpiresMillis = time.Now().Add(lifetime).UnixMilli() })
		if _, err := a.Admit(idOf(t, key), text); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

func TestAccessEveryRoleAndProtocol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCast(t)
		c.known = true
		a := c.access(t, nil)
		elapse(2 * time.Minute)
		// Written by hand, not from Rules, so that a change of the table is seen here.
		const all = "raft submit entries join status keys read gossip certificates"
		expect := map[string]struct {
			role   Role
			allow  string
			reason error
		}{
			"listed voter":                   {Voter, all, ErrOwnRegion},
			"voter that is not listed":       {Voter, all, ErrOwnRegion},
			"listed, removed from Raft":      {Member, "submit entries join status read gossip certificates", ErrNotVoter},
			"Raft non-voter, not listed":     {Member, "submit entries join status read gossip certificates", ErrNotVoter},
			"invited member":                 {Member, "submit entries join status read gossip certificates", ErrNotVoter},
			"member, invitation expired":     {Stranger, "join", ErrInvitationExpired},
			"listed voter of another region": {Foreign, "join entries attest gossip", ErrForeignRegion},
			"voter by another's ledger":      {Foreign, "join entries attest gossip", ErrForeignRegion},
			"registered agent":               {Client, "join submit", ErrClient},
			"unknown key":                    {Stranger, "join", ErrStranger},
		}
		if len(expect) != len(c.peers) {
			t.Fatalf("%d of %d peers are expected", len(expect), len(c.peers))
		}
		asked := 0
		for name, want := range expect {
			id := c.peers[name]
			if role := a.Role(id); role != want.role {
				t.Errorf("%s is a %v, want %v", name, role, want.role)
			}
			for _, proto := range Protocols() {
				asked++
				short := strings.Split(string(proto), "/")[2]
				if proto == ProtocolAttest && want.role >= Member {
					want.reason = ErrOwnRegion
				}
				err := a.Allow(id, proto)
				if allowed := strings.Contains(want.allow, short); allowed != (err == nil) {
					t.Errorf("%s speaking %s: %v, want allowed = %v", name, short, err, allowed)
				} else if err != nil && (!errors.Is(err, ErrRefused) || !errors.Is(err, want.reason)) {
					t.Errorf("%s speaking %s: %v, want the reason %v", name, short, err, want.reason)
				}
			}
			if err := a.Allow(id, "/bizra/raft/9.9.9"); !errors.Is(err, ErrUnknownProtocol) {
				t.Errorf("%s speaking an unknown protocol: %v", name, err)
			}
		}
		if asked != 10*10 {
			t.Errorf("asked %d combinations, want 100", asked)
		}
	})
}

func TestAccessBeforeRaftIsKnownTheDocumentsVotersCount(t *testing.T) {
	c := newCast(t)
	a := c.access(t, nil)
	removed, unlisted := c.peers["listed, removed from Raft"], c.peers["voter that is not listed"]
	if a.Role(removed) != Voter || a.Role(unlisted) != Stranger {
		t.Errorf("before: listed is %v, unlisted %v; want voter, stranger", a.Role(removed), a.Role(unlisted))
	}
	c.known = true
	if a.Role(removed) != Member || a.Role(unlisted) != Voter {
		t.Errorf("after: removed is %v, replacement %v; want member, voter", a.Role(removed), a.Role(unlisted))
	}
	for _, name := range []string{"listed voter of another region", "voter by another's ledger"} {
		if got := a.RegionOf(c.peers[name]); got != "b" {
			t.Errorf("region of the %s: %q", name, got)
		}
	}
	if n := len(a.OwnRegion()); n != 3+1+1+2 {
		t.Errorf("own region has %d nodes, want 7: 3 listed, 1 replacement, 1 non-voter, 2 invited", n)
	}
}

func TestAccessWithoutDocument(t *testing.T) {
	c := newCast(t)
	a := newAccess(t, "a", nil)
	for name, id := range c.peers {
		if a.Role(id) != Stranger || a.Allow(id, ProtocolJoin) != nil || a.Allow(id, ProtocolRaft) == nil {
			t.Errorf("%s: must be a stranger who may only join", name)
		}
	}
	if _, err := a.Admit(c.peers["invited member"], invite(t, c.fed, "a", testfed.Key("member"))); !errors.Is(err, ErrInvitation) {
		t.Errorf("admitted without a document to check by: %v", err)
	}
	if err := newAccess(t, "nowhere", nil).SetDocument(c.fed.Document); err == nil {
		t.Error("a document without the own region was taken")
	}
	if _, err := NewAccess(AccessConfig{}); err == nil {
		t.Error("an empty region was taken")
	}
}

func TestAccessNewDocumentDropsAdmissions(t *testing.T) {
	c := newCast(t)
	a := c.access(t, nil)
	member := c.peers["invited member"]
	next := testfed.New(2, 3, func(d *federation.Document) { d.Version = 2 }).Document
	if err := a.SetDocument(next); err != nil {
		t.Fatal(err)
	}
	if a.Role(member) != Member {
		t.Error("a document with the same operator dropped the member")
	}
	next = testfed.New(2, 3, func(d *federation.Document) {
		d.Version = 3
		d.Regions[0].Operators = []federation.Key{testfed.Key("new-operator").Public()}
	}).Document
	if err := a.SetDocument(next); err != nil {
		t.Fatal(err)
	}
	if a.Role(member) != Stranger {
		t.Error("the member outlived the operator who invited it")
	}
}

func TestAccessAdmissionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCast(t)
		a := newAccess(t, "a", c.fed.Document)
		admit := func(i int, lifetime time.Duration) error {
			key := testfed.Key(fmt.Sprint("member-", i))
			_, err := a.Admit(idOf(t, key), invite(t, c.fed, "a", key, func(inv *Invitation) { inv.ExpiresMillis = time.Now().Add(lifetime).UnixMilli() }))
			return err
		}
		for i := range AdmissionsMax {
			lifetime := time.Hour
			if i == 0 {
				lifetime = time.Minute
			}
			if err := admit(i, lifetime); err != nil {
				t.Fatalf("member %d: %v", i, err)
			}
		}
		if err := admit(AdmissionsMax, time.Hour); !errors.Is(err, ErrAdmissionsFull) {
			t.Fatalf("one above the limit: %v", err)
		}
		if err := admit(1, 2*time.Hour); err != nil {
			t.Fatalf("a known member could not renew: %v", err)
		}
		elapse(time.Minute)
		if err := admit(AdmissionsMax, time.Hour); err != nil {
			t.Fatalf("after one expired: %v", err)
		}
	})
}

func TestRefusalsAreCountedAndLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := newCast(t)
		a := c.access(t, slog.New(slog.NewTextHandler(&log, nil)))
		refuse := func(name string, proto protocol.ID) {
			if a.Allow(c.peers[name], proto) == nil {
				t.Fatalf("%s may speak %s", name, proto)
			}
		}
		for range 5 {
			refuse("unknown key", ProtocolRaft)
			refuse("invited member", ProtocolRaft)
		}
		refuse("unknown key", "/made/up/1")
		refuse("unknown key", "/made/up/2")
		if n := strings.Count(log.String(), "peer refused"); n != 2 {
			t.Errorf("%d lines for two peers in a minute, want 2:\n%s", n, log.String())
		}
		elapse(time.Minute)
		refuse("unknown key", ProtocolRaft)
		if n := strings.Count(log.String(), "peer refused"); n != 3 {
			t.Errorf("%d lines after the minute, want 3", n)
		}
		got := fmt.Sprint(a.Refusals())
		want := fmt.Sprint([]Refusal{{ProtocolRaft, "not-voter", 5}, {ProtocolRaft, "stranger", 6}, {"other", "unknown-protocol", 2}})
		if got != want {
			t.Errorf("refusals %s, want %s", got, want)
		}
		for i := range 2 * refusalLogPeersMax {
			_ = a.Allow(idOf(t, testfed.Key(fmt.Sprint("flood-", i))), ProtocolRaft)
		}
		if n := len(a.refusals.logged); n > refusalLogPeersMax {
			t.Errorf("%d peers remembered for logging, at most %d", n, refusalLogPeersMax)
		}
	})
}
