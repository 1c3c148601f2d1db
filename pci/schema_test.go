package pci

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// plainEnvelope is a signed envelope in the order and spacing of canonical form,
// for tests to change.
func plainEnvelope(t testing.TB) string {
	t.Helper()
	d := typicalDraft(t)
	d.Data, _ = FromGo(map[string]any{"note": "n"})
	return string(sign(t, d, NewKeyFromSeed([32]byte{1})).Canonical())
}

// change replaces the one occurrence of a text.
func change(t *testing.T, s, from, to string) string {
	t.Helper()
	if strings.Count(s, from) != 1 {
		t.Fatalf("%q occurs %d times", from, strings.Count(s, from))
	}
	return strings.Replace(s, from, to, 1)
}

func TestSchema(t *testing.T) {
	const (
		hexA     = `"abababababababababababababababababababababababababababababababab"`
		key      = `"public_key":"`
		id       = `"0fe85c04-0000-4000-8000-ac5cda9b9ff0"`
		stamp    = `"2026-03-02T12:00:00.123456Z"`
		fields   = `["version","envelope_id","timestamp","nonce","sender","payload","metadata"]`
		nonce    = `"nonce":"01`
		ihsan    = `"ihsan_score":0.97`
		snr      = `"snr_score":0.9`
		agent    = `"agent-0"`
		policy   = `"policy_hash":` + hexA
		hexC     = `"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"`
		state    = `"state_hash":` + hexC
		data     = `"data":{"note":"n"}`
		pair     = `"😀"` // four bytes of UTF-8
		allowed  = Success
		refused  = RejectSchema
		unsigned = RejectSignature
	)
	long := func(n int) string { return `"` + strings.Repeat("x", n) + `"` }
	for _, c := range []struct {
		name, from, to string
		want           Code
	}{
		{"version", `"version":"1.0.0"`, `"version":"1.0.1"`, refused},
		{"version as a number", `"version":"1.0.0"`, `"version":1.0`, refused},
		{"version missing", `,"version":"1.0.0"`, ``, refused},
		{"version null", `"version":"1.0.0"`, `"version":null`, refused},
		{"unknown member first", `{"envelope_id"`, `{"a":1,"envelope_id"`, refused},
		{"unknown member in the middle", `"nonce":`, `"next":1,"nonce":`, refused},
		{"unknown member last", `"version":"1.0.0"`, `"version":"1.0.0","version2":1`, refused},
		{"unknown member with an escape", `"version":"1.0.0"`, `"version":"1.0.0","é":1`, refused},
		{"name in another case", `"nonce":`, `"Nonce":`, refused},
		{"name by escapes", `"nonce":`, `"\u006eonce":`, allowed},
		{"duplicate member", `"version":"1.0.0"`, `"version":"1.0.0","version":"1.0.0"`, refused},
		{"duplicate in data", data, `"data":{"a":1,"a":1}`, refused},

		{"UUID in upper case", id, strings.ToUpper(id), allowed},
		{"UUID nil", id, `"00000000-0000-0000-0000-000000000000"`, allowed},
		{"UUID without hyphens", id, `"0fe85c04000040008000ac5cda9b9ff0"`, refused},
		{"UUID in braces", id, `"{0fe85c04-0000-4000-8000-ac5cda9b9ff0}"`, refused},
		{"UUID as URN", id, `"urn:uuid:0fe85c04-0000-4000-8000-ac5cda9b9ff0"`, refused},
		{"UUID with a wrong digit", id, `"0fe85c0g-0000-4000-8000-ac5cda9b9ff0"`, refused},
		{"UUID with a shifted hyphen", id, `"0fe85c040-000-4000-8000-ac5cda9b9ff0"`, refused},
		{"UUID too long", id, `"0fe85c04-0000-4000-8000-ac5cda9b9ff00"`, refused},
		{"UUID empty", id, `""`, refused},
		{"UUID null", id, `null`, refused},
		{"UUID missing", `"envelope_id":` + id + `,`, ``, refused},

		{"timestamp null", stamp, `null`, refused},
		{"timestamp as a number", stamp, `1772452800`, refused},
		{"timestamp of no date", stamp, `"2026-02-30T12:00:00Z"`, refused},
		{"timestamp missing", `"timestamp":` + stamp + `,`, ``, refused},

		{"nonce with upper case", nonce, `"nonce":"0A`, refused},
		{"nonce with lower case", nonce, `"nonce":"0a`, allowed},
		{"nonce with another digit", nonce, `"nonce":"0g`, refused},
		{"nonce too long", nonce, `"nonce":"001`, refused},
		{"nonce too short", nonce, `"nonce":"1`, refused},
		{"nonce null", nonce, `"nonce":null,"nonce2":"`, refused},
		{"nonce missing", nonce, `"nonc":"01`, refused},

		{"public key with upper case", key, key + "A", refused},
		{"public key too long", key, key + "0", refused},
		{"public key missing", key, `"public_kez":"`, refused},

		{"ihsan 0", ihsan, `"ihsan_score":0`, allowed},
		{"ihsan 1", ihsan, `"ihsan_score":1`, allowed},
		{"ihsan 1.0", ihsan, `"ihsan_score":1.0`, allowed},
		{"ihsan 10e-1", ihsan, `"ihsan_score":10e-1`, allowed},
		{"ihsan negative zero", ihsan, `"ihsan_score":-0.0`, allowed},
		{"ihsan above 1", ihsan, `"ihsan_score":1.0000000000000003`, refused},
		{"ihsan below 0", ihsan, `"ihsan_score":-5e-324`, refused},
		{"ihsan infinite", ihsan, `"ihsan_score":1e999`, refused},
		{"ihsan NaN", ihsan, `"ihsan_score":NaN`, refused},
		{"ihsan as a string", ihsan, `"ihsan_score":"0.97"`, refused},
		{"ihsan true", ihsan, `"ihsan_score":true`, refused},
		{"ihsan null", ihsan, `"ihsan_score":null`, refused},
		{"ihsan missing", ihsan + `,`, ``, refused},
		{"snr 0", snr, `"snr_score":0.0`, allowed},
		{"snr above 1", snr, `"snr_score":2`, refused},
		{"snr missing", snr + `,`, ``, refused},
		{"urgency BATCH", `"REAL_TIME"`, `"BATCH"`, allowed},
		{"urgency in lower case", `"REAL_TIME"`, `"batch"`, refused},
		{"urgency empty", `"REAL_TIME"`, `""`, refused},
		{"urgency null", `"REAL_TIME"`, `null`, refused},
		{"metadata with more", `"REAL_TIME"`, `"BATCH","x":1`, refused},
		{"metadata as an array", `"metadata":{`, `"metadata":[],"metadatb":{`, refused},

		{"SAT", `"PAT"`, `"SAT"`, allowed},
		{"agent_type in lower case", `"PAT"`, `"pat"`, refused},
		{"agent_type another", `"PAT"`, `"BOT"`, refused},
		{"agent_id at the limit", agent, long(AgentIDBytesMax), allowed},
		{"agent_id above the limit", agent, long(AgentIDBytesMax + 1), refused},
		{"agent_id counts bytes", agent, `"` + strings.Repeat("😀", AgentIDBytesMax/4) + `"`, allowed},
		{"agent_id counts bytes, above", agent, `"` + strings.Repeat("😀", AgentIDBytesMax/4) + `x"`, refused},
		{"agent_id with any letters", agent, pair, allowed},
		{"agent_id with a colon", agent, `"a:b"`, refused},
		{"agent_id with a line feed", agent, `"a\nb"`, refused},
		{"agent_id with DEL", agent, `"a\u007f"`, refused},
		{"agent_id with a C1 control", agent, `"a\u0085"`, refused},
		{"agent_id with NUL", agent, `"\u0000"`, refused},
		{"agent_id as a number", agent, `7`, refused},
		{"sender with more", `"agent_type":"PAT"`, `"agent_type":"PAT","x":1`, refused},

		{"action any string", `"session.transition"`, `"no such action"`, allowed},
		{"action as an array", `"session.transition"`, `["session.transition"]`, refused},
		{"action missing", `"action":"session.transition",`, ``, refused},
		{"data empty", data, `"data":{}`, allowed},
		{"data with anything", data, `"data":{"a":[null,{"b":1.5e300}]}`, allowed},
		{"data as an array", data, `"data":[]`, refused},
		{"data as a string", data, `"data":"{}"`, refused},
		{"data null", data, `"data":null`, refused},
		{"data missing", data + `,`, ``, refused},
		{"data with an infinite number", data, `"data":{"a":1e999}`, refused},
		{"data at the depth limit", data, `"data":{"a":` + strings.Repeat("[", DepthMax-3) + strings.Repeat("]", DepthMax-3) + `}`, allowed},
		{"data above the depth limit", data, `"data":{"a":` + strings.Repeat("[", DepthMax-2) + strings.Repeat("]", DepthMax-2) + `}`, refused},
		{"policy_hash empty", policy, `"policy_hash":""`, allowed},
		{"policy_hash any string", policy, `"policy_hash":"none"`, allowed},
		{"policy_hash at the limit", policy, `"policy_hash":` + long(PolicyHashBytesMax), allowed},
		{"policy_hash above the limit", policy, `"policy_hash":` + long(PolicyHashBytesMax+1), refused},
		{"policy_hash null", policy, `"policy_hash":null`, refused},
		{"policy_hash missing", policy + `,`, ``, refused},
		{"state_hash empty", state, `"state_hash":""`, allowed},
		{"state_hash too short", state, `"state_hash":"cd"`, refused},
		{"state_hash in upper case", hexC, strings.ToUpper(hexC), refused},
		{"state_hash null", state, `"state_hash":null`, refused},
		{"state_hash missing", `,` + state, ``, refused},

		{"algorithm", `"ed25519"`, `"Ed25519"`, refused},
		{"algorithm missing", `"algorithm":"ed25519",`, ``, refused},
		{"signed_fields in another order", fields, change(t, fields, `"sender","payload"`, `"payload","sender"`), refused},
		{"signed_fields with fewer", fields, change(t, fields, `,"metadata"`, ``), refused},
		{"signed_fields with more", fields, change(t, fields, `"metadata"`, `"metadata","signature"`), refused},
		{"signed_fields null", fields, `null`, refused},
		{"signed_fields by escapes", fields, change(t, fields, `"nonce"`, `"n\u006fnce"`), allowed},
		{"signature with more", `"algorithm"`, `"a":1,"algorithm"`, refused},
		{"signature value null", `"value":"`, `"value":null,"valuf":"`, refused},
		{"signature value too long", `"value":"`, `"value":"00`, unsigned},
		{"signature value no hex", `"value":"`, `"value":"zz`, unsigned},
		{"signature value missing", `"value":"`, `"valud":"`, refused},
	} {
		t.Run(c.name, func(t *testing.T) {
			wire := change(t, plainEnvelope(t), c.from, c.to)
			e, err := Decode([]byte(wire))
			if got := CodeOf(err); got != c.want {
				t.Fatalf("%v, want %v; error: %v", got, c.want, err)
			}
			if (err == nil) != (e != nil) {
				t.Errorf("envelope %v beside error %v", e, err)
			}
			var r *Reject
			if errors.As(err, &r) && (r.Detail == "" || len(r.Detail) > 400) {
				t.Errorf("detail of %d bytes: %s", len(r.Detail), r.Detail)
			}
		})
	}
}

