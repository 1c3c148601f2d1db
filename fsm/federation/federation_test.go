package federation_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/market"
	"github.com/bizra/bizra/internal/testfed"
)

func TestDocumentRoundTrip(t *testing.T) {
	d := testfed.New(4, 3).Document
	again, err := federation.Parse(d.Canonical())
	if err != nil || !bytes.Equal(again.Canonical(), d.Canonical()) || again.Digest() != d.Digest() {
		t.Fatalf("read again as %+v: %v", again, err)
	}
	var spaced bytes.Buffer
	if err := json.Indent(&spaced, d.Canonical(), "", "  "); err != nil {
		t.Fatal(err)
	}
	if again, err = federation.Parse(spaced.Bytes()); err != nil || again.Digest() != d.Digest() {
		t.Fatalf("spacing changes the digest: %v", err)
	}
}

// TestMarketInADocument: a document with a market says so by its format, and one without is what it was before there were any.
func TestMarketInADocument(t *testing.T) {
	for format, d := range map[string]*federation.Document{`"format":1,`: testfed.New(2, 1).Document, `"format":2,`: testfed.New(2, 1, testfed.Market).Document} {
		text := string(d.Canonical())
		again, err := federation.Parse([]byte(text))
		if err != nil || again.Digest() != d.Digest() || !strings.Contains(text, format) || strings.Contains(text, "market") != strings.Contains(format, "2") {
			t.Errorf("%s read again as %+v: %v", text, again, err)
		}
	}
	one, other := testfed.New(1, 1).Document, testfed.New(1, 1, testfed.Market).Document
	other.Regions[0].Market.UnitPrice[market.Storage] = 1
	if err := other.Check(); err == nil || !strings.Contains(err.Error(), "resources.storage has a price_micro and no capacity") {
		t.Errorf("a price without a capacity, which the canonical form would lose: %v", err)
	}
	other.Regions[0].Market.UnitPrice[market.Storage] = 0
	one.Version, other.Version = 1, 2
	if err := one.CheckSuccessor(other); err != nil {
		t.Errorf("a market cannot come later: %v", err)
	}
	one.Version = 3
	if err := other.CheckSuccessor(one); err == nil || !strings.Contains(err.Error(), "cannot be taken away") {
		t.Errorf("a market can be taken away: %v", err)
	}
}

// TestQuorum holds the formula against what it must do: two quorums share an honest
// region as long as at most FaultsTolerated lie, and the honest ones make a quorum.
func TestQuorum(t *testing.T) {
	for n := 1; n <= federation.RegionsMax; n++ {
		q, f := federation.Quorum(n), federation.FaultsTolerated(n)
		if 2*q-n <= f {
			t.Errorf("n=%d: quorums of %d need share no more than %d regions, and %d may lie", n, q, 2*q-n, f)
		}
		if n-f < q {
			t.Errorf("n=%d: with %d down there is no quorum of %d", n, f, q)
		}
		if 3*q <= 2*n {
			t.Errorf("n=%d: %d is not more than two thirds", n, q)
		}
	}
	for n, want := range map[int]int{1: 1, 3: 3, 4: 3, 6: 5, 100: 67} {
		if q := federation.Quorum(n); q != want {
			t.Errorf("quorum of %d is %d, want %d", n, q, want)
		}
	}
}

