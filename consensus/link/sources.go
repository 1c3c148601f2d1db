package link

import (
	"context"
	"fmt"
	"time"
)

// Limits of what is on its way through one node.
const (
	inFlightProofsMax    = 32 << 10
	inFlightBytesMax     = 128 << 20
	sourceShare          = 4 // a source may hold this part of the two
	sourcesMax           = 4096
	badSignaturesBurst   = 256 // that one client may send at once
	badSignaturesPerSec  = 32  // and in the long run
	overloadedRetryAfter = time.Second
)

// sourceKey is the context key of a source's name.
type sourceKey struct{}

// WithSource names whom the proofs of a submission come from, such as the address of
// an HTTP client. Sources take turns at being verified, and a named one that sends bad
// signatures is turned away for a while. Submissions without a name are one source.
func WithSource(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, sourceKey{}, sourceName{name, true})
}

// sourceName tells one source from another.
type sourceName struct {
	name string
	// client says that it is the author of what it sends. A peer that forwards is not:
	// turning it away would punish everybody behind it.
	client bool
}

func sourceOf(ctx context.Context) sourceName {
	if s, ok := ctx.Value(sourceKey{}).(sourceName); ok {
		return s
	}
	return sourceName{}
}

// source is one sender of proofs. Its fields are guarded by verifier.mu.
type source struct {
	name    sourceName
	proofs  int     // on their way
	bytes   int     // of them
	debt    float64 // bad signatures not yet forgiven
	debtAt  time.Time
	waiting []task  // to be verified, first come first
	virtual float64 // cost so far, on the clock of [verifier.virtual]
	place   int     // in verifier.ready; -1 if not there
}

// owes brings the debt up to date.
func (s *source) owes(now time.Time) float64 {
	if s.debt > 0 {
		s.debt = max(0, s.debt-now.Sub(s.debtAt).Seconds()*badSignaturesPerSec)
		s.debtAt = now
	}
	return s.debt
}

// find gives the source of a name, under mu. Where the table is full, newcomers share
// the source without a name.
func (v *verifier) find(name sourceName, now time.Time) *source {
	if s, ok := v.sources[name]; ok {
		return s
	}
	if len(v.sources) >= sourcesMax && !v.sweep(now) {
		name = sourceName{}
		if s, ok := v.sources[name]; ok {
			return s
		}
	}
	s := &source{name: name, place: -1}
	v.sources[name] = s
	return s
}

// sweep forgets the sources that hold and owe nothing; it says whether there were any.
// It looks at most once a second, since a full table may stay full.
func (v *verifier) sweep(now time.Time) bool {
	if now.Sub(v.sweptAt) < time.Second {
		return false
	}
	v.sweptAt = now
	before := len(v.sources)
	for _, s := range v.sources {
		v.forget(s, now)
	}
	return len(v.sources) < before
}

func (v *verifier) forget(s *source, now time.Time) {
	if s.proofs == 0 && s.owes(now) == 0 {
		delete(v.sources, s.name)
	}
}

// admit takes a place for a submission until release is called, or says that there is
// none. close waits for the release.
func (v *verifier) admit(name sourceName, raw [][]byte) (s *source, release func(), err error) {
	size := sizeOf(raw)
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, ErrClosed)
	}
	s = v.find(name, now)
	if debt := s.owes(now); s.name.client && debt > badSignaturesBurst {
		v.turnedAway++
		return nil, nil, &OverloadedError{Reason: "too many of your proofs had a bad signature",
			RetryAfter: time.Duration((debt - badSignaturesBurst) / badSignaturesPerSec * float64(time.Second))}
	}
	if s.proofs+len(raw) > inFlightProofsMax/sourceShare || s.bytes+size > inFlightBytesMax/sourceShare ||
		v.proofs+len(raw) > inFlightProofsMax || v.bytes+size > inFlightBytesMax {
		v.turnedAway++
		v.forget(s, now)
		return nil, nil, &OverloadedError{Reason: "too many proofs are on their way through this node", RetryAfter: overloadedRetryAfter}
	}
	v.proofs, v.bytes = v.proofs+len(raw), v.bytes+size
	s.proofs, s.bytes = s.proofs+len(raw), s.bytes+size
	v.wg.Add(1)
	return s, func() {
		defer v.wg.Done()
		v.mu.Lock()
		defer v.mu.Unlock()
		v.proofs, v.bytes = v.proofs-len(raw), v.bytes-size
		s.proofs, s.bytes = s.proofs-len(raw), s.bytes-size
		v.forget(s, time.Now())
	}, nil
}

func sizeOf(raw [][]byte) int {
	n := 0
	for _, b := range raw {
		n += len(b)
	}
	return n
}

// charge notes bad signatures that another node has found.
func (v *verifier) charge(s *source, bad int) {
	if bad == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	s.charge(bad, time.Now())
}

func (s *source) charge(bad int, now time.Time) {
	s.debt = s.owes(now) + float64(bad)
	s.debtAt = now
}
