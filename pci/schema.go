package pci

import (
	"encoding/hex"
	"strings"
	"time"
	"unicode"
)

// Values that the schema fixes.
const (
	Version            = "1.0.0"
	SignatureAlgorithm = "ed25519"

	AgentPAT        = "PAT"
	AgentSAT        = "SAT"
	UrgencyRealTime = "REAL_TIME"
	UrgencyBatch    = "BATCH"
)

// Limits of single members, in bytes of UTF-8 after unescaping.
const (
	AgentIDBytesMax    = 256
	PolicyHashBytesMax = 128
)

// signedFields is the only value that signature.signed_fields may have.
const signedFields = `["version","envelope_id","timestamp","nonce","sender","payload","metadata"]`

// reader takes the members of one object in the order of the canonical form, which
// lets it tell a missing member from an unknown one without a table. The first
// fault sticks.
type reader struct {
	c    cursor
	path string // of the object, with a final point unless it is the envelope
	have bool   // the cursor stands on a member that nobody has taken
	from int    // the member taken last is text[from:to], name and value
	to   int
	err  error
}

func newReader(v Value, path string) reader {
	r := reader{c: v.cursor(), path: path}
	r.have = r.c.next()
	return r
}

func (r *reader) fault(format string, args ...any) {
	if r.err == nil {
		r.err = Rejectf(RejectSchema, format, args...)
	}
}

// take returns the next member, which must have this name; ok is false if it is
// missing or there was a fault before.
func (r *reader) take(name string) (v Value, ok bool) {
	if r.err != nil || !r.have || r.c.name > name {
		return Value{}, false
	}
	if r.c.name < name {
		r.fault("%s%s is no member of an envelope", r.path, shortened(unescape(r.c.name)))
		return Value{}, false
	}
	v = r.c.value()
	r.from, r.to = r.c.start, r.c.to
	r.have = r.c.next()
	return v, true
}

// want is take for a member that may not be missing and must be of one kind.
func (r *reader) want(name string, kind Kind) Value {
	v, ok := r.take(name)
	switch {
	case r.err != nil:
	case !ok:
		r.fault("%s%s is missing", r.path, name)
	case v.Kind() != kind:
		r.fault("%s%s must be %v, not %v", r.path, name, kind, v.Kind())
	}
	return v
}

func (r *reader) text(name string) string { return r.want(name, StringKind).String() }

// done refuses what is left and returns the first fault.
func (r *reader) done() error {
	if r.err == nil && r.have {
		r.fault("%s%s is no member of an envelope", r.path, shortened(unescape(r.c.name)))
	}
	return r.err
}

// oneOf reads a string that must equal a or b, and returns a constant.
func (r *reader) oneOf(name, a, b string) string {
	switch s := r.text(name); {
	case s == a:
		return a
	case s == b:
		return b
	case r.err == nil && a == b:
		r.fault("%s%s must be %q, not %s", r.path, name, a, quote(s))
	case r.err == nil:
		r.fault("%s%s must be %s or %s, not %s", r.path, name, a, b, quote(s))
	}
	return ""
}

// hex32 reads 64 lower-case hex digits.
func (r *reader) hex32(name string) (b [32]byte) {
	if s := r.text(name); r.err == nil && !decodeHex(b[:], s) {
		r.fault("%s%s must be 64 lower-case hex digits, not %s", r.path, name, quote(s))
	}
	return b
}

// score reads a number in [0,1] and keeps its token.
func (r *reader) score(name string) (f float64, token string) {
	v := r.want(name, NumberKind)
	f, ok := v.Float64()
	if r.err == nil && (!ok || f < 0 || f > 1) {
		r.fault("%s%s must be in [0,1], not %s", r.path, name, shortened(v.NumberText()))
	}
	return f, v.NumberText()
}

// newEnvelope checks canonical text against the schema.
func newEnvelope(canonical []byte, kind Kind) (*Envelope, error) {
	if kind != ObjectKind {
		return nil, Rejectf(RejectSchema, "an envelope must be an object, not %v", kind)
	}
	e := &Envelope{canonical: canonical}
	text := string(canonical)
	r := newReader(Value{kind: ObjectKind, text: text}, "")
	e.EnvelopeID = r.text("envelope_id")
	if r.err == nil && !isUUID(e.EnvelopeID) {
		r.fault("envelope_id must be a UUID in its form of 36 characters, not %s", quote(e.EnvelopeID))
	}
	e.metadata(&r)
	e.Nonce = r.hex32("nonce")
	e.payload(&r)
	e.sender(&r)
	before, after := len(text), len(text)
	if v, ok := r.take("signature"); ok {
		// sender comes before it, so there is a comma to take out too.
		before, after = r.from-1, r.to
		e.signature(&r, v)
	}
	e.Timestamp = r.text("timestamp")
	e.Version = r.oneOf("version", Version, Version)
	if err := r.done(); err != nil {
		return nil, err
	}
	micros, ok := parseTimestamp(e.Timestamp)
	if !ok {
		return nil, Rejectf(RejectSchema, "timestamp must be RFC 3339 with Z and at most 6 decimals, such as 2026-03-02T12:00:00.000001Z, not %s", quote(e.Timestamp))
	}
	e.micros = micros
	e.digest = digestOf(canonical[:before], canonical[after:])
	return e, nil
}

func (e *Envelope) metadata(outer *reader) {
	r := newReader(outer.want("metadata", ObjectKind), "metadata.")
	r.err = outer.err
	e.Metadata.IhsanScore, e.Metadata.IhsanText = r.score("ihsan_score")
	e.Metadata.SNRScore, e.Metadata.SNRText = r.score("snr_score")
	e.Metadata.Urgency = r.oneOf("urgency", UrgencyRealTime, UrgencyBatch)
	outer.err = r.done()
}

