package pattern

import (
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm/ntu"
	"github.com/bizra/bizra/pci"
)

func valid() Pattern {
	return Pattern{Region: "eu", Name: "retries-help", Statement: "A second attempt succeeds where the first timed out.", Session: "s-1",
		Belief: 0.8, Entropy: 0.25, Potential: Potential(0.8, 0.25), Observations: 40}
}

func value(t testing.TB, data map[string]any) pci.Value {
	t.Helper()
	v, err := pci.FromGo(data)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestDataComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u, err := ntu.New(ntu.Config{})
		if err != nil {
			t.Fatal(err)
		}
		seen := rapid.SliceOfN(rapid.Float64Range(0, 1), 1, 30).Draw(t, "observations")
		for _, o := range seen {
			if _, err := u.Observe(o); err != nil {
				t.Fatal(err)
			}
		}
		s := u.State()
		p := Pattern{Region: "r", Name: rapid.StringN(1, 30, NameBytesMax).Draw(t, "name"), Statement: "x", Belief: s.Belief, Entropy: s.Entropy,
			Potential: s.Potential, Observations: int64(len(seen))}
		v, err := pci.FromGo(p.Data())
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadData(v)
		if err != nil || got != p {
			t.Fatalf("read %+v, %v, want %+v", got, err, p)
		}
	})
}

func TestLimitsOfAPattern(t *testing.T) {
	for _, c := range []struct {
		name  string
		set   func(map[string]any)
		fault string // "" for what is allowed
	}{
		{"as it is", func(map[string]any) {}, ""},
		{"no session", func(d map[string]any) { delete(d, "session") }, ""},
		{"longest name", func(d map[string]any) { d["name"] = strings.Repeat("n", NameBytesMax) }, ""},
		{"name too long", func(d map[string]any) { d["name"] = strings.Repeat("n", NameBytesMax+1) }, "name"},
		{"no name", func(d map[string]any) { d["name"] = "" }, "empty"},
		{"longest statement", func(d map[string]any) { d["statement"] = strings.Repeat("s", StatementBytesMax) }, ""},
		{"statement too long", func(d map[string]any) { d["statement"] = strings.Repeat("s", StatementBytesMax+1) }, "statement"},
		{"no region", func(d map[string]any) { d["region"] = "" }, "region"},
		{"belief above one", func(d map[string]any) { d["belief"] = 1.01 }, "0 to 1"},
		{"entropy below zero", func(d map[string]any) { d["entropy"] = -0.01 }, "0 to 1"},
		{"potential invented", func(d map[string]any) { d["potential"] = 0.61 }, "potential"},
		{"no observation", func(d map[string]any) { d["observations"] = int64(0) }, "observations"},
		{"most observations", func(d map[string]any) { d["observations"] = int64(ObservationsMax) }, ""},
		{"too many observations", func(d map[string]any) { d["observations"] = int64(ObservationsMax + 1) }, "observations"},
		{"a member more", func(d map[string]any) { d["weight"] = 1.0 }, "not known"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := valid()
			data := p.Data()
			c.set(data)
			_, err := ReadData(value(t, data))
			var reject *pci.Reject
			switch {
			case c.fault == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.fault != "" && (!errors.As(err, &reject) || reject.Code != pci.RejectSchema || !strings.Contains(err.Error(), c.fault)):
				t.Errorf("%v, want a fault about %q", err, c.fault)
			}
		})
	}
}

func TestImpact(t *testing.T) {
	p := valid()
	if got, want := p.Impact(), 0.6*math.Log(41); math.Abs(got-want) > 1e-12 {
		t.Errorf("impact %v, want %v", got, want)
	}
	// What the formula is for: neither repetition nor certainty alone makes a pattern heavy.
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(1, ObservationsMax/10).Draw(t, "n")
		potential := rapid.Float64Range(0, 1).Draw(t, "potential")
		a, b := Pattern{Potential: potential, Observations: n}, Pattern{Potential: potential, Observations: 10 * n}
		if gain := b.Impact() - a.Impact(); gain < 0 || gain > potential*math.Log(10)+1e-9 {
			t.Fatalf("ten times the observations add %v to a potential of %v", gain, potential)
		}
		if most := (&Pattern{Potential: 1, Observations: ObservationsMax}).Impact(); b.Impact() > most || most >= 21 {
			t.Fatalf("impact %v beside a greatest of %v", b.Impact(), most)
		}
	})
}

func FuzzReadData(f *testing.F) {
	p := valid()
	f.Add(value(f, p.Data()).AppendCanonical(nil))
	f.Add([]byte(`{"name":"","observations":1e3}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := pci.Parse(text, pci.Limits{})
		if err != nil {
			return
		}
		p, err := ReadData(v)
		if err != nil {
			return
		}
		if impact := p.Impact(); !(impact >= 0 && impact < 21) {
			t.Errorf("impact %v of %+v", impact, p)
		}
		again, err := ReadData(value(t, p.Data()))
		if err != nil || again != p {
			t.Errorf("%+v came back as %+v, %v", p, again, err)
		}
	})
}
