package budget_test

import (
	"math"
	"testing"

	"github.com/bizra/bizra/fsm/budget"
	"github.com/bizra/bizra/internal/vectors"
)

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9 }

func TestVectorsBudget(t *testing.T) {
	var file struct {
		Cases []struct {
			Task    string
			TextLen int `json:"text_len"`
			Text    *string
			Entropy float64
			Context struct {
				KnowledgeGap *float64  `json:"knowledge_gap"`
				RetryCount   int64     `json:"retry_count"`
				SNRHistory   []float64 `json:"snr_history"`
			}
			Complexity float64
			Allocation struct {
				Tier             string
				TimeSeconds      float64 `json:"time_budget_s"`
				Tokens           int64   `json:"token_budget"`
				Depth            int64
				Tracks           int64   `json:"parallel_tracks"`
				Iterations       int64   `json:"max_iterations"`
				Confidence       float64 `json:"confidence_threshold"`
				ExtendedThinking bool    `json:"extended_thinking"`
				NTUWindow        int     `json:"ntu_window_size"`
			}
		}
	}
	vectors.Load(t, "budget.json", &file)
	measured := 0
	for i, c := range file.Cases {
		task, ok := budget.ParseTask(c.Task)
		if !ok {
			t.Fatalf("case %d: no task %q", i, c.Task)
		}
		text := budget.Text{Length: c.TextLen, Entropy: math.Abs(c.Entropy)} // some are −0
		if c.Text != nil {
			measured++
			got, err := budget.Measure(*c.Text)
			if err != nil || got.Length != text.Length || !near(got.Entropy, text.Entropy) {
				t.Errorf("case %d: text measures as %+v (%v), want %+v", i, got, err, text)
			}
			text = got
		}
		r := budget.Request{Task: task, Text: text, Attempts: c.Context.RetryCount}
		if gap := c.Context.KnowledgeGap; gap != nil {
			r.KnowledgeGap, r.HasKnowledgeGap = *gap, true
		}
		for _, snr := range c.Context.SNRHistory {
			var err error
			if r.History, err = r.History.Add(snr); err != nil {
				t.Fatalf("case %d: %v", i, err)
			}
		}
		got, err := budget.Allocate(r)
		if err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
		want := budget.Allocation{
			Task: task, Tier: got.Tier, Complexity: got.Complexity, TimeSeconds: got.TimeSeconds,
			TimeMillis: int64(c.Allocation.TimeSeconds*1000 + 1e-6), Tokens: c.Allocation.Tokens,
			Depth: c.Allocation.Depth, Tracks: c.Allocation.Tracks, Iterations: c.Allocation.Iterations,
			Confidence: c.Allocation.Confidence, ExtendedThinking: c.Allocation.ExtendedThinking, NTUWindow: c.Allocation.NTUWindow,
		}
		if got != want || got.Tier.String() != c.Allocation.Tier || !near(got.Complexity, c.Complexity) || !near(got.TimeSeconds, c.Allocation.TimeSeconds) {
			t.Errorf("case %d: %+v, want complexity %v and %+v", i, got, c.Complexity, c.Allocation)
		}
	}
	if len(file.Cases) != 80 || measured < 40 {
		t.Errorf("%d cases, of which %d with a text", len(file.Cases), measured)
	}
}
