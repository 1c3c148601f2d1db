package gossip

import (
	"fmt"
	"testing"
	"time"

	"github.com/bizra/bizra/internal/testnet"
)

// TestAFloodOfValidMessagesMutesNobodyHonest: three voters of a region, each below its own rate, send one
// honest node valid messages that never end. What it passes on of them counts as its own.
func TestAFloodOfValidMessagesMutesNobodyHonest(t *testing.T) {
	for _, topic := range []Topic{certificates, {Kind: Checkpoints}, {Kind: Evidence}, {Kind: Patterns}} {
		t.Run(topic.String(), func(t *testing.T) {
			if muted, got := flood(t, topic, false); muted != 0 || got != 2 {
				t.Errorf("%d honest nodes mute the victim, %d of 2 hear it", muted, got)
			}
		})
		t.Run(topic.String()+", undefended", func(t *testing.T) {
			// Who is not in the victim's mesh may still hear it, and pass on what it says.
			if muted, _ := flood(t, topic, true); muted < 2 {
				t.Errorf("%d of 4 honest nodes think badly of the victim: the test shows nothing", muted)
			}
		})
	}
}

// flood says how many honest nodes think badly of their peer that was flooded, and how many voters still hear it.
func flood(t *testing.T, topic Topic, off bool) (muted, heard int) {
	const perSecond, seconds = 15, 60
	bubble(t, 2, 3, 2, func(t *testing.T, w *world) {
		liars, victim := w.nodes["b"], w.nodes["a"][0]
		var out []*testnet.Node
		for _, n := range liars {
			out = append(out, n.Node)
		}
		for _, n := range w.nodes["a"] {
			n.start(func(c *Config) { c.off.relays = off })
		}
		w.ConnectAll(out...)
		testnet.Pass(5 * time.Second)
		var rogues []*rogue
		for _, n := range liars[:3] {
			rogues = append(rogues, n.attack(victim))
		}
		for i := range perSecond * seconds {
			for k, r := range rogues {
				r.publish(topic, fmt.Sprintf("ok:b:flood %d %d", k, i))
			}
			testnet.Pass(time.Second / perSecond)
		}
		if n, _ := judgedOf(victim, "ok:b:flood"); n < perSecond*seconds {
			t.Fatalf("the victim judged %d messages: the attack did not happen", n)
		}
		for _, n := range w.nodes["a"][1:] {
			if st := n.router.Standing(victim.Host.ID()); st.Muted || st.Score < 0 {
				muted++
			}
		}
		const honest = "ok:a:after the attack"
		if err := victim.router.Publish(topic, []byte(honest)); err != nil {
			t.Fatal(err)
		}
		testnet.Pass(5 * time.Second)
		for _, n := range w.nodes["a"][1:3] {
			heard += n.received(honest)
		}
	})
	return muted, heard
}
