package follow

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/p2p"
)

// TestACopyThatCannotBeReadIsLookedThrough: who reads it finds what following never touches.
func TestACopyThatCannotBeReadIsLookedThrough(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed, told := openFed(), &abroad{}
		o := presentOrigin(t, fed).grow(50).seal()
		n.add("a1", serves(o.server()))
		d := newDisks(fed)
		s := startCopies(t, d, told, n, map[string][]peer.ID{"a": {"a1"}})
		s.Of("a").Suspect(errDisk) // it is not open yet
		synctest.Wait()
		copied(t, o, s.Of("a"))
		s.Of("a").Suspect(errDisk)
		pass(time.Minute)
		copied(t, o, s.Of("a"))
		if opened, discarded := d.count("a"); opened != 2 || discarded != 0 {
			t.Errorf("a sound copy was opened %d times and discarded %d", opened, discarded)
		}
		forgetSession(t, d.stores["a"], "s20")
		s.Of("a").Suspect(errDisk)
		pass(2 * time.Minute)
		copied(t, o, s.Of("a"))
		if _, discarded := d.count("a"); discarded != 1 || len(told.told()) != 0 {
			t.Errorf("a damaged copy was discarded %d times; refusals %v", discarded, told.told())
		}
		closeCopies(t, s)
	})
}

// TestARegionCannotTakeAnothersVoter by naming its key: the voter would get nothing any more that
// is for its own region.
func TestARegionCannotTakeAnothersVoter(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed, told := openFed(), &abroad{}
		a, b := presentOrigin(t, fed).grow(3), newOriginAt(t, fed, "b", time.Now().UnixMilli()).grow(3)
		n.add("a1", serves(a.server()))
		n.add("b1", serves(b.server()))
		s := startCopies(t, newDisks(fed), told, n, map[string][]peer.ID{"a": {"a1"}, "b": {"b1"}})
		added := testfed.Key("a-4")
		id, err := p2p.PeerID(added.Public())
		if err != nil {
			t.Fatal(err)
		}
		a.addVoter("a-4", added.Public(), "/ip4/10.0.0.9/tcp/4")
		synctest.Wait()
		b.addVoter("b-4", added.Public(), "/ip4/10.0.0.6/tcp/6")
		synctest.Wait()
		copied(t, b, s.Of("b"))
		if v := s.Voters()[id]; v.Region != "a" || len(v.Addresses) != 1 || v.Addresses[0] != "/ip4/10.0.0.9/tcp/4" {
			t.Errorf("a's voter counts as %+v", v)
		}
		closeCopies(t, s)
	})
}
