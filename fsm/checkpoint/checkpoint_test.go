package checkpoint_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/internal/testfed"
)

func example() *checkpoint.Checkpoint {
	return &checkpoint.Checkpoint{Origin: "test/a", Size: 7, Root: [32]byte{1}, State: [32]byte{2}, TimeMillis: 1_772_452_800_000,
		Document: 3, DocumentDigest: [32]byte{4}}
}

func TestBody(t *testing.T) {
	zeros := strings.Repeat("A", 41)
	want := "test/a\n7\nAQ" + zeros + "=\nstate Ag" + zeros + "=\ntime 1772452800000\nfederation 3 BA" + zeros + "=\n"
	c := example()
	if got := string(c.Body()); got != want {
		t.Fatalf("body %q, want %q", got, want)
	}
	if c.Region() != "a" || c.Federation() != "test" || checkpoint.Origin("test", "a") != c.Origin {
		t.Errorf("region %q of federation %q", c.Region(), c.Federation())
	}
}

func TestBodyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z0-9.-]{1,63}`)
		hash := func() [32]byte { return [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "hash")) }
		c := checkpoint.Checkpoint{Origin: name.Draw(t, "federation") + "/" + name.Draw(t, "region"),
			Size: rapid.Int64Range(1, ledger.SizeMax).Draw(t, "size"), Root: hash(), State: hash(),
			TimeMillis: rapid.Int64Range(0, 1<<53).Draw(t, "time"), Document: rapid.Int64Range(1, 1<<53).Draw(t, "document"), DocumentDigest: hash()}
		got, err := checkpoint.ParseBody(c.Body())
		if err != nil || *got != c {
			t.Fatalf("read %+v as %+v: %v", c, got, err)
		}
	})
}

func TestBodyLimits(t *testing.T) {
	long := strings.Repeat("n", 63)
	for _, tt := range []struct {
		name   string
		change func(*checkpoint.Checkpoint)
		ok     bool
	}{
		{"as it is", func(*checkpoint.Checkpoint) {}, true},
		{"longest of everything", func(c *checkpoint.Checkpoint) {
			c.Origin, c.Size, c.TimeMillis, c.Document = long+"/"+long, ledger.SizeMax, 1<<53, 1<<53
		}, true},
		{"a name one too long", func(c *checkpoint.Checkpoint) { c.Origin = long + "n/a" }, false},
		{"a region's name one too long", func(c *checkpoint.Checkpoint) { c.Origin = "test/n" + long }, false},
		{"no region", func(c *checkpoint.Checkpoint) { c.Origin = "test" }, false},
		{"two slashes", func(c *checkpoint.Checkpoint) { c.Origin = "test/a/b" }, false},
		{"a name with a space", func(c *checkpoint.Checkpoint) { c.Origin = "te st/a" }, false},
		{"no entries", func(c *checkpoint.Checkpoint) { c.Size = 0 }, false},
		{"one entry", func(c *checkpoint.Checkpoint) { c.Size = 1 }, true},
		{"one entry too many", func(c *checkpoint.Checkpoint) { c.Size = ledger.SizeMax + 1 }, false},
		{"before 1970", func(c *checkpoint.Checkpoint) { c.TimeMillis = -1 }, false},
		{"in 1970", func(c *checkpoint.Checkpoint) { c.TimeMillis = 0 }, true},
		{"a time too late", func(c *checkpoint.Checkpoint) { c.TimeMillis = 1<<53 + 1 }, false},
		{"document 0", func(c *checkpoint.Checkpoint) { c.Document = 0 }, false},
		{"a document too late", func(c *checkpoint.Checkpoint) { c.Document = 1<<53 + 1 }, false},
	} {
		c := example()
		tt.change(c)
		if _, err := checkpoint.ParseBody(c.Body()); (err == nil) != tt.ok || (err != nil && !errors.Is(err, checkpoint.ErrBody)) {
			t.Errorf("%s: error %v", tt.name, err)
		}
		if _, err := checkpoint.Sign(c, testfed.Key("a-log")); (err == nil) != tt.ok {
			t.Errorf("%s: signed with error %v", tt.name, err)
		}
	}
}

func TestBodyOtherForms(t *testing.T) {
	body := string(example().Body())
	for name, text := range map[string]string{
		"nothing":                  "",
		"no last newline":          strings.TrimSuffix(body, "\n"),
		"a line more":              body + "x\n",
		"an empty line more":       body + "\n",
		"a line less":              body[:strings.LastIndex(body, "federation")],
		"a sign before the size":   strings.Replace(body, "\n7\n", "\n+7\n", 1),
		"a zero before the size":   strings.Replace(body, "\n7\n", "\n07\n", 1),
		"two spaces":               strings.Replace(body, "time ", "time  ", 1),
		"lines in another order":   swapLines(body, 3, 4),
		"carriage returns":         strings.ReplaceAll(body, "\n", "\r\n"),
		"root in URL base64":       strings.Replace(body, "AQAA", "AQ-A", 1),
		"root without padding":     strings.Replace(body, "A=\nstate", "A\nstate", 1),
		"root with trailing bits":  strings.Replace(body, "A=\nstate", "B=\nstate", 1),
		"no digest of a document":  strings.Replace(body, " 3 BA", " 3", 1),
		"a digest one byte longer": strings.Replace(body, "A=\ntime", "AA\ntime", 1),
		"beyond the limit":         body + strings.Repeat("x", checkpoint.BodyBytesMax),
	} {
		if text == body {
			t.Fatalf("%s: the case changes nothing", name)
		}
		if _, err := checkpoint.ParseBody([]byte(text)); !errors.Is(err, checkpoint.ErrBody) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func swapLines(text string, i, j int) string {
	lines := strings.Split(text, "\n")
	lines[i], lines[j] = lines[j], lines[i]
	return strings.Join(lines, "\n")
}

func TestNote(t *testing.T) {
	key := testfed.Key("a-log")
	signed, err := checkpoint.Sign(example(), key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := checkpoint.Open(signed, "test/a", key.Public())
	if err != nil || *got != *example() {
		t.Fatalf("opened %+v: %v", got, err)
	}
	// Whoever has the key in the form of Go's checksum database opens it too.
	pub := key.Public()
	vkey, err := note.NewEd25519VerifierKey("test/a", pub[:])
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := note.Open(signed, note.VerifierList(v)); err != nil || n.Text != string(example().Body()) {
		t.Errorf("x/mod's note: %v", err)
	}
}

func TestNoteLimit(t *testing.T) {
	long := strings.Repeat("n", 63)
	c := example()
	c.Origin, c.Size, c.TimeMillis, c.Document = long+"/"+long, ledger.SizeMax, 1<<53, 1<<53
	key := testfed.Key("a-log")
	signed, err := checkpoint.Sign(c, key)
	if err != nil || len(signed) > checkpoint.NoteBytesMax {
		t.Fatalf("the longest note has %d bytes: %v", len(signed), err)
	}
	if _, err := checkpoint.Open(signed, c.Origin, key.Public()); err != nil {
		t.Error(err)
	}
	if _, err := checkpoint.Open(append(signed, make([]byte, checkpoint.NoteBytesMax)...), c.Origin, key.Public()); !errors.Is(err, checkpoint.ErrNote) {
		t.Errorf("beyond the limit: error %v", err)
	}
}

func TestNoteRefused(t *testing.T) {
	key, other := testfed.Key("a-log"), testfed.Key("b-log")
	signed, err := checkpoint.Sign(example(), key)
	if err != nil {
		t.Fatal(err)
	}
	foreign := *example()
	foreign.Origin = "test/b"
	ofB, err := checkpoint.Sign(&foreign, key)
	if err != nil {
		t.Fatal(err)
	}
	line := signed[bytes.Index(signed, []byte("\n\n"))+2:]
	lineOfB := ofB[bytes.Index(ofB, []byte("\n\n"))+2:]
	raw := bytes.Clone(line)
	verifier, err := checkpoint.Verifier("test/a", key.Public())
	if err != nil {
		t.Fatal(err)
	}
	// A verifier that has accepted a key's first line does not look at its second.
	second := bytes.Replace(raw, raw[len(raw)-20:len(raw)-16], []byte("AAAA"), 1)
	// 68 bytes leave two bits of the last character of base64 unused.
	bits := append([]byte{}, signed...)
	last := bytes.LastIndexByte(bits, '=') - 1
	bits[last] = map[byte]byte{'A': 'B', 'E': 'F', 'I': 'J', 'M': 'N', 'Q': 'R', 'U': 'V', 'Y': 'Z', 'c': 'd', 'g': 'h', 'k': 'l', 'o': 'p', 's': 't', 'w': 'x', '0': '1', '4': '5', '8': '9'}[bits[last]]
	for _, text := range [][]byte{bits, append(append([]byte{}, signed...), second...)} {
		if _, err := note.Open(text, note.VerifierList(verifier)); err != nil || bytes.Equal(text, signed) {
			t.Fatalf("%q was to be a note that opens: %v", text, err)
		}
	}
	for name, tt := range map[string]struct {
		note   []byte
		origin string
		key    [32]byte
	}{
		"another key":                {signed, "test/a", other.Public()},
		"another origin":             {signed, "test/b", key.Public()},
		"body of another origin":     {append(append([]byte{}, foreign.Body()...), append([]byte("\n"), line...)...), "test/a", key.Public()},
		"one byte of the body":       {bytes.Replace(signed, []byte("\n7\n"), []byte("\n8\n"), 1), "test/a", key.Public()},
		"no signature":               {example().Body(), "test/a", key.Public()},
		"the line twice":             {append(append([]byte{}, signed...), line...), "test/a", key.Public()},
		"a second, bad line":         {append(append([]byte{}, signed...), second...), "test/a", key.Public()},
		"a line of somebody unknown": {append(append([]byte{}, signed...), lineOfB...), "test/a", key.Public()},
		"bits past the signature":    {bits, "test/a", key.Public()},
		"nothing":                    {nil, "test/a", key.Public()},
		"an origin that cannot be":   {signed, "", key.Public()},
	} {
		if _, err := checkpoint.Open(tt.note, tt.origin, tt.key); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

// TestNoteOfOtherText: the log key signs checkpoints alone, but a note is not one merely because it opens.
func TestNoteOfOtherText(t *testing.T) {
	key := testfed.Key("a-log")
	v, err := checkpoint.Verifier("test/a", key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"hello\n", string(example().Body()) + "more\n"} {
		sig := key.Sign([]byte(text))
		h := v.KeyHash()
		line := base64.StdEncoding.EncodeToString(append([]byte{byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)}, sig[:]...))
		if _, err := checkpoint.Open(fmt.Appendf(nil, "%s\n— test/a %s\n", text, line), "test/a", key.Public()); !errors.Is(err, checkpoint.ErrBody) {
			t.Errorf("%q: error %v", text, err)
		}
	}
}

func FuzzParseBody(f *testing.F) {
	f.Add(example().Body())
	f.Add([]byte("test/a\n1\n\nstate \ntime 0\nfederation 1 \n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := checkpoint.ParseBody(body)
		if err == nil && !bytes.Equal(c.Body(), body) {
			t.Fatalf("%q and %q are the same checkpoint", body, c.Body())
		}
	})
}

func FuzzOpen(f *testing.F) {
	key := testfed.Key("a-log")
	signed, err := checkpoint.Sign(example(), key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add(append(signed, signed...))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := checkpoint.Open(text, "test/a", key.Public()); err == nil && !bytes.Equal(text, signed) {
			t.Fatalf("opened %q, which nobody signed", text)
		}
	})
}
