package constitution

import (
	"strings"
	"unicode/utf8"
)

// Normalise brings a text into a form in which it can be compared: look-alikes become
// the ASCII characters that they imitate, invisible characters go, lines that a
// backslash continues are joined, quotes and backslashes go, $IFS and every run of
// blanks become one space, ASCII letters become small. It never makes a text longer.
func Normalise(text string) (string, error) {
	text = fold(text)
	b := make([]byte, 0, len(text))
	space := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' || c == '"' || c == '\'' || c == '`':
			if c == '\\' && i+1 < len(text) && text[i+1] == '\n' {
				i++
			}
			continue
		case c == '$':
			if n := ifsLen(text[i:]); n > 0 {
				i += n - 1
				space = true
				continue
			}
		case c == ' ' || c == '\t' || c == '\r':
			space = true
			continue
		case c == '\n':
			space = false
			b = append(b, '\n')
			continue
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		}
		if space && len(b) > 0 && b[len(b)-1] != '\n' {
			b = append(b, ' ')
		}
		space = false
		b = append(b, c)
	}
	return string(b), nil
}

func ifsLen(s string) int {
	for _, form := range []string{"${IFS}", "$IFS", "${ifs}", "$ifs"} {
		if strings.HasPrefix(s, form) {
			return len(form)
		}
	}
	return 0
}

// fold replaces what looks like ASCII and removes what cannot be seen.
func fold(text string) string {
	clean := true
	for i := range len(text) {
		if c := text[i]; c >= utf8.RuneSelf || c < ' ' && c != '\n' && c != '\t' && c != '\r' || c == 0x7f {
			clean = false
			break
		}
	}
	if clean {
		return text
	}
	return strings.Map(foldRune, text)
}

func foldRune(r rune) rune {
	switch {
	case r == '\n' || r == '\t' || r == '\r' || ' ' <= r && r < 0x7f:
		return r
	case r < ' ' || r == 0x7f || isInvisible(r):
		return -1
	case r == 0x85 || r == 0x2028 || r == 0x2029:
		return '\n'
	case r == 0xa0 || r == 0x1680 || 0x2000 <= r && r <= 0x200a || r == 0x202f || r == 0x205f || r == 0x3000:
		return ' '
	case 0xff01 <= r && r <= 0xff5e: // full width
		return r - 0xfee0
	case 0x2010 <= r && r <= 0x2015 || r == 0x2212 || r == 0xfe63:
		return '-'
	case 0x1d400 <= r && r < 0x1d6a4: // mathematical letters: 26 capitals, 26 small ones, in each style
		return styled((r - 0x1d400) % 52)
	case 0x1d7ce <= r && r <= 0x1d7ff:
		return '0' + (r-0x1d7ce)%10
	case 0x24b6 <= r && r <= 0x24e9: // in circles
		return styled((r - 0x24b6) % 52)
	}
	return lookAlike(r)
}

func styled(n rune) rune {
	if n < 26 {
		return 'A' + n
	}
	return 'a' + n - 26
}

func isInvisible(r rune) bool {
	switch {
	case r == 0x85:
		return false
	case 0x80 <= r && r < 0xa0, r == 0xad, r == 0x61c, r == 0x115f, r == 0x1160, r == 0x17b4, r == 0x17b5, r == 0x180e,
		0x200b <= r && r <= 0x200f, 0x202a <= r && r <= 0x202e, 0x2060 <= r && r <= 0x206f, r == 0x3164, r == 0xfeff, r == 0xffa0,
		0x300 <= r && r <= 0x36f, 0xfe00 <= r && r <= 0xfe0f, 0xe0000 <= r && r <= 0xe01ef:
		return true
	}
	return false
}

// lookAlike maps letters and signs that most fonts draw like an ASCII character
// (after the Unicode consortium's confusables, the part that serves to hide commands).
func lookAlike(r rune) rune {
	const (
		from = "абсԁеһіјкӏӀмопрԛѕтуѵԝхАВСЕНІЈКМОРЅТУХαικνορτυχΑΒΕΖΗΙΚΜΝΟΡΤΥΧɑɡıƖǀ∣⁄∕⧸‘’‛“”‟′″ꜱʀᴍ；：｜﹨∖⧵"
		to   = "abcdehijklImonpqstuvwxABCEHIJKMOPSTYXaikvoptuxABEZHIKMNOPTYXagiIll///'''\"\"\"'\"srm;:|\\\\\\"
	)
	if r < 0x100 || 0x3000 <= r && r < 0xa700 || r > 0xffff {
		return r
	}
	i := 0
	for _, f := range from {
		if f == r {
			return rune(to[i])
		}
		i++
	}
	return r
}
