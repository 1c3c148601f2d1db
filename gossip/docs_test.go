package gossip

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

const documentPath = "../docs/network.md"

var rewrite = flag.Bool("rewrite", false, "write the tables of docs/network.md anew")

func topicsTable() string {
	cfg := Config{Regions: 100, RegionNodes: 100}.withDefaults()
	var b strings.Builder
	b.WriteString("| topic | carries | subscribers | mesh | payload at most | expected a second | from one peer a second, at once |\n|---|---|---|---|---|---|---|\n")
	for _, k := range Kinds() {
		rule := k.rule()
		name, mesh := rule.name, "all"
		if rule.perRegion {
			name, mesh = name+"/‹region›", "of that region"
		}
		if rule.regionalMesh {
			mesh = "inside each region"
		}
		perSecond, burst := cfg.rateOf(int(k))
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %d KiB | %.4g | %.0f, %d |\n", name, rule.why, rule.subscribers, mesh, rule.bytesMax>>10, cfg.expected(k), perSecond, burst)
	}
	return b.String()
}

func gossipLimitsTable() string {
	c := Config{}.withDefaults()
	var b strings.Builder
	b.WriteString("| what | limit |\n|---|---|\n")
	for _, row := range [][2]any{
		{"one RPC with all its messages, the control messages in it", fmt.Sprintf("%d KiB, %d KiB", rpcBytesMax>>10, controlBytesMax>>10)},
		{"queues: to one peer, to be judged, to be delivered", fmt.Sprintf("%d, %d, %d messages", c.OutboundQueue, c.ValidateQueue, c.DeliverQueue)},
		{"bytes of one peer", fmt.Sprintf("%d MiB a second, %d MiB at once; beyond it the peer waits", c.PeerBytesPerSecond>>20, c.PeerBytesBurst>>20)},
		{"message ids offered by one peer (IHAVE)", fmt.Sprintf("%d a second, %d at once; %d in %d messages a heartbeat are asked for", ihaveIDsPerSecond, controlBurst*ihaveIDsPerSecond, ihaveLengthMax, ihaveMessagesMax)},
		{"message ids asked for by one peer (IWANT)", fmt.Sprintf("%d a second, %d at once; each three times", iwantIDsPerSecond, controlBurst*iwantIDsPerSecond)},
		{"grafts, prunes and subscriptions of one peer", fmt.Sprintf("%d a second, %d at once; %d subscriptions in one RPC", graftsPerSecond, 4*subscriptionsMax, subscriptionsMax)},
		{"streams of gossip, of one peer", fmt.Sprintf("%d, %d", streamsMax, streamsPerPeerMax)},
		{"topics that a node joins", topicsMax},
		{"peers whose behaviour is remembered", fmt.Sprintf("%d, for %v after they were heard", peersMax, peersKeptFor)},
		{"payloads that are known", fmt.Sprintf("twice %d, for %v to twice that", knownMax, knownFor)},
		{"announcements", fmt.Sprintf("%d, %d MiB; %d a second are repeated, after %v doubled up to %v, %d times at most", c.OutboxMax, c.OutboxBytesMax>>20, outboxPerSecond, announceBase, announceMax, attemptMax)},
		{"mute", fmt.Sprintf("%v, doubled up to %v; then %v of probation", c.MuteFor, c.MuteForMax, c.ProbationFor)},
		{"silence until a node counts as alone", fmt.Sprintf("%v, with a connection to another region %v", c.SilenceAfter, silenceWithLink*c.SilenceAfter)},
	} {
		fmt.Fprintf(&b, "| %v | %v |\n", row[0], row[1])
	}
	return b.String()
}

