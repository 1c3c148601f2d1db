package fate

import (
	"math/bits"
	"strings"
)

// fidelity returns the fidelity of an operation to the intent that was declared for it.
func fidelity(intent, name string) float64 {
	var want, has line
	if !want.split(intent) || !has.split(name) {
		return fidelityAny(intent, name)
	}
	distinct, hits := 0, 0
	for i := range want.count {
		if want.contains(i, &want, i) {
			continue
		}
		distinct++
		if has.contains(has.count, &want, i) {
			hits++
		}
	}
	if distinct == 0 {
		return fidelityFloor
	}
	return share(hits, distinct)
}

const (
	// What the fast path takes: one bit of a machine word for each byte, and few words.
	lineBytesMax = 64
	lineWordsMax = 8

	// Eight bytes at once, in a uint64.
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// line is a short string of printable ASCII, split into words.
type line struct {
	text   string
	count  int                  // of words
	heads  [lineWordsMax]uint64 // a word's first eight bytes in lower case, the first lowest; 0 beyond its end
	starts [lineWordsMax]uint8
	counts [lineWordsMax]uint8 // of a word's bytes
}

// split reads eight bytes at a time; false means that the string is none for a line.
func (l *line) split(s string) bool {
	if len(s) > lineBytesMax {
		return false
	}
	var words uint64 // bit i: byte i is in a word
	for at := 0; at < len(s); at += 8 {
		w := eight(s, at)
		if ((w-' '*ones)|w)&highs != 0 {
			return false // a control, or beyond ASCII
		}
		// Bytes are below 0x80: adding 0x7f sets the high bit of those that are not 0, without a carry.
		inWord := ((w ^ ' '*ones) + 0x7f*ones) & ((w ^ '_'*ones) + 0x7f*ones) & highs
		words |= (inWord >> 7 * 0x0102040810204080 >> 56) << (at & 63) // the eight bits beside each other
	}
	l.text = s
	for n := 0; words != 0; n++ {
		if n == lineWordsMax {
			return false
		}
		at := bits.TrailingZeros64(words)
		length := bits.TrailingZeros64(^(words >> (at & 63)))
		words &= words + 1<<(at&63) // the carry runs through the word
		head := lowerEight(eight(s, at))
		if length < 8 {
			head &= 1<<(8*length&63) - 1
		}
		l.heads[n], l.starts[n], l.counts[n] = head, uint8(at), uint8(length) //nolint:gosec // at most 64
		l.count = n + 1
	}
	return true
}

// eight returns the bytes of s from at on, the first lowest, and spaces beyond its end.
func eight(s string, at int) uint64 {
	left := len(s) - at
	if left >= 8 {
		return load(s[at : at+8])
	}
	if len(s) >= 8 {
		beyond := 8 * (8 - left) & 63
		return load(s[len(s)-8:])>>beyond | ^(^uint64(0)>>beyond)&(' '*ones)
	}
	w := uint64(' ' * ones)
	for i := len(s) - 1; i >= at; i-- {
		w = w<<8 | uint64(s[i])
	}
	return w
}

// load is one instruction on processors that can.
func load(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// lowerEight returns eight ASCII bytes in lower case.
func lowerEight(w uint64) uint64 {
	upper := (w + (0x80-'A')*ones) &^ (w + (0x80-'Z'-1)*ones) & highs
	return w + upper>>2 // 0x80>>2 is 'a'-'A'
}

// contains reports whether word i of another line is among the first n words of this one.
func (l *line) contains(n int, other *line, i int) bool {
	head, length := other.heads[i&7], other.counts[i&7]
	for j := range n {
		if l.heads[j&7] == head && l.counts[j&7] == length && (length <= 8 || l.tail(j) == other.tail(i) || sameWord(l.tail(j), other.tail(i))) {
			return true
		}
	}
	return false
}

// tail returns what follows the head of a word.
func (l *line) tail(i int) string {
	start := int(l.starts[i])
	return l.text[start+8 : start+int(l.counts[i])]
}

// wordsMax is how many words 512 bytes can hold.
const wordsMax = IntentBytesMax / 2

// word is one word of a string: s[start:end], and a hash of it in lower case.
type word struct {
	start, end uint16
	hash       uint32
}

// fidelityAny is fidelity for any strings.
//
//go:noinline
func fidelityAny(intent, name string) float64 {
	var wanted, has [wordsMax]word
	distinct := wanted[:split(&wanted, intent, IntentBytesMax)]
	distinct = distinct[:unique(intent, distinct)]
	if len(distinct) == 0 {
		return fidelityFloor
	}
	hits := 0
	names := has[:split(&has, name, NameBytesMax)]
	for _, w := range distinct {
		if contains(name, names, intent, w) {
			hits++
		}
	}
	return share(hits, len(distinct))
}

// split finds the words of a string of at most so many bytes.
func split(dst *[wordsMax]word, s string, bytesMax int) int {
	if len(s) > bytesMax {
		return 0
	}
	const (
		offset = 2166136261 // FNV-1a over code points
		prime  = 16777619
	)
	n, start, hash := 0, -1, uint32(offset)
	end := func(at int) {
		if start >= 0 {
			dst[n] = word{start: uint16(start), end: uint16(at), hash: hash} //nolint:gosec // both at most 512
			n++
		}
		start, hash = -1, offset
	}
	for i, r := range s {
		if isGap(r) {
			end(i)
			continue
		}
		if start < 0 {
			start = i
		}
		hash = (hash ^ uint32(lower(r))) * prime //nolint:gosec // a code point
	}
	end(len(s))
	return n
}

// unique moves the first of equal words to the front and returns how many there are.
func unique(s string, words []word) int {
	n := 0
	for _, w := range words {
		if !contains(s, words[:n], s, w) {
			words[n] = w
			n++
		}
	}
	return n
}

// contains reports whether a word of t is among words of s.
func contains(s string, words []word, t string, w word) bool {
	for _, has := range words {
		if has.hash == w.hash && sameWord(s[has.start:has.end], t[w.start:w.end]) {
			return true
		}
	}
	return false
}

// sameWord compares two words in lower case, code point by code point.
func sameWord(a, b string) bool {
	for {
		ra, na := decode(a)
		rb, nb := decode(b)
		if na == 0 || nb == 0 {
			return na == nb
		}
		if lower(ra) != lower(rb) {
			return false
		}
		a, b = a[na:], b[nb:]
	}
}

// decode returns the first code point of s and its length, 0 at the end.
func decode(s string) (r rune, length int) {
	for i, first := range s {
		if length > 0 {
			return r, i
		}
		r, length = first, len(s)
	}
	return r, length
}

// SplitWords returns the distinct words of a string in lower case, in the order in which they first
// appear: what [Words] takes. A string of more than [IntentBytesMax] bytes has none.
func SplitWords(s string) []string {
	var words [wordsMax]word
	found := words[:split(&words, s, IntentBytesMax)]
	found = found[:unique(s, found)]
	if len(found) == 0 {
		return nil
	}
	list := make([]string, len(found))
	for i, w := range found {
		list[i] = strings.Map(lower, s[w.start:w.end])
	}
	return list
}