func TestSignatureAlone(t *testing.T) {
	wire := plainEnvelope(t)
	from := strings.Index(wire, `,"signature":`)
	to := strings.Index(wire, `,"timestamp":`)
	digits := strings.Index(wire, `"value":"`) + len(`"value":"`)
	upper := wire[from:digits] + "AA" + wire[digits+2:to]
	for _, c := range []struct {
		name, signature string
		want            Code
	}{
		{"null", `,"signature":null`, RejectSignature},
		{"missing", ``, RejectSignature},
		{"a string", `,"signature":"00"`, RejectSchema},
		{"an array", `,"signature":[]`, RejectSchema},
		{"an empty object", `,"signature":{}`, RejectSchema},
		{"in upper case", upper, RejectSignature},
		{"false", `,"signature":false`, RejectSchema},
		{"as it was", wire[from:to], Success},
	} {
		text := wire[:from] + c.signature + wire[to:]
		for name, decode := range map[string]func([]byte) (*Envelope, error){"Decode": Decode, "DecodeCanonical": DecodeCanonical} {
			if _, err := decode([]byte(text)); CodeOf(err) != c.want {
				t.Errorf("%s, %s: %v, want %v", name, c.name, err, c.want)
			}
		}
		if c.want == RejectSchema {
			continue
		}
		e, err := Inspect([]byte(text))
		if err != nil {
			t.Errorf("%s: inspecting: %v", c.name, err)
			continue
		}
		whole, err := Decode([]byte(wire))
		if err != nil {
			t.Fatal(err)
		}
		if e.Digest() != whole.Digest() {
			t.Errorf("%s: the digest depends on the signature", c.name)
		}
		if c.want == RejectSignature && (e.Signature != nil || CodeOf(e.Verify()) != RejectSignature) {
			t.Errorf("%s: signature %v, verified as %v", c.name, e.Signature, e.Verify())
		}
	}
	// A fault of form outweighs a missing signature, wherever it stands.
	faulty := change(t, wire[:from]+wire[to:], `"version":"1.0.0"`, `"version":"2"`)
	if _, err := Decode([]byte(faulty)); CodeOf(err) != RejectSchema {
		t.Errorf("unsigned and of another version: %v", err)
	}
}

