package pci

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// plain reports whether a byte stands for itself in a canonical string.
func plain(c byte) bool { return c >= 0x20 && c <= 0x7e && c != '"' && c != '\\' }

// plainLen returns how many bytes at the start of b stand for themselves. It looks
// at eight at a time, for most of an envelope is such text.
func plainLen(b []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; len(b)-n >= 8; n += 8 {
		w := binary.LittleEndian.Uint64(b[n:])
		quotes, slashes, deletes := w^'"'*ones, w^'\\'*ones, w^0x7f*ones
		// A byte's top bit is set in x-ones&^x if it is 0 in x, in w-0x20*ones&^w if
		// it is below 0x20 in w. A borrow may set those above it as well, never one below.
		special := (quotes-ones)&^quotes | (slashes-ones)&^slashes | (deletes-ones)&^deletes | (w-0x20*ones)&^w | w
		if special &= tops; special != 0 {
			return n + bits.TrailingZeros64(special)/8
		}
	}
	for n < len(b) && plain(b[n]) {
		n++
	}
	return n
}

// AppendString appends s as a canonical JSON string. s must be valid UTF-8; bytes
// that are not become U+FFFD.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		start := i
		for i < len(s) && plain(s[i]) {
			i++
		}
		dst = append(dst, s[start:i]...)
		if i < len(s) {
			r, size := utf8.DecodeRuneInString(s[i:])
			dst = appendEscaped(dst, r)
			i += size
		}
	}
	return append(dst, '"')
}

// appendEscaped appends one character in its canonical form.
func appendEscaped(dst []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(dst, '\\', byte(r))
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	switch {
	case r >= 0x20 && r <= 0x7e:
		return append(dst, byte(r))
	case r > 0xffff:
		r -= 0x10000
		return appendUnit(appendUnit(dst, 0xd800+r>>10), 0xdc00+r&0x3ff)
	}
	return appendUnit(dst, r)
}

// appendUnit appends one UTF-16 code unit as \uXXXX.
func appendUnit(dst []byte, u rune) []byte {
	return append(dst, '\\', 'u', hexDigits[u>>12&15], hexDigits[u>>8&15], hexDigits[u>>4&15], hexDigits[u&15])
}

// AppendFloat appends the signer's text of f: the shortest decimal that reads back
// as f, always with a point or an exponent, with an exponent below 1e-4 and from
// 1e16 on (Python's repr). JSON has no token for NaN and the infinities; they are
// written as null, so callers that may have one check first.
func AppendFloat(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
	if bytes.IndexByte(dst[start:], '.') < 0 {
		dst = append(dst, ".0"...)
	}
	return dst
}

// nextRune decodes the first character of the inside of a canonical string. The
// text has been through the scanner: escapes are whole and surrogates paired.
func nextRune[T string | []byte](s T) (r rune, size int) {
	if s[0] != '\\' {
		return rune(s[0]), 1
	}
	switch s[1] {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		u := hexUnit(s[2:6])
		if u < 0xd800 || u > 0xdfff {
			return u, 6
		}
		return (u-0xd800)<<10 + hexUnit(s[8:12]) - 0xdc00 + 0x10000, 12
	}
	return rune(s[1]), 2
}

// hexUnit reads four hex digits; it returns -1 if one of them is none.
func hexUnit[T string | []byte](s T) rune {
	var u rune
	for i := range 4 {
		d := hexValue(s[i])
		if d < 0 {
			return -1
		}
		u = u<<4 | d
	}
	return u
}

func hexValue(c byte) rune {
	switch {
	case c >= '0' && c <= '9':
		return rune(c - '0')
	case c >= 'a' && c <= 'f':
		return rune(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return rune(c-'A') + 10
	}
	return -1
}

// compareInner orders the insides of two canonical strings by Unicode code point.
// Escapes begin with a backslash, so their bytes do not sort as what they mean.
func compareInner(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] && a[n] != '\\' {
		n++
	}
	for a, b = a[n:], b[n:]; len(a) > 0 && len(b) > 0; {
		ra, na := nextRune(a)
		rb, nb := nextRune(b)
		if ra != rb {
			return cmp.Compare(ra, rb)
		}
		a, b = a[na:], b[nb:]
	}
	return cmp.Compare(len(a), len(b))
}

// unescape returns the text that the inside of a canonical string stands for.
func unescape(inner string) string {
	i := strings.IndexByte(inner, '\\')
	if i < 0 {
		return inner
	}
	text := make([]byte, i, len(inner))
	copy(text, inner)
	for rest := inner[i:]; len(rest) > 0; {
		r, size := nextRune(rest)
		text = utf8.AppendRune(text, r)
		rest = rest[size:]
	}
	return string(text)
}
