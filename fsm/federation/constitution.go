package federation

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/bizra/bizra/pci"
)

const (
	constitutionDomain  = "bizra-constitution-v1:"
	constitutionVersion = 1
)

// Constitution is the policy by which a region judges proofs. It is replicated
// state: a node never reads it from a configuration of its own.
type Constitution struct {
	IhsanMin                 float64 // in [0,1]
	SNRMin                   float64 // in [0,1]
	TimestampWindowMillis    int64   // how far a proof's timestamp may be from log time, either way
	NonceWindowMillis        int64   // how long a nonce is remembered, in log time
	RefusalsPerMinute        int64   // entries that refuse, per agent and minute of log time
	StateMismatchesPerMinute int64   // the same for STATE_MISMATCH, which honest agents run into
	OpenRegistration         bool    // an unknown agent is registered by its first accepted proof; for demonstrations
}

// DefaultConstitution has the values of the blueprint.
func DefaultConstitution() Constitution {
	return Constitution{IhsanMin: 0.95, SNRMin: 0.85, TimestampWindowMillis: 120_000, NonceWindowMillis: 300_000,
		RefusalsPerMinute: 60, StateMismatchesPerMinute: 6_000}
}

// Thresholds are the constitution's values for the stateless gates.
func (c *Constitution) Thresholds() pci.Thresholds {
	return pci.Thresholds{IhsanMin: c.IhsanMin, SNRMin: c.SNRMin,
		TimestampWindow: time.Duration(c.TimestampWindowMillis) * time.Millisecond, PolicyHash: c.PolicyHash()}
}

// PolicyHash names the constitution: the 64 hexadecimal digits of
// BLAKE3-256("bizra-constitution-v1:" ‖ canonical form). Every proof carries it.
func (c *Constitution) PolicyHash() string {
	d := sum(constitutionDomain, c.appendCanonical(nil))
	return hex.EncodeToString(d[:])
}

func (c *Constitution) appendCanonical(b []byte) []byte {
	b = append(b, `{"ihsan_min":`...)
	b = pci.AppendFloat(b, c.IhsanMin)
	b = append(b, `,"nonce_window_ms":`...)
	b = strconv.AppendInt(b, c.NonceWindowMillis, 10)
	b = append(b, `,"open_registration":`...)
	b = strconv.AppendBool(b, c.OpenRegistration)
	b = append(b, `,"refusals_per_minute":`...)
	b = strconv.AppendInt(b, c.RefusalsPerMinute, 10)
	b = append(b, `,"snr_min":`...)
	b = pci.AppendFloat(b, c.SNRMin)
	b = append(b, `,"state_mismatches_per_minute":`...)
	b = strconv.AppendInt(b, c.StateMismatchesPerMinute, 10)
	b = append(b, `,"timestamp_window_ms":`...)
	b = strconv.AppendInt(b, c.TimestampWindowMillis, 10)
	b = append(b, `,"version":1}`...)
	return b
}

func readConstitution(o *pci.Object) Constitution {
	if v := o.Int("version"); v != constitutionVersion {
		o.Fault("version %d of constitutions is not known to this program: it knows version %d; a newer bizra may read it", v, constitutionVersion)
	}
	c := Constitution{IhsanMin: o.Float("ihsan_min"), SNRMin: o.Float("snr_min"),
		TimestampWindowMillis: o.Int("timestamp_window_ms"), NonceWindowMillis: o.Int("nonce_window_ms"),
		RefusalsPerMinute: o.Int("refusals_per_minute"), StateMismatchesPerMinute: o.Int("state_mismatches_per_minute"),
		OpenRegistration: o.Bool("open_registration")}
	_ = o.Done()
	return c
}

// Check refuses values that make no sense, naming member and range. The nonce
// window must be longer than the time for which a timestamp can be valid, or else
// a forgotten nonce could be replayed.
func (c *Constitution) Check() error {
	within := func(name string, v, low, high int64) error {
		if v < low || v > high {
			return fmt.Errorf("constitution: %s is %d: it must be from %d to %d", name, v, low, high)
		}
		return nil
	}
	for name, v := range c.scores() {
		if !(v >= 0 && v <= 1) {
			return fmt.Errorf("constitution: %s is %v: it must be from 0 to 1", name, v)
		}
	}
	if err := within("timestamp_window_ms", c.TimestampWindowMillis, 1_000, 3_600_000); err != nil {
		return err
	}
	if err := within("nonce_window_ms", c.NonceWindowMillis, 2*c.TimestampWindowMillis+1, 24*3_600_000); err != nil {
		return err
	}
	if err := within("refusals_per_minute", c.RefusalsPerMinute, 1, 1_000_000); err != nil {
		return err
	}
	return within("state_mismatches_per_minute", c.StateMismatchesPerMinute, 1, 1_000_000)
}

func (c *Constitution) scores() func(yield func(string, float64) bool) {
	return func(yield func(string, float64) bool) {
		_ = yield("ihsan_min", c.IhsanMin) && yield("snr_min", c.SNRMin)
	}
}

// Canonical is the constitution's one form: canonical JSON as in package pci.
func (c *Constitution) Canonical() []byte { return c.appendCanonical(nil) }
