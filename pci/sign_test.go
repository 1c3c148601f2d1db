package pci

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSignFillsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := typicalDraft(t)
		d.EnvelopeID, d.Nonce, d.Timestamp, d.Urgency = "", [32]byte{}, time.Time{}, ""
		key := NewKeyFromSeed([32]byte{1})
		a, b := sign(t, d, key), sign(t, d, key)
		if a.EnvelopeID == b.EnvelopeID || a.Nonce == b.Nonce || a.Nonce == ([32]byte{}) {
			t.Error("two envelopes share an id or a nonce")
		}
		if now := time.Now().UnixMicro(); a.TimestampMicros() != now {
			t.Errorf("timestamp %s, now %d", a.Timestamp, now)
		}
		if a.Metadata.Urgency != UrgencyRealTime {
			t.Errorf("urgency %s", a.Metadata.Urgency)
		}
		if err := a.Verify(); err != nil {
			t.Error(err)
		}
	})
}

func TestSignTimestamp(t *testing.T) {
	for _, c := range []struct {
		at   time.Time
		want string
	}{
		{time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC), "2026-03-02T12:00:00Z"},
		{time.Date(2026, 3, 2, 12, 0, 0, 500_000_000, time.UTC), "2026-03-02T12:00:00.5Z"},
		{time.Date(2026, 3, 2, 12, 0, 0, 123_456_999, time.UTC), "2026-03-02T12:00:00.123456Z"},
		{time.Date(2026, 3, 2, 12, 0, 0, 999, time.FixedZone("east", 3600)), "2026-03-02T11:00:00Z"},
	} {
		d := typicalDraft(t)
		d.Timestamp = c.at
		e := sign(t, d, NewKeyFromSeed([32]byte{1}))
		if e.Timestamp != c.want || e.TimestampMicros() != c.at.UnixMicro() {
			t.Errorf("%v: %s, want %s", c.at, e.Timestamp, c.want)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	big, err := FromGo(map[string]any{"x": strings.Repeat("x", EnvelopeBytesMax-100)})
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Draft){
		"no data":        func(d *Draft) { d.Data = Value{} },
		"data no object": func(d *Draft) { d.Data = parse(t, `[]`) },
		"data too long":  func(d *Draft) { d.Data = big },
		"no agent type":  func(d *Draft) { d.AgentType = "" },
		"agent id":       func(d *Draft) { d.AgentID = "a:b" },
		"bad UTF-8":      func(d *Draft) { d.AgentID = "a\xff" },
		"score above 1":  func(d *Draft) { d.IhsanScore = 1.1 },
		"score NaN":      func(d *Draft) { d.SNRScore = math.NaN() },
		"score infinite": func(d *Draft) { d.SNRScore = math.Inf(1) },
		"urgency":        func(d *Draft) { d.Urgency = "SOON" },
		"state hash":     func(d *Draft) { d.StateHash = "head" },
		"policy hash":    func(d *Draft) { d.PolicyHash = strings.Repeat("x", PolicyHashBytesMax+1) },
		"envelope id":    func(d *Draft) { d.EnvelopeID = "1" },
		"year 10000":     func(d *Draft) { d.Timestamp = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		d := typicalDraft(t)
		spoil(&d)
		if e, err := Sign(d, NewKeyFromSeed([32]byte{1})); CodeOf(err) != RejectSchema || e != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
