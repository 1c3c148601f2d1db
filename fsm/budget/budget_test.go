package budget_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm/budget"
)

const tasks = budget.Consensus + 1

func drawRequest(t *rapid.T) budget.Request {
	unit := rapid.Float64Range(0, 1)
	r := budget.Request{
		Task:            budget.Task(rapid.IntRange(0, int(tasks)-1).Draw(t, "task")),
		Text:            budget.Text{Length: rapid.IntRange(0, 20000).Draw(t, "length"), Entropy: unit.Draw(t, "entropy")},
		HasKnowledgeGap: rapid.Bool().Draw(t, "has gap"), Attempts: rapid.Int64Range(0, 20).Draw(t, "attempts"),
	}
	if r.HasKnowledgeGap {
		r.KnowledgeGap = unit.Draw(t, "gap")
	}
	for range rapid.IntRange(0, 3).Draw(t, "history") {
		r.History, _ = r.History.Add(unit.Draw(t, "snr"))
	}
	return r
}

// atLeast reports whether no part of a is below that of b.
func atLeast(a, b budget.Allocation) bool {
	return a.Tier >= b.Tier && a.TimeSeconds >= b.TimeSeconds && a.TimeMillis >= b.TimeMillis && a.Tokens >= b.Tokens &&
		a.Depth >= b.Depth && a.Tracks >= b.Tracks && a.Iterations >= b.Iterations && a.Confidence >= b.Confidence &&
		(a.ExtendedThinking || !b.ExtendedThinking) && a.NTUWindow >= b.NTUWindow
}

func TestNeverShrinksAsComplexityGrows(t *testing.T) {
	rose := 0
	rapid.Check(t, func(t *rapid.T) {
		low := drawRequest(t)
		high := low
		high.Text.Length += rapid.IntRange(0, 20000).Draw(t, "more length")
		high.Text.Entropy += (1 - low.Text.Entropy) * rapid.Float64Range(0, 1).Draw(t, "more entropy")
		high.Attempts += rapid.Int64Range(0, 9).Draw(t, "more attempts")
		high.History.Sum *= rapid.Float64Range(0, 1).Draw(t, "less SNR")
		if low.HasKnowledgeGap {
			high.KnowledgeGap += (1 - low.KnowledgeGap) * rapid.Float64Range(0, 1).Draw(t, "more gap")
		}
		a, err := budget.Allocate(low)
		if err != nil {
			t.Fatal(err)
		}
		b, err := budget.Allocate(high)
		if err != nil {
			t.Fatal(err)
		}
		if b.Complexity < a.Complexity || !atLeast(b, a) || a.Complexity < 0 || b.Complexity > 1 {
			t.Fatalf("%+v gets %+v, %+v gets %+v", low, a, high, b)
		}
		if b.Tier > a.Tier {
			rose++
		}
		// Whatever is drawn, of two tasks of one tier the more complex gets no less.
		other := drawRequest(t)
		other.Task = low.Task
		c, err := budget.Allocate(other)
		if err != nil {
			t.Fatal(err)
		}
		if c.Complexity > a.Complexity && !atLeast(c, a) || c.Complexity < a.Complexity && !atLeast(a, c) {
			t.Fatalf("%+v and %+v", a, c)
		}
	})
	if rose == 0 {
		t.Error("no tier ever rose")
	}
}

func TestTierRises(t *testing.T) {
	full := budget.Request{Text: budget.Text{Length: 10000, Entropy: 1}, KnowledgeGap: 1, HasKnowledgeGap: true, Attempts: 9, History: budget.History{Count: 1}}
	for _, c := range []struct {
		task       budget.Task
		change     func(*budget.Request)
		complexity float64
		tier       budget.Tier
	}{
		{budget.Echo, func(*budget.Request) {}, (2 + 1 + 6 + 9) / 25.0, budget.Micro},
		{budget.Reason, func(*budget.Request) {}, (4 + 2 + 6 + 9) / 25.0, budget.Macro},
		{budget.Plan, func(*budget.Request) {}, (5 + 2 + 6 + 9) / 25.0, budget.Mega},
		{budget.Proof, func(*budget.Request) {}, (6 + 3 + 6 + 9) / 25.0, budget.Mega},
		{budget.Reason, func(r *budget.Request) { r.Attempts, r.History = 0, budget.History{} }, (4 + 2 + 6 + 2.25) / 25.0, budget.Meso},
	} {
		r := full
		r.Task = c.task
		c.change(&r)
		a, err := budget.Allocate(r)
		if err != nil || !near(a.Complexity, c.complexity) || a.Tier != c.tier {
			t.Errorf("%v: %+v, %v; want complexity %v and tier %v", c.task, a, err, c.complexity, c.tier)
		}
		if got, err := budget.Complexity(r); err != nil || got != a.Complexity {
			t.Errorf("%v: Complexity = %v, %v", c.task, got, err)
		}
	}
}

