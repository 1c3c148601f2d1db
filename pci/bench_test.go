package pci

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// typicalDraft makes an envelope of about 1 KiB, the size of a session.transition.
func typicalDraft(tb testing.TB) Draft {
	tb.Helper()
	data, err := FromGo(map[string]any{
		"session": "0190b5a2-7c4e-7d1b-9a57-3f2f6c1f0a11", "to": "computing", "type": "standard",
		"operation": "summarize_report", "operation_type": "summarize", "intent": "summarize the report",
		"input": map[string]any{"path": "reports/2026-03.md", "pages": 14},
		"meta":  map[string]any{"description": "monthly summary für alle"},
		"task":  "summarize", "observation": 0.97,
		"use": map[string]any{"tokens": 812, "time_ms": 1450},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return Draft{
		EnvelopeID: "0fe85c04-0000-4000-8000-ac5cda9b9ff0",
		Timestamp:  time.Date(2026, 3, 2, 12, 0, 0, 123456000, time.UTC),
		Nonce:      [32]byte{1, 2, 3},
		AgentType:  AgentPAT, AgentID: "agent-0", Action: "session.transition", Data: data,
		PolicyHash: strings.Repeat("ab", 32), StateHash: strings.Repeat("cd", 32),
		IhsanScore: 0.97, SNRScore: 0.9, Urgency: UrgencyRealTime,
	}
}

func sign(tb testing.TB, d Draft, key *PrivateKey) *Envelope {
	tb.Helper()
	e, err := Sign(d, key)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// spaced is the envelope as other JSON writers send it: indented, members unsorted.
func spaced(tb testing.TB, e *Envelope) []byte {
	tb.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(e.Canonical(), &members); err != nil {
		tb.Fatal(err)
	}
	var out bytes.Buffer
	out.WriteString("{ ")
	for _, name := range []string{"version", "envelope_id", "timestamp", "nonce", "sender", "payload", "metadata", "signature"} {
		if name != "version" {
			out.WriteString(", ")
		}
		out.WriteString(`"` + name + `": `)
		if err := json.Indent(&out, members[name], "", " "); err != nil {
			tb.Fatal(err)
		}
	}
	out.WriteString(" }\n")
	return out.Bytes()
}

func BenchmarkDecode(b *testing.B) {
	wire := spaced(b, sign(b, typicalDraft(b), NewKeyFromSeed([32]byte{1})))
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(wire); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeCanonical(b *testing.B) {
	wire := sign(b, typicalDraft(b), NewKeyFromSeed([32]byte{1})).Canonical()
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeCanonical(wire); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyOne(b *testing.B) {
	e := sign(b, typicalDraft(b), NewKeyFromSeed([32]byte{1}))
	b.ReportAllocs()
	for b.Loop() {
		if err := e.Verify(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyBatch64(b *testing.B) {
	envs := make([]*Envelope, 64)
	for i := range envs {
		d := typicalDraft(b)
		d.Nonce[5] = byte(i)
		envs[i] = sign(b, d, NewKeyFromSeed([32]byte{byte(i)}))
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range VerifyBatch(envs) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(envs)), "ns/signature")
}

func BenchmarkSign(b *testing.B) {
	d, key := typicalDraft(b), NewKeyFromSeed([32]byte{1})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Sign(d, key); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	data := typicalDraft(b).Data
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := data.Get("use"); !ok {
			b.Fatal("no such member")
		}
	}
}
