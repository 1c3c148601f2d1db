package gossip

import (
	"fmt"
	"strings"
	"testing"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"google.golang.org/protobuf/proto"

	"github.com/bizra/bizra/internal/testnet"
)

// An attack is done by a listed voter of region a, b's or a's last, against its region's
// first node, while the region goes on. Each must have happened, must be survived, and
// with its defence off must do the harm that the defence is for.
type attack struct {
	defence func(*Config) // switches it off
	attack  func(t *testing.T, r *rogue)
	// harmed says what harm was done, "" for none.
	harmed func(t *testing.T, r *rogue) string
	// held says what of the attack is held against the rogue.
	held string
}

var certificates = Topic{Kind: Certificates}

func (a attack) run(t *testing.T, off bool) (harm string, standing PeerStanding) {
	bubble(t, 2, 3, 2, func(t *testing.T, w *world) {
		bad := w.nodes["a"][2]
		for _, n := range w.all() {
			if n != bad {
				n.start(func(c *Config) {
					if off {
						a.defence(c)
					}
				})
			}
		}
		w.ConnectAll(bad.Node)
		testnet.Pass(5 * time.Second)
		r := bad.attack(w.nodes["a"][0])
		r.subscribe(certificates, Topic{Kind: Patterns})
		a.attack(t, r)
		harm = a.harmed(t, r)
		testnet.Pass(11 * time.Second) // until scores were taken
		standing = r.standing()

		// Whatever was done, honest messages get through to everybody.
		const honest = "ok:b:after the attack"
		if err := w.nodes["b"][0].router.Publish(certificates, []byte(honest)); err != nil {
			t.Fatal(err)
		}
		testnet.Pass(5 * time.Second)
		for _, n := range w.all() {
			if n != bad && n != w.nodes["b"][0] && n.received(honest) != 1 && !off {
				t.Errorf("a node of region %s got the honest message %d times", n.Region, n.received(honest))
			}
		}
		for _, n := range w.all() {
			if n == bad || n == r.victim || n.Region != "a" {
				continue
			}
			if st := r.victim.router.Standing(n.Host.ID()); !off && (st.Score < 0 || st.Muted || len(st.Why) > 0) {
				t.Errorf("an honest peer stands at %+v", st)
			}
		}
	})
	return harm, standing
}

func judgedOf(n *node, prefix string) (distinct, times int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for payload, count := range n.judged {
		if strings.HasPrefix(payload, prefix) {
			distinct++
			times += count
		}
	}
	return distinct, times
}