func TestDocumentsThatAreRefused(t *testing.T) {
	change := func(f func(d *federation.Document)) string {
		d := testfed.New(2, 3).Document
		f(d)
		return string(d.Canonical())
	}
	good := string(testfed.New(2, 3).Document.Canonical())
	after := func(text, mark, with string) string {
		_, rest, found := strings.Cut(text, mark)
		if !found {
			t.Fatalf("no %q in %s", mark, text)
		}
		return with + rest
	}
	for _, c := range []struct{ name, text, says string }{
		{"no JSON", "region: a", "REJECT_SCHEMA"},
		{"twice a member", strings.Replace(good, `"format":1`, `"format":1,"format":1`, 1), "format"},
		{"unknown member", strings.Replace(good, `"format":1`, `"format":1,"more":1`, 1), "more"},
		{"newer format", strings.Replace(good, `"format":1`, `"format":3`, 1), "a newer bizra may read it"},
		{"newer constitution", strings.Replace(good, `"version":2}`, `"version":9}`, 1), "a newer bizra may read it"},
		{"older constitution", strings.Replace(good, `"version":2}`, `"version":1}`, 1), "it reads version 2"},
		{"no constitution", "{" + after(good, `},"format"`, `"format"`), "constitution is missing"},
		{"constitution with a member less", strings.Replace(good, `"snr_min":0.85,`, "", 1), "not in canonical form"},
		{"rule that cannot be", change(func(d *federation.Document) {
			d.Constitution.Rules = []constitution.Rule{{Name: "r", Dimension: constitution.Ethics, Deny: "action =", Message: "m"}}
		}), "rules[0].deny"},
		{"too long", good + strings.Repeat(" ", federation.DocumentBytesMax), "REJECT_SCHEMA"},
		{"version 0", change(func(d *federation.Document) { d.Version = 0 }), "version 0"},
		{"name", change(func(d *federation.Document) { d.Name = "Test" }), "name"},
		{"no region", change(func(d *federation.Document) { d.Regions = nil }), "0 regions"},
		{"unsorted", change(func(d *federation.Document) { d.Regions[0], d.Regions[1] = d.Regions[1], d.Regions[0] }), "sorted"},
		{"region name", change(func(d *federation.Document) { d.Regions[0].Name = "A" }), "match"},
		{"key of two roles", change(func(d *federation.Document) { d.Regions[1].CosignKey = d.Regions[0].LogKey }), "one role"},
		{"operator of two regions", change(func(d *federation.Document) { d.Regions[1].Operators = d.Regions[0].Operators }), "one role"},
		{"voter of two regions", change(func(d *federation.Document) { d.Regions[1].Voters[0].NodeKey = d.Regions[0].Voters[0].NodeKey }), "one role"},
		{"empty key", change(func(d *federation.Document) { d.Regions[0].LogKey = federation.Key{} }), "empty"},
		{"no operator", change(func(d *federation.Document) { d.Regions[0].Operators = nil }), "operators"},
		{"two voters", change(func(d *federation.Document) { d.Regions[0].Voters = d.Regions[0].Voters[:2] }), "1, 3 or 5"},
		{"voter's name twice", change(func(d *federation.Document) { d.Regions[1].Voters[0].Name = "a-1" }), "twice"},
		{"address", change(func(d *federation.Document) { d.Regions[0].Voters[0].Addresses = []string{"localhost:1"} }), "multiaddr"},
		{"address with /p2p", change(func(d *federation.Document) {
			d.Regions[0].Voters[0].Addresses = []string{"/ip4/127.0.0.1/tcp/1/p2p/12D3KooWGRUVh3Fvnv7aT9tJ9rXsBLLrGRzMMHRkzAhWJBTHe3Nf"}
		}), "leave out /p2p"},
		{"ihsan above 1", change(func(d *federation.Document) { d.Constitution.Thresholds.IhsanMin = 1.5 }), "ihsan_min"},
		{"nonce window too short", change(func(d *federation.Document) { d.Constitution.Thresholds.NonceWindowMillis = 240_000 }), "nonce_window_ms"},
		{"market of format 1", strings.Replace(change(testfed.Market), `"format":2`, `"format":1`, 1), "is of format 2"},
		{"market and open registration", change(func(d *federation.Document) { testfed.Market(d); testfed.Open(d) }), "limits.open_registration"},
		{"market without credits", change(func(d *federation.Document) { testfed.Market(d); d.Regions[1].Market.Supply = 0 }), `region "b": market: supply_micro is 0`},
		{"market of more credits than a JSON number keeps", change(func(d *federation.Document) { testfed.Market(d); d.Regions[0].Market.Supply = 1<<53 + 1 }), "supply_micro"},
		{"market of nothing", change(func(d *federation.Document) { d.Regions[0].Market = &market.Rules{Supply: market.Credit} }), "name what there is to be licensed"},
		{"capacity below 0", change(func(d *federation.Document) { testfed.Market(d); d.Regions[0].Market.Capacity[market.CPU] = -1 }), "Capacity of cpu is -1"},
		{"capacity 0", strings.Replace(change(testfed.Market), `"capacity":64`, `"capacity":0`, 1), "gpu.capacity is 0: leave the resource out"},
		{"price too high", change(func(d *federation.Document) {
			testfed.Market(d)
			d.Regions[0].Market.UnitPrice[market.GPU] = market.ValueMax + 1
		}), "UnitPrice of gpu"},
		{"unknown resource", strings.Replace(change(testfed.Market), `"gpu":{`, `"tpu":{`, 1), "tpu"},
		{"resource without a price", strings.Replace(change(testfed.Market), `,"price_micro":2000000`, ``, 1), "price_micro"},
	} {
		_, err := federation.Parse([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want an error that says %q", c.name, err, c.says)
		}
	}
}

func TestDocumentLimits(t *testing.T) {
	regions := func(n int) error {
		d := testfed.New(1, 1).Document
		one := d.Regions[0]
		d.Regions = nil
		for i := range n {
			r := one
			r.Name = fmt.Sprintf("r%03d", i)
			r.LogKey, r.CosignKey = testfed.Key(r.Name+"l").Public(), testfed.Key(r.Name+"c").Public()
			r.Operators = []federation.Key{testfed.Key(r.Name + "o").Public()}
			r.Voters = []federation.Voter{{Name: r.Name + "-1", NodeKey: testfed.Key(r.Name + "v").Public()}}
			d.Regions = append(d.Regions, r)
		}
		_, err := federation.Parse(d.Canonical())
		return err
	}
	if err := regions(federation.RegionsMax); err != nil {
		t.Errorf("%d regions: %v", federation.RegionsMax, err)
	}
	if err := regions(federation.RegionsMax + 1); err == nil {
		t.Errorf("%d regions are accepted", federation.RegionsMax+1)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(testfed.New(1, 1).Document.Canonical())
	f.Add(testfed.New(2, 3, testfed.Open).Document.Canonical())
	f.Add(testfed.New(1, 1, testfed.DefaultRules).Document.Canonical())
	f.Add(testfed.New(2, 1, testfed.Market).Document.Canonical())
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := federation.Parse(b)
		if err != nil {
			return
		}
		again, err := federation.Parse(d.Canonical())
		if err != nil || again.Digest() != d.Digest() {
			t.Fatalf("accepted %q, but not its canonical form: %v", b, err)
		}
	})
}
