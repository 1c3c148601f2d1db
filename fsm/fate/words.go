package fate

import (
	"encoding/binary"
	"math/bits"
	"strings"
)

// fidelity returns the fidelity of an operation to the intent that was declared for it.
func fidelity(intent, name string) float64 {
	var want, has line
	var chunks [lineBytesMax/8 + 1]uint64
	if !want.split(intent, &chunks) || !has.split(name, &chunks) {
		return fidelityAny(intent, name)
	}
	distinct, hits := 0, 0
words:
	for i := range want.count {
		head, short := want.heads[i&7], want.lengths[i&7] <= 8
		for j := range i {
			if want.heads[j&7] == head && (short && want.lengths[j&7] <= 8 || sameTail(&want, intent, j, &want, intent, i)) {
				continue words
			}
		}
		distinct++
		for j := range has.count {
			if has.heads[j&7] == head && (short && has.lengths[j&7] <= 8 || sameTail(&has, name, j, &want, intent, i)) {
				hits++
				break
			}
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

// line is where the words of a short string of printable ASCII are.
type line struct {
	count   uint                 // of words
	heads   [lineWordsMax]uint64 // a word's first eight bytes in lower case, the first lowest; 0 beyond its end
	lengths [lineWordsMax]uint8  // in bytes
	starts  [lineWordsMax]uint8
}

// split reads eight bytes at a time; false means that the string is none for a line. In chunks it keeps the text in
// lower case; what an earlier text left there does no harm.
func (l *line) split(s string, chunks *[lineBytesMax/8 + 1]uint64) bool {
	if len(s) > lineBytesMax {
		return false
	}
	text := []byte(s) // no copy: nothing writes to it
	var words uint64  // bit i: byte i is in a word
	for at := uint(0); at < uint(len(text)); at += 8 {
		var w uint64
		if left := text[at:]; len(left) >= 8 {
			w = binary.LittleEndian.Uint64(left)
		} else {
			w = rest(text, left)
		}
		if ((w-' '*ones)|w)&highs != 0 {
			return false // a control, or beyond ASCII
		}
		// Bytes are below 0x80: adding 0x7f sets the high bit of those that are not 0, without a carry.
		inWord := ((w ^ ' '*ones) + 0x7f*ones) & ((w ^ '_'*ones) + 0x7f*ones) & highs
		words |= (inWord >> 7 * 0x0102040810204080 >> 56) << (at & 63) // the eight bits beside each other
		chunks[at/8&7] = lowerEight(w)
	}
	n := uint(0)
	for ; words != 0; n++ {
		if n == lineWordsMax {
			return false
		}
		beyond := words + words&-words // the carry runs through the word to the bit after it
		at := uint(bits.TrailingZeros64(words))
		length := uint(bits.TrailingZeros64(beyond)) - at
		words &= beyond
		shift := at % 8 * 8
		head := chunks[at/8&7]>>(shift&63) | chunks[at/8&7+1]<<1<<((63-shift)&63)
		head &= ^uint64(0) >> ((64 - 8*min(length, 8)) & 63)
		l.heads[n], l.starts[n], l.lengths[n] = head, uint8(at), uint8(length) //nolint:gosec // at most 64
	}
	l.count = n
	return true
}

// rest returns the fewer than eight bytes left of a text, the first lowest, and spaces beyond its end.
func rest(text, left []byte) uint64 {
	beyond := (64 - 8*uint(len(left))) & 63
	spaces := ^(^uint64(0) >> beyond) & (' ' * ones)
	if len(text) >= 8 {
		return binary.LittleEndian.Uint64(text[len(text)-8:])>>beyond | spaces
	}
	var w uint64
	for i := len(left) - 1; i >= 0; i-- {
		w = w<<8 | uint64(left[i])
	}
	return w | spaces
}

// lowerEight returns eight ASCII bytes in lower case.
func lowerEight(w uint64) uint64 {
	upper := (w + (0x80-'A')*ones) &^ (w + (0x80-'Z'-1)*ones) & highs
	return w + upper>>2 // 0x80>>2 is 'a'-'A'
}

// sameTail reports whether word i of a text is word j of another, their heads being equal. (A head shows
// where a word of up to eight bytes ends, as no byte is 0.)
func sameTail(a *line, text string, i uint, b *line, other string, j uint) bool {
	n := a.lengths[i&7]
	if n != b.lengths[j&7] {
		return false
	}
	x, y := a.starts[i&7], b.starts[j&7]
	return n <= 8 || sameWord(text[x+8:x+n], other[y+8:y+n])
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