func TestTables(t *testing.T) {
	tiers := map[budget.Tier][]budget.Task{
		budget.Nano:  {budget.Echo, budget.Classify},
		budget.Micro: {budget.Lookup, budget.Transform, budget.Validate},
		budget.Meso:  {budget.Summarize, budget.Analyze, budget.Generate, budget.Reason},
		budget.Macro: {budget.Plan, budget.Synthesize, budget.Debug, budget.Optimize},
		budget.Mega:  {budget.Architect, budget.Research, budget.Proof, budget.Consensus},
	}
	seen := map[budget.Task]bool{}
	for tier, list := range tiers {
		for _, task := range list {
			seen[task] = true
			if task.Tier() != tier {
				t.Errorf("%v is %v, want %v", task, task.Tier(), tier)
			}
		}
		text, err := json.Marshal(tier)
		var back budget.Tier
		if err != nil || json.Unmarshal(text, &back) != nil || back != tier {
			t.Errorf("%v is %s in JSON, and back %v", tier, text, back)
		}
	}
	if len(seen) != int(tasks) {
		t.Errorf("%d of %d tasks have a tier", len(seen), tasks)
	}
	for task := range tasks {
		text, err := json.Marshal(task)
		var back budget.Task
		if err != nil || json.Unmarshal(text, &back) != nil || back != task {
			t.Errorf("%v is %s in JSON, and back %v", task, text, back)
		}
	}
	if task, ok := budget.ParseTask(""); !ok || task != budget.Transform {
		t.Errorf("no task is %v, %t", task, ok)
	}
	var tier budget.Tier
	var task budget.Task
	if json.Unmarshal([]byte(`"giga"`), &tier) == nil || json.Unmarshal([]byte(`"nap"`), &task) == nil {
		t.Error("unknown names were read")
	}
	if s := budget.Tier(9).String() + budget.Task(99).String(); s != "tier(9)task(99)" {
		t.Error(s)
	}
}

// plain is entropy in the plainest way.
func plain(s string) (length int, entropy float64) {
	counts := map[rune]float64{}
	for _, r := range s {
		counts[r]++
		length++
	}
	if length == 0 {
		return 0, 0.5
	}
	if len(counts) == 1 {
		return length, 0
	}
	for _, n := range counts {
		entropy -= n / float64(length) * math.Log2(n/float64(length))
	}
	return length, entropy / math.Log2(float64(len(counts)))
}

func checkMeasure(t rapid.TB, s string) {
	t.Helper()
	length, entropy := plain(s)
	got, err := budget.Measure(s)
	if err != nil || got.Length != length || !near(got.Entropy, entropy) || !(got.Entropy >= 0 && got.Entropy <= 1) {
		t.Fatalf("Measure(%q) = %+v, %v; want %d and %v", s, got, err, length, entropy)
	}
}

