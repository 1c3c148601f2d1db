package prefixtree

import (
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"testing"
)

const documentPath = "../../docs/state-commitment.md"

// line is one "name = hexadecimal" of the document's example.
type line struct {
	name string
	text string
}

func hexLine(name string, b []byte) line { return line{name, hex.EncodeToString(b)} }

// exampleLines computes every line of the document's example, in its order.
func exampleLines(t *testing.T) []line {
	t.Helper()
	var lines []line
	add := func(name string, b []byte) { lines = append(lines, hexLine(name, b)) }
	key := func(s string) [32]byte { return KeyHash([]byte(s)) }
	value := func(s string) [32]byte { return ValueHash([]byte(s)) }
	leafOf := func(k, v string) [32]byte {
		kh, vh := key(k), value(v)
		return leafHash(&kh, &vh)
	}
	kv := newMemory()
	set := func(k, v string) [32]byte {
		vh := value(v)
		return mustUpdate(t, kv, []Change{{key(k), &vh}})
	}
	record := func(name string, recordKey []byte) {
		b, ok := kv.records[string(recordKey)]
		if !ok {
			t.Fatalf("no record %s", name)
		}
		add(name, append(append([]byte{}, recordKey...), b...))
	}
	for _, kv := range [][2]string{{"a", "1"}, {"b", "2"}, {"c", "3"}} {
		k, v := key(kv[0]), value(kv[1])
		add("key("+kv[0]+")", k[:])
		add("value("+kv[1]+")", v[:])
	}

	empty := EmptyRoot()
	add("empty", empty[:])
	first := set("a", "1")
	add("root of {a}", first[:])
	set("b", "2")
	root := set("c", "3")
	a, b, c := leafOf("a", "1"), leafOf("b", "2"), leafOf("c", "3")
	add("leaf(a, 1)", a[:])
	add("leaf(b, 2)", b[:])
	add("leaf(c, 3)", c[:])
	bKey := key("b")
	deeper := prefixOf(bKey, 3)
	deeperHash := innerHash(&deeper, &c, &b)
	add("input of inner(001)", concat([]byte(domain), []byte{2, 0, 3}, deeper.bits[:], c[:], b[:]))
	add("inner(001)", deeperHash[:])
	add("input of root", concat([]byte(domain), []byte{2, 0, 0}, make([]byte, 32), deeperHash[:], a[:]))
	add("root of {a, b, c}", root[:])

	record("record of the top", topKey())
	record("record of inner()", nodeKey(&label{}))
	record("record of inner(001)", nodeKey(&deeper))

	for _, absent := range []string{"d", "e"} {
		k := key(absent)
		add("key("+absent+")", k[:])
	}
	proof := func(name string, r Reader, k string) {
		p := mustProve(t, r, key(k))
		encoded, err := p.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		add(name, encoded)
	}
	proof("proof of b = 2", kv, "b")
	text, err := mustProve(t, kv, bKey).MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	lines = append(lines, line{"in base64", string(text)})
	proof("proof that e is absent", kv, "e")
	proof("proof that d is absent", kv, "d")
	proof("proof in the empty tree", newMemory(), "a")

	two := value("two")
	add("value(two)", two[:])
	root = set("b", "two")
	add("root of {a, b → two, c}", root[:])
	root = mustUpdate(t, kv, []Change{{Key: key("c")}})
	add("root of {a, b → two}", root[:])
	record("record of the top, after", topKey())
	record("record of inner(), after", nodeKey(&label{}))
	if len(kv.records) != 2 {
		t.Fatalf("%d records", len(kv.records))
	}
	return lines
}

func concat(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

var exampleBlock = regexp.MustCompile("(?s)```example\n(.*?)```")

func TestDocumentExample(t *testing.T) {
	text, err := os.ReadFile(documentPath)
	if err != nil {
		t.Fatal(err)
	}
	var have []line
	for _, block := range exampleBlock.FindAllStringSubmatch(string(text), -1) {
		for l := range strings.Lines(block[1]) {
			l = strings.TrimSpace(l)
			at := strings.LastIndex(l, " = ") // a name may hold one too
			if at < 0 {
				t.Fatalf("line %q of the example is no name = value", l)
			}
			have = append(have, line{l[:at], l[at+3:]})
		}
	}
	want := exampleLines(t)
	for i := range max(len(have), len(want)) {
		var h, w line
		if i < len(have) {
			h = have[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if h != w {
			t.Errorf("line %d of the example is\n%s = %s\nit should be\n%s = %s", i+1, h.name, h.text, w.name, w.text)
		}
	}
	if len(want) < 25 {
		t.Fatalf("the example has only %d lines", len(want))
	}
}

// TestDocumentLimits keeps the figures in the document's prose true.
func TestDocumentLimits(t *testing.T) {
	text, err := os.ReadFile(documentPath)
	if err != nil {
		t.Fatal(err)
	}
	if ProofBytesMax != 8550 || ProofDepthMax != 256 {
		t.Fatalf("ProofBytesMax %d, ProofDepthMax %d", ProofBytesMax, ProofDepthMax)
	}
	for _, figure := range []string{"8,550 bytes", "more than 256 steps", domain} {
		if !strings.Contains(string(text), figure) {
			t.Errorf("the document does not say %q", figure)
		}
	}
}
