package pci

import (
	"crypto/subtle"
	"math"
	"time"
)

// Thresholds are what the gates compare an envelope with; they come from the
// constitution in force.
type Thresholds struct {
	IhsanMin        float64       // least ihsan_score that passes
	SNRMin          float64       // least snr_score that passes
	TimestampWindow time.Duration // greatest distance of the timestamp from log time that passes
	PolicyHash      string        // digest of the constitution in force
}

// DefaultThresholds returns the blueprint's thresholds for a policy digest.
func DefaultThresholds(policyHash string) Thresholds {
	return Thresholds{IhsanMin: 0.95, SNRMin: 0.85, TimestampWindow: 120 * time.Second, PolicyHash: policyHash}
}

// CheckTime is the gate TIMESTAMP: the timestamp may be at most the window away
// from now, in milliseconds since 1970, in either direction. An error is a
// [*Reject] with [RejectTimestampStale] or [RejectTimestampFuture].
func (e *Envelope) CheckTime(nowMillis int64, t Thresholds) error {
	// Timestamps span the years 0 to 9999, so a now held to where its microseconds
	// fit 62 bits cannot overflow a difference, and stays beyond any of them.
	const microsMax = math.MaxInt64 / 2
	now := max(min(nowMillis, microsMax/1000), -microsMax/1000) * 1000
	window := t.TimestampWindow.Microseconds()
	switch age := now - e.micros; {
	case age > window:
		return Rejectf(RejectTimestampStale, "timestamp is %v before log time, at most %v is allowed", micros(age), t.TimestampWindow)
	case age < -window:
		return Rejectf(RejectTimestampFuture, "timestamp is %v after log time, at most %v is allowed", micros(-age), t.TimestampWindow)
	}
	return nil
}

// micros is a duration for a message; beyond 292 years it stays at that.
func micros(n int64) time.Duration {
	return time.Duration(min(n, math.MaxInt64/1000)) * time.Microsecond
}

// CheckScores is the gates IHSAN and SNR, in this order. An error is a [*Reject]
// with [RejectIhsanBelowMin] or [RejectSNRBelowMin].
func (e *Envelope) CheckScores(t Thresholds) error {
	// Written so that a NaN on either side refuses.
	if !(e.Metadata.IhsanScore >= t.IhsanMin) {
		return Rejectf(RejectIhsanBelowMin, "metadata.ihsan_score is %v, at least %v is wanted", e.Metadata.IhsanScore, t.IhsanMin)
	}
	if !(e.Metadata.SNRScore >= t.SNRMin) {
		return Rejectf(RejectSNRBelowMin, "metadata.snr_score is %v, at least %v is wanted", e.Metadata.SNRScore, t.SNRMin)
	}
	return nil
}

// CheckPolicy is the gate POLICY: policy_hash equals the digest of the constitution,
// compared in constant time. An empty one is refused, even against an empty digest.
// An error is a [*Reject] with [RejectPolicyMismatch].
func (e *Envelope) CheckPolicy(t Thresholds) error {
	if e.Payload.PolicyHash == "" {
		return Rejectf(RejectPolicyMismatch, "payload.policy_hash is empty, it must be the digest of the constitution")
	}
	if subtle.ConstantTimeCompare([]byte(e.Payload.PolicyHash), []byte(t.PolicyHash)) != 1 {
		return Rejectf(RejectPolicyMismatch, "payload.policy_hash is not the digest of the constitution in force, which is %s", t.PolicyHash)
	}
	return nil
}