func TestMeasureAgainstPlainComputation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		checkMeasure(t, rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-d ]{0,200}`), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "s"))
	})
}

// The order of the text must not show, not even in the last bit.
func TestMeasureForgetsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		runes := rapid.SliceOfN(rapid.Rune(), 1, 100).Draw(t, "runes")
		a, errA := budget.Measure(string(runes))
		b, errB := budget.Measure(string(rapid.Permutation(runes).Draw(t, "shuffled")))
		if errA != nil || errB != nil || a != b {
			t.Fatalf("%+v and %+v, %v, %v", a, b, errA, errB)
		}
	})
}

func FuzzMeasure(f *testing.F) {
	for _, s := range []string{"", "a", "ab", "aé\xff", strings.Repeat("日本", 300), "\U0010ffff\U00010000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) <= budget.TextBytesMax {
			checkMeasure(t, s)
		}
	})
}

func FuzzParseTask(f *testing.F) {
	for task := range tasks {
		f.Add(task.String())
	}
	f.Fuzz(func(t *testing.T, name string) {
		if task, ok := budget.ParseTask(name); ok && name != "" && task.String() != name {
			t.Fatalf("%q is %v", name, task)
		}
		if tier, ok := budget.ParseTier(name); ok && tier.String() != name {
			t.Fatalf("%q is %v", name, tier)
		}
	})
}

func TestLimits(t *testing.T) {
	long := strings.Repeat("a", budget.TextBytesMax)
	if text, err := budget.Measure(long); err != nil || text.Length != len(long) {
		t.Errorf("%+v, %v", text, err)
	}
	if _, err := budget.Measure(long + "a"); !errors.Is(err, budget.ErrText) {
		t.Errorf("a byte more: %v", err)
	}
	nan, inf := math.NaN(), math.Inf(1)
	for name, r := range map[string]budget.Request{
		"task":           {Task: tasks},
		"length":         {Text: budget.Text{Length: -1}},
		"length max":     {Text: budget.Text{Length: budget.TextBytesMax + 1}},
		"entropy":        {Text: budget.Text{Entropy: 1.1}},
		"entropy NaN":    {Text: budget.Text{Entropy: nan}},
		"gap":            {HasKnowledgeGap: true, KnowledgeGap: -0.1},
		"gap NaN":        {HasKnowledgeGap: true, KnowledgeGap: nan},
		"attempts":       {Attempts: -1},
		"history":        {History: budget.History{Count: -1}},
		"history sum":    {History: budget.History{Count: 1, Sum: 1.5}},
		"history NaN":    {History: budget.History{Count: 1, Sum: nan}},
		"history of inf": {History: budget.History{Count: 1, Sum: inf}},
	} {
		if _, err := budget.Allocate(r); !errors.Is(err, budget.ErrRequest) {
			t.Errorf("%s: Allocate: %v", name, err)
		}
		if _, err := budget.Complexity(r); !errors.Is(err, budget.ErrRequest) {
			t.Errorf("%s: Complexity: %v", name, err)
		}
	}
	for _, snr := range []float64{-0.1, 1.1, nan, inf} {
		if h, err := (budget.History{Sum: 1, Count: 2}).Add(snr); !errors.Is(err, budget.ErrRequest) || h.Count != 2 {
			t.Errorf("Add(%v) = %+v, %v", snr, h, err)
		}
	}
}

func TestCharge(t *testing.T) {
	full := budget.Remaining{TimeMillis: 100, Tokens: 50, Iterations: 3, Depth: 2, Tracks: 1}
	for _, c := range []struct {
		name string
		use  budget.Use
		want budget.Remaining
		part string
	}{
		{"nothing", budget.Use{}, full, ""},
		{"some", budget.Use{TimeMillis: 40, Tokens: 20, Iterations: 1, Depth: 2, Tracks: 1}, budget.Remaining{TimeMillis: 60, Tokens: 30, Iterations: 2, Depth: 2, Tracks: 1}, ""},
		{"all", budget.Use{TimeMillis: 100, Tokens: 50, Iterations: 3}, budget.Remaining{Depth: 2, Tracks: 1}, ""},
		{"time", budget.Use{TimeMillis: 101}, full, "time_ms"},
		{"tokens", budget.Use{TimeMillis: 1, Tokens: 51}, full, "tokens"},
		{"iterations", budget.Use{Iterations: math.MaxInt64}, full, "iterations"},
		{"depth", budget.Use{Depth: 3}, full, "depth"},
		{"tracks", budget.Use{Tracks: 2}, full, "tracks"},
	} {
		got, err := full.Charge(c.use)
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		var exceeded *budget.Exceeded
		if errors.As(err, &exceeded) != (c.part != "") || exceeded != nil && (exceeded.Part != c.part || !errors.Is(err, budget.ErrExceeded)) {
			t.Errorf("%s: %v, want part %q", c.name, err, c.part)
		}
	}
	if got, err := full.Charge(budget.Use{Tokens: -1}); !errors.Is(err, budget.ErrUse) || got != full {
		t.Errorf("a use below 0: %+v, %v", got, err)
	}
}

func TestSpendingNeverGains(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, err := budget.Allocate(drawRequest(t))
		if err != nil {
			t.Fatal(err)
		}
		left := a.Remaining()
		part := rapid.Int64Range(0, 400)
		var spent int64
		for range 20 {
			before := left
			use := budget.Use{TimeMillis: part.Draw(t, "time"), Tokens: part.Draw(t, "tokens"), Iterations: part.Draw(t, "iterations") / 200}
			if left, err = left.Charge(use); err != nil {
				if left != before {
					t.Fatalf("refused %+v, and %+v became %+v", use, before, left)
				}
				continue
			}
			spent += use.Tokens
		}
		if left.Tokens+spent != a.Tokens || left.TimeMillis < 0 || left.Iterations < 0 {
			t.Fatalf("%d tokens spent of %+v leave %+v", spent, a, left)
		}
		other := budget.Remaining{TimeMillis: part.Draw(t, "other"), Tokens: part.Draw(t, "other"), Iterations: 1, Depth: 9, Tracks: 9}
		merged := budget.Merge(left, other, left)
		if merged != budget.Merge(other, left) || merged.Tokens != min(left.Tokens, other.Tokens) || merged.TimeMillis != min(left.TimeMillis, other.TimeMillis) {
			t.Fatalf("%+v and %+v merge to %+v", left, other, merged)
		}
	})
	if budget.Merge() != (budget.Remaining{}) {
		t.Error("nothing merges to something")
	}
}

// input is a text as tools get it.
func input() string {
	return strings.Repeat(`{"path":"src/main.go","pattern":"func [A-Z]","limit":100} `, 8)
}

func TestNoAllocation(t *testing.T) {
	text := input()
	if n := testing.AllocsPerRun(1000, func() {
		m, err := budget.Measure(text)
		if err != nil {
			t.Fatal(err)
		}
		a, err := budget.Allocate(budget.Request{Task: budget.Reason, Text: m})
		if err != nil {
			t.Fatal(err)
		}
		left, err := a.Remaining().Charge(budget.Use{TimeMillis: 10, Tokens: 10})
		if err != nil || left.Least(a.Remaining()) != left {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAllocate(b *testing.B) {
	r := budget.Request{Task: budget.Reason, Text: budget.Text{Length: 456, Entropy: 0.8}, Attempts: 1}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := budget.Allocate(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMeasure(b *testing.B) {
	for _, c := range []struct{ name, text string }{{"ASCII", input()}, {"Unicode", input() + "é"}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.text)))
			for b.Loop() {
				if _, err := budget.Measure(c.text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
