package fate

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// plain is fidelity in the plainest way, for strings within the limits.
func plain(intent, name string) float64 {
	words := func(s string) map[string]bool {
		set := map[string]bool{}
		for _, w := range strings.FieldsFunc(strings.Map(unicode.ToLower, s), func(r rune) bool { return r == '_' || unicode.IsSpace(r) || 0x1c <= r && r <= 0x1f }) {
			set[w] = true
		}
		return set
	}
	want, has := words(intent), words(name)
	if len(want) == 0 {
		return fidelityFloor
	}
	hits := 0
	for w := range want {
		if has[w] {
			hits++
		}
	}
	return share(hits, len(want))
}

func checkFidelity(t rapid.TB, intent, name string) {
	t.Helper()
	want := plain(intent, name)
	if got := fidelity(intent, name); got != want {
		t.Fatalf("fidelity(%q, %q) = %v, want %v", intent, name, got, want)
	}
	if got := fidelityAny(intent, name); got != want {
		t.Fatalf("fidelityAny(%q, %q) = %v, want %v", intent, name, got, want)
	}
	o := Operation{Intent: intent, Name: name}
	if got := o.ScoresOf(Words{Intent: SplitWords(intent), Name: SplitWords(name)}).Fidelity; got != want {
		t.Fatalf("fidelity of the words of %q and %q = %v, want %v", intent, name, got, want)
	}
}

func TestFidelityAgainstPlainComputation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.StringMatching(`([aAbB]{1,10}[_ \t\n\x1c]{0,2}){0,9}`),
			rapid.StringMatching(`[ -~]{0,64}`),
			rapid.StringOfN(rapid.SampledFrom([]rune("aAzZ@[`{_ \x1b\x1c\x1f\x20\x21\x08\x09\x0d\x0e\x00\x7fÄäΣσςİßK\u00a0\u2003\ufffd")), 0, 64, -1),
			rapid.StringOfN(rapid.Rune(), 0, 20, -1),
		)
		intent := text.Draw(t, "intent")
		name := rapid.OneOf(text, rapid.Just(strings.ToUpper(intent))).Draw(t, "name")
		if len(intent) > IntentBytesMax || len(name) > NameBytesMax {
			return
		}
		checkFidelity(t, intent, name)
	})
}

func TestFidelity(t *testing.T) {
	sixtyFour := strings.Repeat("x", 64)
	for _, c := range []struct {
		name, intent, operation string
		want                    float64
	}{
		{"none", "", "read", 0.7},
		{"only gaps", " _\t\r\n ", "read", 0.7},
		{"no name", "read", "", 0.7},
		{"same", "READ_File", "file read", 1},
		{"half", "read mail", "read_file", 0.85},
		{"a word twice counts once", "read READ mail", "read_file", 0.85},
		{"a prefix is another word", "read", "reading", 0.7},
		{"longer than eight bytes", "summarize", "SUMMARIZE", 1},
		{"differ after eight bytes", "summarize", "summarizf", 0.7},
		{"one word of 64 bytes", sixtyFour, sixtyFour, 1},
		{"65 bytes", sixtyFour + "y", strings.ToUpper(sixtyFour) + "y", 1},
		{"beyond ASCII", "ÄRGER δΣ", "ärger_δσ", 1},
		{"NUL is a letter", "a\x00b", "a b", 0.7},
		{"bad UTF-8", "a\xff", "A\xfe", 1},
		{"at the limit", strings.Repeat("a ", IntentBytesMax/2), "a", 1},
		{"beyond the limit", strings.Repeat("a ", IntentBytesMax/2) + "a", "a", 0.7},
		{"name at the limit", "a", strings.Repeat("a ", NameBytesMax/2), 1},
		{"name beyond the limit", "a", strings.Repeat("a ", NameBytesMax/2) + "a", 0.7},
	} {
		if got := fidelity(c.intent, c.operation); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestSplitWords(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{"  ", nil},
		{"Read_the FILE\tthe_end", []string{"read", "the", "file", "end"}},
		{"Ä\u2003ä\u3000B\x1eb", []string{"ä", "b"}},
		{strings.Repeat("a", IntentBytesMax+1), nil},
	} {
		if got := SplitWords(c.in); !slices.Equal(got, c.want) {
			t.Errorf("SplitWords(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

// The copy must hold all that Unicode 15.0 has; a later Go release may know more letters, which the copy
// must not, and has never changed one.
func TestLowerTable(t *testing.T) {
	mapped := 0
	for r := rune(0); r <= unicode.MaxRune; r++ {
		got, want := lower(r), unicode.ToLower(r)
		if got != r {
			mapped++
		}
		if got != want && (got != r || unicode.Version == "15.0.0") {
			t.Errorf("lower(%U) = %U, want %U", r, got, want)
		}
		if gap := isGap(r); gap != (r == '_' || unicode.IsSpace(r) || 0x1c <= r && r <= 0x1f) {
			t.Errorf("isGap(%U) = %t", r, gap)
		}
	}
	if mapped != 1407+26 {
		t.Errorf("%d letters have a lower-case form", mapped)
	}
	if got := lower(utf8.RuneError); got != utf8.RuneError {
		t.Errorf("lower(U+FFFD) = %U", got)
	}
}

func FuzzFidelity(f *testing.F) {
	f.Add("read file", "file_read")
	f.Add("ÄRGER\xff", "ärger\xfe_\u2003")
	f.Add(strings.Repeat("a", 64), strings.Repeat("A", 64))
	f.Fuzz(func(t *testing.T, intent, name string) {
		if len(intent) > IntentBytesMax || len(name) > NameBytesMax {
			if got := fidelity(intent, name); got < fidelityFloor || got > 1 {
				t.Fatal(got)
			}
			return
		}
		checkFidelity(t, intent, name)
	})
}
