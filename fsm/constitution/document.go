package constitution

import (
	_ "embed"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/zeebo/blake3"

	"github.com/bizra/bizra/pci"
)

// Version is the version of the document's format.
const Version = 2

// Limits of a document.
const (
	DocumentBytesMax   = 256 << 10 // as received, and in canonical form
	RulesMax           = 64
	TermsMax           = 16
	ExpressionBytesMax = 4 << 10
	MessageBytesMax    = 512
	NameBytesMax       = 64
	// TimestampWindowMillisMax bounds timestamp_window_ms.
	TimestampWindowMillisMax = 3_600_000
	depthMax                 = 8 // mappings and sequences within each other
	weightMax                = 100
	countMax                 = 1_000_000 // of anything per minute
)

const digestDomain = "bizra-constitution-v1:"

// Dimension is the score that a rule sets to 0.
type Dimension string

// The dimensions, in the order in which the weakest is sought.
const (
	Fidelity       Dimension = "fidelity"
	Accountability Dimension = "accountability"
	Transparency   Dimension = "transparency"
	Ethics         Dimension = "ethics"
)

// How the four scores are combined.
const (
	Product   = "product"   // of the scores; it has no weights
	Geometric = "geometric" // the weighted geometric mean
)

// Constitution is a document of format version 2. The zero value is no valid one; see
// [Default]. It is replicated state: a node never reads it from a configuration of its own.
type Constitution struct {
	Thresholds Thresholds
	Limits     Limits
	Breaker    Breaker
	Composite  Composite
	Terms      []Term // in the order in which they may use each other
	Rules      []Rule // in the order in which they are asked
}

// Thresholds are what a proof has to reach.
type Thresholds struct {
	IhsanMin, SNRMin, FateMin float64 // in [0,1]
	TimestampWindowMillis     int64   // how far a proof's timestamp may be from log time, either way
	NonceWindowMillis         int64   // how long a nonce is remembered, in log time
	MeasuredSNRMargin         float64 // in [0,1]: how far a claimed SNR may be above the measured one
	MeasuredAfter             int64   // outcomes of an agent from which on the measured SNR counts
}

// Limits are how much of something an agent may do.
type Limits struct {
	RefusalsPerMinute        int64 // entries that refuse, per agent and minute of log time
	StateMismatchesPerMinute int64 // the same for STATE_MISMATCH, which honest agents run into
	OpenRegistration         bool  // an unknown agent is registered by its first accepted proof
}

// Breaker says when an agent that keeps failing is slowed down, muted and tried again. A
// reputation is in [0,1]: the belief of the agent's NTU over its outcomes times its measured SNR.
type Breaker struct {
	After              int64   // outcomes of an agent from which on it is judged
	ThrottleBelow      float64 // reputation below which a clear agent is throttled
	MuteBelow          float64 // reputation below which a throttled agent is muted; at most ThrottleBelow
	RestoreAbove       float64 // reputation from which on it is clear again; above ThrottleBelow
	ThrottledPerMinute int64   // entries of a throttled agent, or one on probation, per minute of log time
	MuteAfter          int64   // outcomes of a throttled agent before it can be muted
	MuteMillis         int64   // how long the first mute lasts, in log time; each one that follows twice as long
	MuteMillisMax      int64   // at most
	ProbationFailures  int64   // failures on probation that mute again
}

// Composite says how the four scores become one.
type Composite struct {
	Rule    string // Product or Geometric
	Weights Weights
}

// Weights of the scores, each from 0 to 100 and not all 0.
type Weights struct{ Fidelity, Accountability, Transparency, Ethics float64 }

// Term is a text that rules ask by its name: computed at most once for a proof.
type Term struct {
	Name  string
	Value string // a CEL expression for a string
}

// Rule denies a proof for which its expression holds or fails.
type Rule struct {
	Name      string
	Dimension Dimension
	Deny      string // a CEL expression for a boolean
	Message   string // for the person whose proof is denied: what is wrong and what to do
}

// Default is the constitution of the blueprint, with the default deny rules.
func Default() (*Constitution, error) { return Parse(DefaultText()) }

// DefaultText is the YAML of [Default], with its comments; a start for one's own.
func DefaultText() []byte { return []byte(defaultText) }

//go:embed default.yaml
var defaultText string

func withDefaults() Constitution {
	return Constitution{
		Thresholds: Thresholds{IhsanMin: 0.95, SNRMin: 0.85, FateMin: 0.95, TimestampWindowMillis: 120_000,
			NonceWindowMillis: 300_000, MeasuredSNRMargin: 0.10, MeasuredAfter: 20},
		Limits: Limits{RefusalsPerMinute: 60, StateMismatchesPerMinute: 6_000},
		Breaker: Breaker{After: 12, ThrottleBelow: 0.2, MuteBelow: 0.17, RestoreAbove: 0.5, ThrottledPerMinute: 6, MuteAfter: 6,
			MuteMillis: 300_000, MuteMillisMax: 3_600_000, ProbationFailures: 2},
		Composite: Composite{Rule: Product, Weights: Weights{1, 1, 1, 1}},
	}
}

