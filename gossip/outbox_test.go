package gossip

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/internal/testnet"
)

func (w *world) publications(n *node, payload string) (times int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l, byPayload := range w.copies {
		if l.from == n.Host.ID() {
			times = max(times, byPayload[payload])
		}
	}
	return times
}

func TestAnnouncedToNobodyAndHeardLater(t *testing.T) {
	bubble(t, 2, 3, 0, func(t *testing.T, w *world) {
		registry := prometheus.NewRegistry()
		for _, n := range w.all() {
			if n != w.nodes["a"][0] {
				n.start()
			}
		}
		author := w.nodes["a"][0]
		author.start(func(c *Config) { c.Metrics = registry })
		const once, again = "ok:a:published once", "ok:a:announced"
		if err := author.router.Publish(certificates, []byte(once)); err != nil {
			t.Errorf("publishing to nobody: %v, want nil", err)
		}
		if err := author.router.Announce(certificates, []byte(again), Announcement{Until: time.Now().Add(time.Hour)}); err != nil {
			t.Error(err)
		}
		if got := gathered(t, registry, "bizra_gossip_published_to_nobody_total", "certificates"); got != 2 {
			t.Errorf("%v messages were counted as sent to nobody, want 2", got)
		}
		testnet.Pass(10 * time.Minute) // GossipSub itself has forgotten them
		w.ConnectAll()
		testnet.Pass(10 * time.Second)
		for _, n := range w.all() {
			if n == author {
				continue
			}
			if n.received(once) != 0 {
				t.Error("what was published once came late: the test shows nothing")
			}
			if got := n.received(again); got != 1 {
				t.Errorf("a node of %s got the announcement %d times", n.Region, got)
			}
		}
		before := w.publications(author, again)
		testnet.Pass(30 * time.Minute)
		if after := w.publications(author, again); before == 0 || after > before+1 {
			t.Errorf("it was sent %d times over one link and then %d: nobody new listens", before, after)
		}
		if got := gathered(t, registry, "bizra_gossip_outbox_entries", ""); got != 1 {
			t.Errorf("%v entries in the outbox, want 1", got)
		}
		testnet.Pass(time.Hour)
		if got := gathered(t, registry, "bizra_gossip_outbox_entries", ""); got != 0 {
			t.Errorf("%v entries in the outbox after their time", got)
		}
	})
}

func TestAnnouncedUntilItIsDone(t *testing.T) {
	bubble(t, 2, 3, 0, func(t *testing.T, w *world) {
		w.startAll()
		author := w.nodes["a"][0]
		var asked atomic.Int64
		const payload = "ok:a:x"
		if err := author.router.Announce(certificates, []byte(payload), Announcement{Until: time.Now().Add(time.Hour), Done: func() bool {
			return asked.Add(1) > 4
		}}); err != nil {
			t.Fatal(err)
		}
		testnet.Pass(10 * time.Minute)
		if times := w.publications(author, payload); times != 5 || asked.Load() != 5 {
			t.Errorf("it was sent %d times and asked %d times whether it is done, want 5 and 5", times, asked.Load())
		}
		for _, n := range w.all() {
			if n != author && n.received(payload) != 1 {
				t.Errorf("a node of %s got it %d times", n.Region, n.received(payload))
			}
			for _, m := range w.all() {
				if st := n.router.Standing(m.Host.ID()); n != m && (len(st.Why) > 0 || st.Score < 0) {
					t.Errorf("repetitions are held against an honest node: %+v", st)
				}
			}
		}
		// A repetition ends at those who know it: only its author sends it more than once.
		w.mu.Lock()
		defer w.mu.Unlock()
		for l, byPayload := range w.copies {
			if l.from != author.Host.ID() && byPayload[payload] > 1 {
				t.Errorf("another node passed it on %d times", byPayload[payload])
			}
		}
	})
}

func TestTheOutboxIsBounded(t *testing.T) {
	bubble(t, 2, 3, 0, func(t *testing.T, w *world) {
		author := w.nodes["a"][0]
		author.start(func(c *Config) { c.OutboxMax, c.OutboxBytesMax = 10, rpcBytesMax })
		announce := func(k Kind, payload []byte) {
			if err := author.router.Announce(Topic{Kind: k}, payload, Announcement{Until: time.Now().Add(time.Hour)}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 11 {
			announce(Certificates, fmt.Appendf(nil, "ok:a:%d", i))
		}
		entries, _, evicted := author.router.outbox.size()
		if first := string(author.router.outbox.entries[0].payload); entries != 10 || evicted != 1 || first != "ok:a:1" {
			t.Errorf("%d entries, %d evicted, the oldest is %q", entries, evicted, first)
		}
		for i := range 10 {
			announce(Patterns, append(make([]byte, patternBytesMax-1), byte(i)))
		}
		if entries, bytes, _ := author.router.outbox.size(); bytes > rpcBytesMax || entries != rpcBytesMax/patternBytesMax {
			t.Errorf("%d entries with %d bytes", entries, bytes)
		}
	})
}

func TestPublishAfterClose(t *testing.T) {
	bubble(t, 2, 3, 0, func(t *testing.T, w *world) {
		r := w.nodes["a"][0].start()
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if err := r.Publish(certificates, []byte("ok:a:x")); !errors.Is(err, ErrClosed) {
			t.Errorf("%v, want ErrClosed", err)
		}
	})
}
