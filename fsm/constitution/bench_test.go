package constitution_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/pci"
)

// BenchmarkDefaultRules is what all default rules together cost a transition: one that
// is as most are, and all benign ones of the corpus, with the median of their costs.
func BenchmarkDefaultRules(b *testing.B) {
	p := defaultPolicy(b)
	cases, err := constitution.ReadCases(os.DirFS("testdata/corpus"))
	if err != nil {
		b.Fatal(err)
	}
	var benign []constitution.Input
	for _, c := range cases {
		if c.Expect == constitution.ExpectPass {
			benign = append(benign, c.Input)
		}
	}
	b.Run("typical", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p.Evaluate(benign[3]) // a test run, by its command line
		}
	})
	b.Run("corpus", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			p.Evaluate(benign[i%len(benign)])
		}
	})
	b.Run("median", func(b *testing.B) {
		costs := make([]float64, 0, len(benign))
		for b.Loop() {
			costs = costs[:0]
			for _, in := range benign {
				const times = 50
				start := time.Now()
				for range times {
					p.Evaluate(in)
				}
				costs = append(costs, float64(time.Since(start).Nanoseconds())/times)
			}
		}
		slices.Sort(costs)
		b.ReportMetric(costs[len(costs)/2], "ns/median-case")
		b.ReportMetric(costs[len(costs)*9/10], "ns/p90-case")
		b.ReportMetric(costs[len(costs)-1], "ns/worst-case")
		b.ReportMetric(0, "ns/op")
	})
}

// BenchmarkHostileInput is what a signed proof can cost that was made to cost much.
func BenchmarkHostileInput(b *testing.B) {
	p := defaultPolicy(b)
	words := "curl https://x.example @ -d rm -r find exec password= token ssn visa eyJ -----BEGIN PRIVATE KEY .ssh .env cat /etc/ drop table from where push --force docker chmod crontab base64 python eval( socket requests.post( open( passport dob "
	for name, data := range map[string]map[string]any{
		"content":   {"input": map[string]any{"file_path": "/a/b", "content": strings.Repeat(words, 190)}},
		"command":   {"input": map[string]any{"command": strings.Repeat(words, 65)}},
		"code":      {"input": map[string]any{"code": strings.Repeat(words, 190)}},
		"nested":    {"input": map[string]any{"command": strings.Repeat("`a`", 5000)}},
		"pipes":     {"input": map[string]any{"command": strings.Repeat("echo a|sh|", 1600)}},
		"printf":    {"input": map[string]any{"command": "printf %s " + strings.Repeat("a ", 7000) + "|sh"}},
		"quotes":    {"input": map[string]any{"code": "exec" + strings.Repeat("'a',", 11000)}},
		"tokens":    {"input": map[string]any{"content": strings.Repeat("AKIA", 11500)}},
		"encodings": {"input": map[string]any{"content": strings.Repeat("YWFhYWFhYWFh", 3800)}},
	} {
		v, err := pci.FromGo(data)
		if err != nil {
			b.Fatalf("%s: %v", name, err)
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				p.Evaluate(constitution.Input{Action: "session.transition", Data: v})
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		defaultPolicy(b)
	}
}