func TestDecodeFields(t *testing.T) {
	d := typicalDraft(t)
	key := NewKeyFromSeed([32]byte{1})
	e, err := Decode(spaced(t, sign(t, d, key)))
	if err != nil {
		t.Fatal(err)
	}
	if e.Version != Version || e.EnvelopeID != d.EnvelopeID || e.Nonce != d.Nonce || e.Timestamp != "2026-03-02T12:00:00.123456Z" ||
		e.TimestampMicros() != d.Timestamp.UnixMicro() {
		t.Errorf("envelope %+v", e)
	}
	if e.Sender != (Sender{AgentPAT, "agent-0", key.Public()}) {
		t.Errorf("sender %+v", e.Sender)
	}
	if e.Payload != (Payload{d.Action, d.Data, d.PolicyHash, d.StateHash}) {
		t.Errorf("payload %+v", e.Payload)
	}
	if e.Metadata != (Metadata{0.97, 0.9, "0.97", "0.9", UrgencyRealTime}) {
		t.Errorf("metadata %+v", e.Metadata)
	}
	text, err := e.MarshalJSON()
	if err != nil || string(text) != string(e.Canonical()) {
		t.Errorf("JSON %s, %v", text, err)
	}
}

func TestDecodeSize(t *testing.T) {
	wire := plainEnvelope(t)
	fill := func(size int) []byte {
		return []byte(change(t, wire, `"note":"n"`, `"note":"n`+strings.Repeat("x", size-len(wire))+`"`))
	}
	for name, decode := range map[string]func([]byte) (*Envelope, error){"Decode": Decode, "DecodeCanonical": DecodeCanonical} {
		if _, err := decode(fill(EnvelopeBytesMax)); err != nil {
			t.Errorf("%s at the limit: %v", name, err)
		}
		if _, err := decode(fill(EnvelopeBytesMax + 1)); CodeOf(err) != RejectSchema {
			t.Errorf("%s above the limit: %v", name, err)
		}
	}
	short := change(t, wire, `"note":"n"`, `"note":"`+strings.Repeat("é", EnvelopeBytesMax/6)+`"`)
	if _, err := Decode([]byte(short)); CodeOf(err) != RejectSchema {
		t.Errorf("%d bytes, more in canonical form: %v", len(short), err)
	}
}

