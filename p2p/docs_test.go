package p2p

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/bizra/bizra/fsm/federation"
)

const documentPath = "../docs/network.md"

var rewrite = flag.Bool("rewrite", false, "write the tables of docs/network.md anew")

func accessTable() string {
	var b strings.Builder
	b.WriteString("| protocol |")
	for _, r := range Roles() {
		fmt.Fprintf(&b, " %s |", r)
	}
	b.WriteString(" why |\n|---|" + strings.Repeat("---|", len(Roles())) + "---|\n")
	for _, rule := range Rules() {
		fmt.Fprintf(&b, "| `%s` |", rule.Protocol)
		for _, r := range Roles() {
			if slices.Contains(rule.From, r) {
				b.WriteString(" yes |")
			} else {
				b.WriteString(" – |")
			}
		}
		fmt.Fprintf(&b, " %s |\n", rule.Why)
	}
	return b.String()
}

func limitsTable() string {
	host, guard, keeper := Config{}.withDefaults(), GuardConfig{}.withDefaults(), KeeperConfig{}.withDefaults()
	stream, join := Limits{}.withDefaults(), (&joinServer{}).limits().withDefaults()
	const mib = 1 << 20
	var b strings.Builder
	b.WriteString("| what | limit |\n|---|---|\n")
	for _, row := range [][2]any{
		{"connections of a host (of them dialled in, dialled out)", fmt.Sprintf("%d (%d, %d)", host.ConnsMax, host.ConnsMax*3/4, host.ConnsMax*3/4)},
		{"connections of one peer", host.ConnsPerPeerMax},
		{"connections of one IPv4 address or IPv6 /56, loopback excepted", host.ConnsPerAddressMax},
		{"connections of strangers", guard.StrangersMax},
		{"time in which a stranger must have been admitted", guard.AdmitWithin},
		{"streams of a host, of one peer", fmt.Sprintf("%d, %d", host.StreamsMax, host.StreamsPerPeerMax)},
		{"memory that libp2p may reserve, for one peer", fmt.Sprintf("%d MiB, %d MiB", host.MemoryBytesMax/mib, host.MemoryBytesMax/4/mib)},
		{"one message: request, response (a protocol may set its own)", fmt.Sprintf("%d KiB, %d KiB", stream.RequestBytesMax>>10, stream.ResponseBytesMax>>10)},
		{"nesting of a message, elements of one array, pairs of one map", fmt.Sprintf("%d, %d, %d", messageNestedMax, messageElementsMax, messagePairsMax)},
		{"requests of one protocol served at once, of one peer", fmt.Sprintf("%d, %d", stream.ConcurrentMax, stream.PerPeerMax)},
		{"time to read a request, to handle it, to write the response, each", stream.Timeout},
		{"time until the end of a right ends an open stream", stream.RecheckEvery},
		{"`join` requests of one peer", fmt.Sprintf("%g a second, %d at once", join.PerPeerPerSecond, join.PerPeerBurst)},
		{"`join` requests of all strangers together", fmt.Sprintf("%g a second, %d at once", join.StrangerPerSec, join.StrangerBurst)},
		{"federation document", fmt.Sprintf("%d KiB", federation.DocumentBytesMax>>10)},
		{"peers that one answer tells", fmt.Sprintf("%d, %d KiB", JoinPeersMax, JoinPeersBytesMax>>10)},
		{"an invitation", fmt.Sprintf("%d bytes", InvitationBytesMax)},
		{"invited nodes that a node remembers", AdmissionsMax},
		{"peers in the address book, its file", fmt.Sprintf("%d, %d MiB", BookPeersMax, BookBytesMax/mib)},
		{"addresses of one peer, one address", fmt.Sprintf("%d, %d bytes", AddressesMax, AddressBytesMax)},
		{"voters of its region to whom a member keeps connections; a voter keeps them to all", votersKept},
		{"members to whom a node keeps connections", membersKept},
		{"voters of each other region to whom a voter keeps connections", fmt.Sprintf("%d, of more than %d regions %d", foreignPerRegion, foreignManyRegions, foreignFew)},
		{"other regions to which a voter keeps a connection that stands by", foreignStandingBy},
		{"wait after a failed dial", fmt.Sprintf("%v, doubled up to %v, give or take a quarter", keeper.RedialBase, keeper.RedialMax)},
		{"peer exchange with one connected node", fmt.Sprintf("every %v, up to %v while they bring nothing new, give or take a quarter", keeper.ExchangeEvery, keeper.ExchangeEvery<<exchangeIdleMax)},
		{"pings unanswered until a connection counts as dead", fmt.Sprintf("%d, one every %v, waited for %v", pingFailuresMax, keeper.PingEvery, keeper.PingTimeout)},
	} {
		fmt.Fprintf(&b, "| %v | %v |\n", row[0], row[1])
	}
	return b.String()
}

// The tables that operators read are those that the code goes by. After a change:
// go test ./p2p -run TestNetworkDocument -rewrite
func TestNetworkDocument(t *testing.T) {
	content, err := os.ReadFile(documentPath)
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	for name, table := range map[string]string{"access": accessTable(), "limits": limitsTable()} {
		begin, end := fmt.Sprintf("<!-- %s: written by p2p/docs_test.go -->\n", name), fmt.Sprintf("<!-- end of %s -->", name)
		head, rest, ok := strings.Cut(text, begin)
		old, tail, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Fatalf("%s has no place for the table %q", documentPath, name)
		}
		if old == table {
			continue
		}
		if !*rewrite {
			t.Errorf("the table %q of %s is not the code's; run: go test ./p2p -run TestNetworkDocument -rewrite", name, documentPath)
		}
		text = head + begin + table + end + tail
	}
	if *rewrite {
		if err := os.WriteFile(documentPath, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, says := range []string{"--announce", "--join", "NAT", "hole", "relay", "port"} {
		if !strings.Contains(text, says) {
			t.Errorf("%s does not speak of %q", documentPath, says)
		}
	}
}
