package constitution

import (
	"strings"
	"unicode/utf8"
)

const (
	decodeDepthMax = 3  // encodings within each other
	runCharsMin    = 10 // of base64; what is shorter hides nothing
	hexCharsMin    = 12
)

// Decoded returns the text and, a line each, what is encoded in it: runs of base64
// (both alphabets) and of hexadecimal digits that decode to readable text, and the text
// itself with \xNN, \uNNNN, \NNN and %NN replaced, where there are any. It looks into
// what it decoded again, three times. It is an error if the whole becomes longer than
// TextBytesMax.
func Decoded(text string) (string, error) {
	if !mayDecode(text) {
		return text, nil
	}
	var b strings.Builder
	b.WriteString(text)
	level := []string{text}
	for range decodeDepthMax {
		var next []string
		for _, t := range level {
			next = appendDecodings(next, t)
		}
		for _, t := range next {
			if b.Len()+1+len(t) > TextBytesMax {
				return "", errTooLong
			}
			b.WriteByte('\n')
			b.WriteString(t)
		}
		if level = next; len(level) == 0 {
			break
		}
	}
	return b.String(), nil
}

// mayDecode is a quick no for most texts: no escape and no run that is long enough.
func mayDecode(text string) bool {
	run := 0
	for i := range len(text) {
		switch c := text[i]; {
		case c == '\\' || c == '%':
			return true
		case isBase64(c):
			if run++; run >= runCharsMin {
				return true
			}
		default:
			run = 0
		}
	}
	return false
}

func isBase64(c byte) bool { return sextet(c) < 64 }

// sextet is the value of a character of either base64 alphabet, 64 for any other.
func sextet(c byte) byte {
	switch {
	case 'A' <= c && c <= 'Z':
		return c - 'A'
	case 'a' <= c && c <= 'z':
		return c - 'a' + 26
	case '0' <= c && c <= '9':
		return c - '0' + 52
	case c == '+' || c == '-':
		return 62
	case c == '/' || c == '_':
		return 63
	}
	return 64
}

func appendDecodings(to []string, text string) []string {
	for i := 0; i < len(text); {
		if !isBase64(text[i]) {
			i++
			continue
		}
		start, hex := i, true
		for i < len(text) && isBase64(text[i]) {
			hex = hex && hexDigit(text[i]) < 16
			i++
		}
		run := text[start:i]
		if hex && len(run) >= hexCharsMin && len(run)%2 == 0 {
			if d, ok := decodeHex(run); ok {
				to = append(to, d)
			}
		}
		if len(run) >= runCharsMin {
			if d, ok := decodeBase64(run); ok {
				to = append(to, d)
			}
		}
	}
	if d := unescape(text); d != text {
		to = append(to, d)
	}
	return to
}

// decodeBase64 decodes a run, if what comes out is readable; most runs are words and
// paths, which show within a few bytes that they are no base64.
func decodeBase64(run string) (string, bool) {
	if len(run)%4 == 1 {
		return "", false
	}
	out := make([]byte, 0, 64)
	bits, have := uint32(0), 0
	for i := range len(run) {
		bits = bits<<6 | uint32(sextet(run[i]))
		if have += 6; have >= 8 {
			have -= 8
			c := byte(bits >> have & 0xff)
			if !isReadable(c) {
				return "", false
			}
			out = append(out, c)
		}
	}
	return string(out), utf8.Valid(out)
}

func decodeHex(run string) (string, bool) {
	out := make([]byte, 0, len(run)/2)
	for i := 0; i+1 < len(run); i += 2 {
		c := hexDigit(run[i])<<4 | hexDigit(run[i+1])
		if !isReadable(c) {
			return "", false
		}
		out = append(out, c)
	}
	return string(out), utf8.Valid(out)
}

func isReadable(c byte) bool {
	return ' ' <= c && c < 0x7f || c == '\n' || c == '\t' || c == '\r' || c >= 0xc2
}

func hexDigit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}

// unescape replaces \xNN, \uNNNN, octal \NNN and %NN of readable ASCII, and leaves all
// other text as it is.
func unescape(text string) string {
	if !strings.ContainsAny(text, `\%`) {
		return text
	}
	b := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		c, n := escapeAt(text[i:])
		if n == 0 || c < ' ' && c != '\n' && c != '\t' || c >= 0x7f {
			b = append(b, text[i])
			i++
			continue
		}
		b = append(b, byte(c))
		i += n
	}
	return string(b)
}

// escapeAt reads the escape that a text begins with; n is 0 if it begins with none.
func escapeAt(s string) (c uint32, n int) {
	number := func(from, digits, base int) (uint32, int) {
		v, i := uint32(0), from
		for ; i < len(s) && i < from+digits && int(hexDigit(s[i])) < base; i++ {
			v = v*uint32(base) + uint32(hexDigit(s[i])) //nolint:gosec // 8 or 16
		}
		return v, i - from
	}
	switch {
	case len(s) < 3:
		return 0, 0
	case s[0] == '%':
		if v, got := number(1, 2, 16); got == 2 {
			return v, 3
		}
	case s[0] != '\\':
	case s[1] == 'x':
		if v, got := number(2, 2, 16); got > 0 {
			return v, 2 + got
		}
	case s[1] == 'u':
		if v, got := number(2, 4, 16); got == 4 {
			return v, 6
		}
	case '0' <= s[1] && s[1] <= '3':
		digits := 3
		if s[1] == '0' {
			digits = 4 // echo's form has a zero before the three
		}
		if v, got := number(1, digits, 8); got >= 3 {
			return v, 1 + got
		}
	}
	return 0, 0
}