func TestDecodeCanonicalRefusesOtherForms(t *testing.T) {
	wire := plainEnvelope(t)
	if _, err := DecodeCanonical([]byte(wire)); err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]string{
		"a space at the end": wire + " ", "a space inside": change(t, wire, `"nonce":`, `"nonce": `),
		"an escape": change(t, wire, `"agent-0"`, `"\u0061gent-0"`), "an escaped slash": change(t, wire, `"agent-0"`, `"agent\/0"`),
		"a raw letter": change(t, wire, `"agent-0"`, `"é"`), "upper-case hex": change(t, wire, `"agent-0"`, `"\u00E9"`),
		"members out of order": change(t, change(t, wire, `,"version":"1.0.0"`, ``), `{"envelope_id"`, `{"version":"1.0.0","envelope_id"`),
	} {
		if _, err := DecodeCanonical([]byte(other)); CodeOf(err) != RejectSchema {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Decode([]byte(other)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecodeDoesNotKeepInput(t *testing.T) {
	wire := []byte(plainEnvelope(t))
	e, err := DecodeCanonical(wire)
	if err != nil {
		t.Fatal(err)
	}
	clear(wire)
	if err := e.Verify(); err != nil || e.Payload.Action != "session.transition" {
		t.Errorf("the envelope changed with its input: %v", err)
	}
	if again, err := DecodeCanonical(e.Canonical()); err != nil || again.Digest() != e.Digest() {
		t.Errorf("the canonical form changed with the input: %v", err)
	}
}

func TestParseTimestamp(t *testing.T) {
	for _, s := range []string{
		"2026-03-02T12:00:00Z", "2026-03-02T12:00:00.1Z", "2026-03-02T12:00:00.123456Z", "2026-03-02T23:59:59.999999Z", "2024-02-29T00:00:00Z",
		"2000-02-29T00:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.5Z", "2026-03-02T12:00:00.000000Z",
	} {
		want, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		if micros, ok := parseTimestamp(s); !ok || micros != want.UnixMicro() {
			t.Errorf("%s: %d %v, want %d", s, micros, ok, want.UnixMicro())
		}
	}
	for _, s := range []string{
		"", "Z", "2026-03-02", "2026-03-02T12:00:00", "2026-03-02T12:00:00z", "2026-03-02t12:00:00Z", "2026-03-02 12:00:00Z",
		"2026-03-02T12:00:00+00:00", "2026-03-02T12:00:00-00:00", "2026-03-02T12:00:00.Z", "2026-03-02T12:00:00,5Z", "2026-03-02T12:00:00.1234567Z",
		"2026-03-02T12:00:00.12345aZ", "2026-03-02T12:00:00. 1Z", "2026-03-02T12:00:00.-1Z", "2026-03-02T12:00Z", "2026-3-2T12:00:00Z", "2026-03-02T1:00:00Z",
		"2026-02-29T00:00:00Z", "2025-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2026-02-30T00:00:00Z", "2026-04-31T00:00:00Z", "2026-00-01T00:00:00Z",
		"2026-13-01T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-32T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T23:60:00Z", "2026-12-31T23:59:60Z",
		"+2026-03-02T12:00:00Z", "12026-03-02T12:00:00Z", " 2026-03-02T12:00:00Z", "2026-03-02T12:00:00Z ", "２026-03-02T12:00:00Z",
	} {
		if micros, ok := parseTimestamp(s); ok {
			t.Errorf("%s passed as %d", s, micros)
		}
	}
}