func TestAttacks(t *testing.T) {
	const many = 3000
	for name, a := range map[string]attack{
		"spam": {
			defence: func(c *Config) { c.off.rates = true },
			attack: func(t *testing.T, r *rogue) {
				for i := range many {
					r.publish(certificates, fmt.Sprintf("ok:a:spam %d", i))
				}
				testnet.Pass(3 * time.Second)
			},
			harmed: func(t *testing.T, r *rogue) string {
				if r.sent != many {
					t.Fatalf("%d messages were sent", r.sent)
				}
				if distinct, _ := judgedOf(r.victim, "ok:a:spam"); distinct > 200 {
					return fmt.Sprintf("%d messages of one peer at once were judged and passed on", distinct)
				}
				return ""
			},
			held: "above its rate",
		},
		"invalid messages": {
			defence: func(c *Config) { c.off.scoring, c.off.breaker = true, true },
			attack: func(t *testing.T, r *rogue) {
				for i := range 100 {
					r.publish(certificates, fmt.Sprintf("bad:a:invalid %d", i))
					testnet.Pass(500 * time.Millisecond)
				}
			},
			harmed: func(t *testing.T, r *rogue) string {
				if r.sent != 100 {
					t.Fatalf("%d messages were sent", r.sent)
				}
				if distinct, _ := judgedOf(r.victim, "bad:a:invalid"); distinct > 10 {
					return fmt.Sprintf("%d invalid messages had to be judged", distinct)
				}
				return ""
			},
			held: "invalid messages",
		},
		"replay of one message": {
			defence: func(c *Config) { c.off.breaker = true },
			attack: func(t *testing.T, r *rogue) {
				for range 200 {
					r.publish(certificates, "ok:a:once", "ok:a:once", "ok:a:once")
					testnet.Pass(100 * time.Millisecond)
				}
			},
			harmed: func(t *testing.T, r *rogue) string {
				if r.sent != 600 {
					t.Fatalf("%d messages were sent", r.sent)
				}
				if _, times := judgedOf(r.victim, "ok:a:once"); times != 1 {
					t.Errorf("it was judged %d times", times)
				}
				if !r.standing().Muted {
					return "it goes on and nobody minds"
				}
				return ""
			},
			held: "again and again",
		},
		"replay under new names": {
			defence: func(c *Config) { c.off.known = true },
			attack: func(t *testing.T, r *rogue) {
				for i := range 256 {
					r.send(&pb.RPC{Publish: []*pb.Message{r.message(certificates, uint8(i), "ok:a:same")}})
					testnet.Pass(20 * time.Millisecond)
				}
			},
			harmed: func(t *testing.T, r *rogue) string {
				if r.sent != 256 {
					t.Fatalf("%d messages were sent", r.sent)
				}
				if _, times := judgedOf(r.victim, "ok:a:same"); times > 1 {
					return fmt.Sprintf("it was judged %d times", times)
				}
				return ""
			},
			held: "again and again",
		},
		"trespass": {
			defence: func(c *Config) { c.off.breaker, c.off.scoring = true, true },
			attack: func(t *testing.T, r *rogue) {
				for i := range 300 {
					r.publish(Topic{Kind: Members, Region: "b"}, fmt.Sprintf("ok:b:not mine %d", i))
					testnet.Pass(20 * time.Millisecond)
				}
			},
			harmed: func(t *testing.T, r *rogue) string {
				if distinct, _ := judgedOf(r.victim, "ok:b:not mine"); distinct > 0 {
					t.Errorf("%d messages of a topic that is not the peer's were judged", distinct)
				}
				if !r.standing().Muted {
					return "it goes on and nobody minds"
				}
				return ""
			},
			held: "topics that are not its",
		},
		"IHAVE flood": {
			defence: func(c *Config) { c.off.rates, c.off.scoring, c.off.breaker = true, true, true },
			attack: func(t *testing.T, r *rogue) {
				for i := range 400 {
					ids := make([]string, 500)
					for k := range ids {
						ids[k] = fmt.Sprintf("%010d%010d", i, k)
					}
					r.send(&pb.RPC{Control: &pb.ControlMessage{Ihave: []*pb.ControlIHave{{TopicID: proto.String(r.name(certificates)), MessageIDs: ids}}}})
					testnet.Pass(50 * time.Millisecond)
				}
			},
			harmed: func(t *testing.T, r *rogue) string {
				asked := 0
				r.mu.Lock()
				defer r.mu.Unlock()
				for _, rpc := range r.got {
					for _, w := range rpc.GetControl().GetIwant() {
						asked += len(w.MessageIDs)
					}
				}
				if asked == 0 {
					t.Fatal("the victim asked for nothing: the attack did not happen")
				}
				if asked > 10000 {
					return fmt.Sprintf("the victim asked for %d messages that are not there", asked)
				}
				return ""
			},
			held: "offered",
		},
		"IWANT flood": {
			defence: func(c *Config) { c.off.rates, c.off.scoring, c.off.breaker = true, true, true },
			attack: func(t *testing.T, r *rogue) {
				var ids []string
				for i := range 100 {
					payload := fmt.Sprintf("ok:a:%d %s", i, strings.Repeat("x", 1000))
					if err := r.victim.router.Publish(certificates, []byte(payload)); err != nil {
						t.Fatal(err)
					}
					ids = append(ids, messageID(r.message(certificates, 0, payload)))
				}
				testnet.Pass(100 * time.Millisecond)
				r.mu.Lock()
				r.got = nil
				r.mu.Unlock()
				for range 40 {
					r.send(&pb.RPC{Control: &pb.ControlMessage{Iwant: []*pb.ControlIWant{{MessageIDs: ids}}}})
					testnet.Pass(50 * time.Millisecond)
				}
			},
			harmed: func(t *testing.T, r *rogue) string {
				served := 0
				r.mu.Lock()
				defer r.mu.Unlock()
				for _, rpc := range r.got {
					served += len(rpc.Publish)
				}
				if served == 0 {
					t.Fatal("nothing was served: the attack did not happen")
				}
				if served > 250 { // GossipSub's own limit is thrice each
					return fmt.Sprintf("%d messages were served", served)
				}
				return ""
			},
			held: "asked for",
		},
		"graft flood": {
			defence: func(c *Config) { c.off.rates, c.off.scoring, c.off.breaker = true, true, true },
			attack: func(t *testing.T, r *rogue) {
				graft := []*pb.ControlGraft{{TopicID: proto.String(r.name(certificates))}}
				prune := []*pb.ControlPrune{{TopicID: proto.String(r.name(certificates))}}
				for range 1000 {
					r.send(&pb.RPC{Control: &pb.ControlMessage{Graft: graft}})
					r.send(&pb.RPC{Control: &pb.ControlMessage{Prune: prune}})
					testnet.Pass(10 * time.Millisecond)
				}
			},
			harmed: func(t *testing.T, r *rogue) string {
				answers := 0
				r.mu.Lock()
				defer r.mu.Unlock()
				for _, rpc := range r.got {
					answers += len(rpc.GetControl().GetPrune())
				}
				if answers == 0 {
					t.Fatal("no graft was refused: the attack did not happen")
				}
				if answers > 500 {
					return fmt.Sprintf("the victim answered %d times", answers)
				}
				return ""
			},
			held: "joined",
		},
	} {
		t.Run(name, func(t *testing.T) {
			harm, standing := a.run(t, false)
			if harm != "" {
				t.Errorf("harm: %s", harm)
			}
			if standing.Score >= 0 && !standing.Muted {
				t.Errorf("the attacker stands at %+v", standing)
			}
			if !strings.Contains(strings.Join(standing.Why, "; "), a.held) {
				t.Errorf("why it stands where it stands: %q, want %q among it", standing.Why, a.held)
			}
			t.Logf("score %.1f, muted %v: %q", standing.Score, standing.Muted, standing.Why)
		})
		t.Run(name+", undefended", func(t *testing.T) {
			if harm, _ := a.run(t, true); harm == "" {
				t.Error("without its defence the attack does no harm: the test shows nothing")
			} else {
				t.Log(harm)
			}
		})
	}
}