func scoreTable() string {
	cfg := Config{Regions: 100, RegionNodes: 100}.withDefaults()
	p := cfg.topicScore(Certificates)
	var b strings.Builder
	b.WriteString("| what counts | how much |\n|---|---|\n")
	for _, row := range [][2]string{
		{"time in a topic's mesh (P1)", fmt.Sprintf("+%.1f a minute, up to %+.0f a topic", timeInMeshWeight, timeInMeshWeight*float64(timeInMeshCap))},
		{"messages brought first (P2)", fmt.Sprintf("%+.0f for a mesh peer's share of what is expected, up to %+.0f a topic; forgotten in %v", firstWorth, firstWorth*float64(firstCapShares), firstDecayTicks*time.Second)},
		{"all that together", fmt.Sprintf("%+d at most", topicScoreCap)},
		{"messages not brought (P3, P3b)", fmt.Sprintf("%g", p.MeshMessageDeliveriesWeight+p.MeshFailurePenaltyWeight)},
		{"invalid messages (P4)", fmt.Sprintf("%d · (count)²; forgotten in %v", invalidWeight, invalidForgotten)},
		{"peers behind one address (P6)", "0"},
		{"promises broken, grafts too soon (P7)", fmt.Sprintf("%d · (count above %d)²; forgotten in %v", behaviourWeight, behaviourFree, behaviourForgotten)},
	} {
		fmt.Fprintf(&b, "| %s | %s |\n", row[0], row[1])
	}
	for o := range offences {
		if o.penalty() > 0 {
			fmt.Fprintf(&b, "| %s (P5) | −%g each; halved every %v |\n", map[offence]string{spam: "messages above a rate", replay: "messages replayed", trespass: "messages of topics that are not the peer's",
				tellMuch: "ids offered above the rate", askMuch: "ids asked for above the rate", graftMuch: "grafts, prunes, subscriptions above the rate"}[o], o.penalty(), penaltyHalfLife)
		}
	}
	fmt.Fprintf(&b, "| muted (P5) | %d |\n", mutedScore)
	return b.String()
}

// The tables that operators read are those that the code goes by. After a change:
// go test ./gossip -run TestNetworkDocument -rewrite
func TestNetworkDocument(t *testing.T) {
	content, err := os.ReadFile(documentPath)
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	for name, table := range map[string]string{"topics": topicsTable(), "gossip limits": gossipLimitsTable(), "score": scoreTable()} {
		begin, end := fmt.Sprintf("<!-- %s: written by gossip/docs_test.go -->\n", name), fmt.Sprintf("<!-- end of %s -->", name)
		head, rest, ok := strings.Cut(text, begin)
		old, tail, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Fatalf("%s has no place for the table %q", documentPath, name)
		}
		if old != table && !*rewrite {
			t.Errorf("the table %q of %s is not the code's; run: go test ./gossip -run TestNetworkDocument -rewrite", name, documentPath)
		}
		text = head + begin + table + end + tail
	}
	if *rewrite {
		if err := os.WriteFile(documentPath, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// What the document says of the score.
func TestScoresAreWorthWhatTheDocumentSays(t *testing.T) {
	costs := func(invalid float64) float64 { return topicScoreCap + invalidWeight*invalid*invalid }
	for _, c := range []struct {
		invalid float64
		below   float64
		not     float64
	}{{1, topicScoreCap, 0}, {2, 0, gossipThreshold}, {3, publishThreshold, graylistThreshold}, {4, graylistThreshold, -1000}} {
		if got := costs(c.invalid); got >= c.below || got < c.not {
			t.Errorf("%v invalid messages of a peer with the best credit leave %v, want below %v and not below %v", c.invalid, got, c.below, c.not)
		}
	}
	for _, regions := range []int{1, 4, 100, 149} {
		cfg := Config{Federation: "f", Regions: regions}.withDefaults()
		for _, k := range Kinds() {
			p := cfg.topicScore(k)
			if p.MeshMessageDeliveriesWeight != 0 || p.MeshFailurePenaltyWeight != 0 {
				t.Errorf("%v: what is not brought costs something", k)
			}
			// A peer that brings a mesh peer's share of what is expected, every second.
			counter := 0.0
			for range 1000 {
				counter = min(p.FirstMessageDeliveriesCap, (counter+cfg.expected(k)/meshDegree)*p.FirstMessageDeliveriesDecay)
			}
			if worth := counter * p.FirstMessageDeliveriesWeight; worth > firstWorth || cfg.expected(k) > 1 && worth < 0.9*firstWorth {
				t.Errorf("%d regions, %v: a share is worth %.2f, want %v", regions, k, worth, firstWorth)
			}
			if perSecond, _ := cfg.rateOf(int(k)); perSecond < ratesMargin*cfg.expected(k) {
				t.Errorf("%d regions, %v: the rate of %v is below the expected %v", regions, k, perSecond, cfg.expected(k))
			}
		}
	}
}
