package p2p

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/bizra/bizra/internal/testfed"
)

type maddr = ma.Multiaddr

func TestGuard(t *testing.T) {
	noLeaks(t)
	fed := testfed.New(1, 3)
	server := newHost(t, fed.Nodes["a"][0])
	access := newAccess(t, "a", fed.Document)
	const within = 700 * time.Millisecond
	guard, err := NewGuard(server, access, GuardConfig{StrangersMax: 2, AdmitWithin: within})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, guard)
	connected := func(h host.Host) bool { return server.Network().Connectedness(h.ID()) == network.Connected }

	voter, member := newHost(t, fed.Nodes["a"][1]), newHost(t, testfed.Key("member"))
	connect(t, voter, server)
	connect(t, member, server)
	eventually(t, "the member to be is a stranger", func() bool { return guard.Strangers() == 1 })
	if _, err := access.Admit(member.ID(), invite(t, fed, "a", testfed.Key("member"))); err != nil {
		t.Fatal(err)
	}
	var strangers []host.Host
	began := time.Now()
	for i := range 2 {
		h := newHost(t, testfed.Key(fmt.Sprint("stranger-", i)))
		connect(t, h, server)
		strangers = append(strangers, h)
	}
	eventually(t, "two strangers wait", func() bool { return guard.Strangers() == 2 })
	third := newHost(t, testfed.Key("stranger-2"))
	_ = third.Connect(t.Context(), addrInfo(server))
	eventually(t, "a stranger too many is turned away", func() bool { return guard.Closed() == 1 && !connected(third) })
	if d := time.Since(began); d < within && (!connected(strangers[0]) || !connected(strangers[1])) {
		t.Errorf("a stranger in time was turned away after %v", d)
	}
	eventually(t, "strangers are turned away when their time is over", func() bool {
		return guard.Closed() == 3 && !connected(strangers[0]) && !connected(strangers[1])
	})
	if d := time.Since(began); d < within {
		t.Errorf("they were turned away after %v, before %v", d, within)
	}
	stays(t, "voter and member are connected", within, func() bool { return connected(voter) && connected(member) })
}

func TestGuardFindsThoseWhoBecomeStrangers(t *testing.T) {
	noLeaks(t)
	fed := testfed.New(1, 1)
	server, member := newHost(t, fed.Nodes["a"][0]), newHost(t, testfed.Key("member"))
	access := newAccess(t, "a", fed.Document)
	text := invite(t, fed, "a", testfed.Key("member"), func(inv *Invitation) { inv.ExpiresMillis = time.Now().Add(time.Second).UnixMilli() })
	if _, err := access.Admit(member.ID(), text); err != nil {
		t.Fatal(err)
	}
	guard, err := NewGuard(server, access, GuardConfig{AdmitWithin: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, guard)
	connect(t, member, server)
	eventually(t, "the member whose invitation ran out is turned away", func() bool {
		return guard.Closed() == 1 && server.Network().Connectedness(member.ID()) != network.Connected
	})
	if _, err := NewGuard(server, access, GuardConfig{StrangersMax: -1}); err == nil {
		t.Error("a negative limit was taken")
	}
}