func (e *Envelope) payload(outer *reader) {
	r := newReader(outer.want("payload", ObjectKind), "payload.")
	r.err = outer.err
	e.Payload.Action = r.text("action")
	e.Payload.Data = r.want("data", ObjectKind)
	e.Payload.PolicyHash = r.text("policy_hash")
	if n := len(e.Payload.PolicyHash); n > PolicyHashBytesMax {
		r.fault("payload.policy_hash has %d bytes, at most %d are allowed", n, PolicyHashBytesMax)
	}
	e.Payload.StateHash = r.text("state_hash")
	var b [32]byte
	if s := e.Payload.StateHash; r.err == nil && s != "" && !decodeHex(b[:], s) {
		r.fault("payload.state_hash must be 64 lower-case hex digits or empty, not %s", quote(s))
	}
	outer.err = r.done()
}

func (e *Envelope) sender(outer *reader) {
	r := newReader(outer.want("sender", ObjectKind), "sender.")
	r.err = outer.err
	e.Sender.AgentID = r.text("agent_id")
	if n := len(e.Sender.AgentID); n > AgentIDBytesMax {
		r.fault("sender.agent_id has %d bytes, at most %d are allowed", n, AgentIDBytesMax)
	}
	if strings.ContainsFunc(e.Sender.AgentID, func(c rune) bool { return c == ':' || unicode.IsControl(c) }) {
		r.fault("sender.agent_id must be without control characters and ':', not %s", quote(e.Sender.AgentID))
	}
	e.Sender.AgentType = r.oneOf("agent_type", AgentPAT, AgentSAT)
	e.Sender.PublicKey = r.hex32("public_key")
	outer.err = r.done()
}

// signature reads the signature member. Null or a value that is no hex text leaves
// e.Signature nil, which the caller refuses with another code than a fault of form.
func (e *Envelope) signature(outer *reader, v Value) {
	if v.Kind() == NullKind {
		return
	}
	if v.Kind() != ObjectKind {
		outer.fault("signature must be an object, not %v", v.Kind())
		return
	}
	r := newReader(v, "signature.")
	r.err = outer.err
	r.oneOf("algorithm", SignatureAlgorithm, SignatureAlgorithm)
	if f := r.want("signed_fields", ArrayKind); r.err == nil && f.text != signedFields {
		r.fault("signature.signed_fields must be %s", signedFields)
	}
	var s Signature
	if decodeHex(s.Value[:], r.text("value")) {
		e.Signature = &s
	}
	outer.err = r.done()
}

// shortened is a name or a token of the sender's in a detail, as [quote] but bare
// where it is short and harmless.
func shortened(s string) string {
	const bareBytesMax = 32
	if len(s) <= bareBytesMax && plainLen([]byte(s)) == len(s) {
		return s
	}
	return quote(s)
}

// decodeHex fills dst from exactly as many lower-case hex digits as it needs.
func decodeHex(dst []byte, s string) bool {
	if len(s) != 2*len(dst) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c >= 'A' && c <= 'F' {
			return false
		}
	}
	_, err := hex.Decode(dst, []byte(s))
	return err == nil
}

// isUUID accepts the form 8-4-4-4-12 of RFC 9562 with hex digits of either case.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch i {
		case 8, 13, 18, 23:
			if s[i] != '-' {
				return false
			}
		default:
			if hexValue(s[i]) < 0 {
				return false
			}
		}
	}
	return true
}

// parseTimestamp reads YYYY-MM-DDThh:mm:ss, optionally a point and one to six
// decimals, and Z, as microseconds since 1970. time.Parse would also take a comma,
// more decimals and an hour of one digit.
func parseTimestamp(s string) (micros int64, ok bool) {
	const form = "0000-00-00T00:00:00"
	if len(s) < len(form)+1 || s[len(s)-1] != 'Z' {
		return 0, false
	}
	for i := range len(form) {
		if digit := s[i] >= '0' && s[i] <= '9'; form[i] == '0' && !digit || form[i] != '0' && s[i] != form[i] {
			return 0, false
		}
	}
	fraction, ok := parseDecimals(s[len(form) : len(s)-1])
	if !ok {
		return 0, false
	}
	number := func(from, to int) int {
		n := 0
		for _, c := range []byte(s[from:to]) {
			n = 10*n + int(c-'0')
		}
		return n
	}
	year, month, day := number(0, 4), time.Month(number(5, 7)), number(8, 10)
	hour, minute, second := number(11, 13), number(14, 16), number(17, 19)
	t := time.Date(year, month, day, hour, minute, second, 0, time.UTC)
	// time.Date turns 30 February into 1 or 2 March; what it changed was no date.
	if t.Year() != year || t.Month() != month || t.Day() != day || t.Hour() != hour || t.Minute() != minute || t.Second() != second {
		return 0, false
	}
	return t.UnixMicro() + fraction, true
}

// parseDecimals reads "" or a point and one to six digits, in millionths.
func parseDecimals(s string) (micros int64, ok bool) {
	const decimalsMax = 6
	if s == "" {
		return 0, true
	}
	if s[0] != '.' || len(s) == 1 || len(s) > 1+decimalsMax {
		return 0, false
	}
	for i := 1; i <= decimalsMax; i++ {
		d := byte('0')
		if i < len(s) {
			d = s[i]
		}
		if d < '0' || d > '9' {
			return 0, false
		}
		micros = 10*micros + int64(d-'0')
	}
	return micros, true
}
