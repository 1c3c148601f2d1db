package pci

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func TestCheckTime(t *testing.T) {
	thresholds := DefaultThresholds("")
	const now = 1772452800000 // 2026-03-02T12:00:00Z
	for _, c := range []struct {
		stamp string
		now   int64
		want  Code
	}{
		{"2026-03-02T12:00:00Z", now, Success},
		{"2026-03-02T11:58:00Z", now, Success},
		{"2026-03-02T11:57:59.999999Z", now, RejectTimestampStale},
		{"2026-03-02T11:58:00Z", now + 1, RejectTimestampStale},
		{"2026-03-02T12:02:00Z", now, Success},
		{"2026-03-02T12:02:00.000001Z", now, RejectTimestampFuture},
		{"2026-03-02T12:02:00Z", now - 1, RejectTimestampFuture},
		{"0000-01-01T00:00:00Z", now, RejectTimestampStale},
		{"9999-12-31T23:59:59Z", now, RejectTimestampFuture},
		{"9999-12-31T23:59:59Z", math.MaxInt64, RejectTimestampStale},
		{"0000-01-01T00:00:00Z", math.MinInt64, RejectTimestampFuture},
		{"1970-01-01T00:00:00Z", 0, Success},
	} {
		micros, ok := parseTimestamp(c.stamp)
		if !ok {
			t.Fatal(c.stamp)
		}
		e := &Envelope{micros: micros}
		if err := e.CheckTime(c.now, thresholds); CodeOf(err) != c.want {
			t.Errorf("%s at %d: %v, want %v", c.stamp, c.now, err, c.want)
		}
	}
	e := &Envelope{micros: 5_000_001}
	if err := e.CheckTime(5000, Thresholds{TimestampWindow: time.Microsecond}); err != nil {
		t.Errorf("within a window of 1 µs: %v", err)
	}
	if err := e.CheckTime(5000, Thresholds{}); CodeOf(err) != RejectTimestampFuture {
		t.Errorf("without a window: %v", err)
	}
}

func TestCheckScores(t *testing.T) {
	thresholds := DefaultThresholds("")
	below := func(f float64) float64 { return math.Nextafter(f, 0) }
	for _, c := range []struct {
		ihsan, snr float64
		want       Code
	}{
		{0.95, 0.85, Success},
		{1, 1, Success},
		{below(0.95), 1, RejectIhsanBelowMin},
		{1, below(0.85), RejectSNRBelowMin},
		{0, 0, RejectIhsanBelowMin},
		{math.NaN(), 1, RejectIhsanBelowMin},
		{1, math.NaN(), RejectSNRBelowMin},
	} {
		e := &Envelope{Metadata: Metadata{IhsanScore: c.ihsan, SNRScore: c.snr}}
		if err := e.CheckScores(thresholds); CodeOf(err) != c.want {
			t.Errorf("ihsan %v, snr %v: %v, want %v", c.ihsan, c.snr, err, c.want)
		}
	}
}

func TestCheckPolicy(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	for _, c := range []struct {
		claimed, inForce string
		want             Code
	}{
		{digest, digest, Success},
		{digest[:63], digest, RejectPolicyMismatch},
		{digest + "a", digest, RejectPolicyMismatch},
		{strings.ToUpper(digest), digest, RejectPolicyMismatch},
		{"", digest, RejectPolicyMismatch},
		{"", "", RejectPolicyMismatch},
		{digest, "", RejectPolicyMismatch},
	} {
		e := &Envelope{Payload: Payload{PolicyHash: c.claimed}}
		if err := e.CheckPolicy(DefaultThresholds(c.inForce)); CodeOf(err) != c.want {
			t.Errorf("%q against %q: %v, want %v", c.claimed, c.inForce, err, c.want)
		}
	}
}

func TestCodes(t *testing.T) {
	numbers := map[Code]string{
		0: "SUCCESS", 1: "REJECT_SCHEMA", 2: "REJECT_SIGNATURE", 3: "REJECT_NONCE_REPLAY", 4: "REJECT_TIMESTAMP_STALE", 5: "REJECT_TIMESTAMP_FUTURE",
		6: "REJECT_IHSAN_BELOW_MIN", 7: "REJECT_SNR_BELOW_MIN", 8: "REJECT_BUDGET_EXCEEDED", 9: "REJECT_POLICY_MISMATCH", 10: "REJECT_STATE_MISMATCH",
		11: "REJECT_ROLE_VIOLATION", 12: "REJECT_QUORUM_FAILED", 13: "REJECT_FATE_VIOLATION", 14: "REJECT_INVARIANT_FAILED", 15: "REJECT_RATE_LIMITED",
		99: "REJECT_INTERNAL_ERROR", 100: "REJECT_ADL_GINI_EXCEEDED", 101: "REJECT_ADL_CONSERVATION", 102: "REJECT_ADL_NEGATIVE_HOLDING",
		103: "REJECT_ADL_INVALID_TX", 104: "REJECT_ADL_DUST_AMOUNT",
	}
	if len(Codes()) != len(numbers) {
		t.Errorf("%d codes, want %d", len(Codes()), len(numbers))
	}
	for c := range Code(300) {
		name, known := numbers[c]
		if !known {
			if !strings.HasPrefix(c.String(), "CODE_") || c.Sentence() == "" {
				t.Errorf("unknown code %d is %s: %s", c, c, c.Sentence())
			}
			continue
		}
		parsed, ok := ParseCode(name)
		if c.String() != name || !ok || parsed != c {
			t.Errorf("code %d is %s, want %s, which parses as %d", c, c, name, parsed)
		}
		if s := c.Sentence(); !strings.HasSuffix(s, ".") || len(s) < 20 {
			t.Errorf("code %d: sentence %q", c, s)
		}
	}
	for _, name := range []string{"", "SCHEMA", "reject_schema", "CODE_16", "REJECT_SCHEMA "} {
		if c, ok := ParseCode(name); ok {
			t.Errorf("%q parses as %v", name, c)
		}
	}
}

func TestHTTPStatus(t *testing.T) {
	special := map[Code]int{
		Success: 200, RejectSchema: 400, RejectSignature: 400, RejectTimestampStale: 400, RejectTimestampFuture: 400, RejectRoleViolation: 403,
		RejectStateMismatch: 409, RejectNonceReplay: 409, RejectRateLimited: 429, RejectInternalError: 500,
	}
	for _, c := range Codes() {
		want, ok := special[c]
		if !ok {
			want = 422
		}
		if c.HTTPStatus() != want {
			t.Errorf("%v: status %d, want %d", c, c.HTTPStatus(), want)
		}
	}
}

func TestReject(t *testing.T) {
	r := Rejectf(RejectSchema, "member %d", 7)
	if r.Error() != "REJECT_SCHEMA: member 7" || (&Reject{Code: RejectRateLimited}).Error() != "REJECT_RATE_LIMITED" {
		t.Errorf("%v", r)
	}
	if CodeOf(errors.Join(errors.New("deciding"), r)) != RejectSchema || CodeOf(errors.New("disk")) != RejectInternalError || CodeOf(nil) != Success {
		t.Error("wrong code of an error")
	}
	if s := quote(strings.Repeat("é\n", 100)); len(s) > 250 || strings.ContainsAny(s, "\né") {
		t.Errorf("quoted as %s", s)
	}
}