// PCI are the values for the stateless gates.
func (c *Constitution) PCI() pci.Thresholds {
	return pci.Thresholds{IhsanMin: c.Thresholds.IhsanMin, SNRMin: c.Thresholds.SNRMin,
		TimestampWindow: time.Duration(c.Thresholds.TimestampWindowMillis) * time.Millisecond, PolicyHash: c.PolicyHash()}
}

// PolicyHash names the constitution: the 64 hexadecimal digits of
// BLAKE3-256("bizra-constitution-v1:" ‖ canonical form). Every proof carries it.
func (c *Constitution) PolicyHash() string {
	d := c.Digest()
	return hex.EncodeToString(d[:])
}

// Digest is the policy hash as bytes.
func (c *Constitution) Digest() [32]byte {
	return blake3.Sum256(append([]byte(digestDomain), c.Canonical()...))
}

// Canonical is the document's one form: canonical JSON as in package pci, with every
// member, those that have their default included.
func (c *Constitution) Canonical() []byte {
	b := make([]byte, 0, 4<<10)
	b = appendInt(b, `{"breaker":{"after":`, c.Breaker.After)
	b = appendInt(b, `,"mute_after":`, c.Breaker.MuteAfter)
	b = appendFloat(b, `,"mute_below":`, c.Breaker.MuteBelow)
	b = appendInt(b, `,"mute_ms":`, c.Breaker.MuteMillis)
	b = appendInt(b, `,"mute_ms_max":`, c.Breaker.MuteMillisMax)
	b = appendInt(b, `,"probation_failures":`, c.Breaker.ProbationFailures)
	b = appendFloat(b, `,"restore_above":`, c.Breaker.RestoreAbove)
	b = appendFloat(b, `,"throttle_below":`, c.Breaker.ThrottleBelow)
	b = appendInt(b, `,"throttled_per_minute":`, c.Breaker.ThrottledPerMinute)
	b = append(b, `},"composite":{"rule":`...)
	b = pci.AppendString(b, c.Composite.Rule)
	w := c.Composite.Weights
	b = appendFloat(b, `,"weights":{"accountability":`, w.Accountability)
	b = appendFloat(b, `,"ethics":`, w.Ethics)
	b = appendFloat(b, `,"fidelity":`, w.Fidelity)
	b = appendFloat(b, `,"transparency":`, w.Transparency)
	b = append(b, `}},"limits":{"open_registration":`...)
	b = strconv.AppendBool(b, c.Limits.OpenRegistration)
	b = appendInt(b, `,"refusals_per_minute":`, c.Limits.RefusalsPerMinute)
	b = appendInt(b, `,"state_mismatches_per_minute":`, c.Limits.StateMismatchesPerMinute)
	b = append(b, `},"rules":[`...)
	for i, r := range c.Rules {
		b = appendComma(b, i)
		b = appendText(b, `{"deny":`, r.Deny)
		b = appendText(b, `,"dimension":`, string(r.Dimension))
		b = appendText(b, `,"message":`, r.Message)
		b = appendText(b, `,"name":`, r.Name)
		b = append(b, '}')
	}
	b = append(b, `],"terms":[`...)
	for i, t := range c.Terms {
		b = appendComma(b, i)
		b = appendText(b, `{"name":`, t.Name)
		b = appendText(b, `,"value":`, t.Value)
		b = append(b, '}')
	}
	t := c.Thresholds
	b = appendFloat(b, `],"thresholds":{"fate_min":`, t.FateMin)
	b = appendFloat(b, `,"ihsan_min":`, t.IhsanMin)
	b = appendInt(b, `,"measured_after":`, t.MeasuredAfter)
	b = appendFloat(b, `,"measured_snr_margin":`, t.MeasuredSNRMargin)
	b = appendInt(b, `,"nonce_window_ms":`, t.NonceWindowMillis)
	b = appendFloat(b, `,"snr_min":`, t.SNRMin)
	b = appendInt(b, `,"timestamp_window_ms":`, t.TimestampWindowMillis)
	return append(b, fmt.Sprintf(`},"version":%d}`, Version)...)
}

func appendComma(b []byte, i int) []byte {
	if i > 0 {
		b = append(b, ',')
	}
	return b
}

func appendText(b []byte, member, s string) []byte { return pci.AppendString(append(b, member...), s) }

func appendFloat(b []byte, member string, f float64) []byte {
	return pci.AppendFloat(append(b, member...), f)
}

func appendInt(b []byte, member string, n int64) []byte {
	return strconv.AppendInt(append(b, member...), n, 10)
}
