package pci

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Limits of an envelope. Sizes hold for the text as received and again for its
// canonical form, because escaping can make a text six times as long.
const (
	EnvelopeBytesMax = 48 << 10
	DepthMax         = 32
)

// Limits bounds what [Parse] reads. A field that is zero or below means the limit
// of an envelope.
type Limits struct {
	BytesMax int // of the text as received, and of its canonical form
	DepthMax int // arrays and objects within each other, the outermost counted
}

func (l Limits) withDefaults() Limits {
	if l.BytesMax <= 0 {
		l.BytesMax = EnvelopeBytesMax
	}
	if l.DepthMax <= 0 {
		l.DepthMax = DepthMax
	}
	return l
}

// scanner reads strict JSON and writes its canonical form as it goes. There is no
// second reader for input that is canonical already: then what it wrote equals what
// it read, and nothing can be accepted by one path and refused by another.
type scanner struct {
	src     []byte
	pos     int // next byte of src
	dst     []byte
	depth   int
	lim     Limits
	scratch []byte // for putting members in order
}

// canonicalise returns the canonical form of a JSON text and the kind of its value,
// or a *Reject.
func canonicalise(src []byte, lim Limits) ([]byte, Kind, error) {
	lim = lim.withDefaults()
	if len(src) > lim.BytesMax {
		return nil, 0, Rejectf(RejectSchema, "the document has %d bytes, at most %d are allowed", len(src), lim.BytesMax)
	}
	s := scanner{src: src, dst: make([]byte, 0, len(src)), lim: lim}
	kind, err := s.value()
	if err != nil {
		return nil, 0, err
	}
	if s.space(); s.pos < len(src) {
		return nil, 0, s.fault("the document must end after its value, not go on with %s", s.shown())
	}
	return s.dst, kind, nil
}

func (s *scanner) fault(format string, args ...any) error {
	r := Rejectf(RejectSchema, format, args...)
	r.Detail = "byte " + strconv.Itoa(s.pos) + ": " + r.Detail
	return r
}

// shown names the next byte in a detail.
func (s *scanner) shown() string {
	if s.pos >= len(s.src) {
		return "the end of the text"
	}
	return strconv.QuoteToASCII(string(s.src[s.pos : s.pos+1]))
}

func (s *scanner) space() {
	for s.pos < len(s.src) {
		switch s.src[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// peek returns the next byte, 0 at the end; a 0 byte is legal nowhere outside a string.
func (s *scanner) peek() byte {
	if s.pos < len(s.src) {
		return s.src[s.pos]
	}
	return 0
}

func (s *scanner) value() (kind Kind, err error) {
	s.space()
	switch c := s.peek(); c {
	case '{':
		kind, err = ObjectKind, s.nested(s.object)
	case '[':
		kind, err = ArrayKind, s.nested(s.array)
	case '"':
		kind, err = StringKind, s.text()
	case 't':
		kind, err = BoolKind, s.literal("true")
	case 'f':
		kind, err = BoolKind, s.literal("false")
	case 'n':
		kind, err = NullKind, s.literal("null")
	default:
		if c != '-' && (c < '0' || c > '9') {
			return 0, s.fault("a JSON value is wanted here, not %s", s.shown())
		}
		kind, err = NumberKind, s.number()
	}
	if err == nil && len(s.dst) > s.lim.BytesMax {
		err = s.fault("the canonical form has more than %d bytes here already, which is all that is allowed", s.lim.BytesMax)
	}
	return kind, err
}

func (s *scanner) nested(read func() error) error {
	if s.depth == s.lim.DepthMax {
		return s.fault("arrays and objects are nested more than %d deep", s.lim.DepthMax)
	}
	s.depth++
	err := read()
	s.depth--
	return err
}

func (s *scanner) literal(word string) error {
	if !bytes.HasPrefix(s.src[s.pos:], []byte(word)) {
		return s.fault("a JSON value is wanted here, not %s", s.shown())
	}
	s.pos += len(word)
	s.dst = append(s.dst, word...)
	return nil
}

func (s *scanner) array() error {
	s.pos++
	s.dst = append(s.dst, '[')
	if s.space(); s.peek() == ']' {
		s.pos++
		s.dst = append(s.dst, ']')
		return nil
	}
	for {
		if _, err := s.value(); err != nil {
			return err
		}
		s.space()
		switch s.peek() {
		case ',':
			s.pos++
			s.dst = append(s.dst, ',')
		case ']':
			s.pos++
			s.dst = append(s.dst, ']')
			return nil
		default:
			return s.fault("',' or ']' is wanted here, not %s", s.shown())
		}
	}
}

// member is where a member of an object lies in dst: its name, with quotes, up to
// nameEnd, and its value up to end.
type member struct{ start, nameEnd, end int }

func (s *scanner) inner(m member) []byte { return s.dst[m.start+1 : m.nameEnd-1] }

func (s *scanner) object() error {
	s.pos++
	s.dst = append(s.dst, '{')
	if s.space(); s.peek() == '}' {
		s.pos++
		s.dst = append(s.dst, '}')
		return nil
	}
	var room [12]member
	members, ordered := room[:0], true
	for {
		m, err := s.member()
		if err != nil {
			return err
		}
		if n := len(members); n > 0 && compareInner(s.inner(members[n-1]), s.inner(m)) >= 0 {
			ordered = false
		}
		members = append(members, m)
		s.space()
		switch s.peek() {
		case ',':
			s.pos++
			s.dst = append(s.dst, ',')
		case '}':
			if !ordered {
				if err := s.order(members); err != nil {
					return err
				}
			}
			s.pos++
			s.dst = append(s.dst, '}')
			return nil
		default:
			return s.fault("',' or '}' is wanted here, not %s", s.shown())
		}
	}
}

func (s *scanner) member() (member, error) {
	m := member{start: len(s.dst)}
	if s.space(); s.peek() != '"' {
		return m, s.fault("the name of a member is wanted here, not %s", s.shown())
	}
	if err := s.text(); err != nil {
		return m, err
	}
	m.nameEnd = len(s.dst)
	if s.space(); s.peek() != ':' {
		return m, s.fault("':' is wanted here, not %s", s.shown())
	}
	s.pos++
	s.dst = append(s.dst, ':')
	_, err := s.value()
	m.end = len(s.dst)
	return m, err
}

// order sorts the members just written, which end dst, and refuses equal names.
func (s *scanner) order(members []member) error {
	slices.SortFunc(members, func(a, b member) int { return compareInner(s.inner(a), s.inner(b)) })
	start := members[0].start
	for i, m := range members[1:] {
		if bytes.Equal(s.inner(members[i]), s.inner(m)) {
			return s.fault("the object that ends here has the member %s twice", quote(unescape(string(s.inner(m)))))
		}
		start = min(start, m.start)
	}
	s.scratch = append(s.scratch[:0], s.dst[start:]...)
	s.dst = s.dst[:start]
	for i, m := range members {
		if i > 0 {
			s.dst = append(s.dst, ',')
		}
		s.dst = append(s.dst, s.scratch[m.start-start:m.end-start]...)
	}
	return nil
}

// text reads a string, quotes and all.
func (s *scanner) text() error {
	s.pos++
	s.dst = append(s.dst, '"')
	for {
		n := plainLen(s.src[s.pos:])
		s.dst = append(s.dst, s.src[s.pos:s.pos+n]...)
		s.pos += n
		if s.pos == len(s.src) {
			return s.fault("the text ends inside a string")
		}
		switch c := s.src[s.pos]; {
		case c == '"':
			s.pos++
			s.dst = append(s.dst, '"')
			return nil
		case c == '\\':
			if err := s.escape(); err != nil {
				return err
			}
		case c < 0x20:
			return s.fault("a control character in a string must be written as an escape")
		default:
			r, size := utf8.DecodeRune(s.src[s.pos:])
			if r == utf8.RuneError && size == 1 {
				return s.fault("the text is not valid UTF-8")
			}
			s.dst = appendEscaped(s.dst, r)
			s.pos += size
		}
	}
}

func (s *scanner) escape() error {
	rest := s.src[s.pos:]
	if len(rest) < 2 {
		return s.fault("the text ends inside an escape")
	}
	var r rune
	size := 2
	switch rest[1] {
	case '"', '\\', '/':
		r = rune(rest[1])
	case 'b':
		r = '\b'
	case 'f':
		r = '\f'
	case 'n':
		r = '\n'
	case 'r':
		r = '\r'
	case 't':
		r = '\t'
	case 'u':
		if r, size = unicodeEscape(rest); r < 0 {
			return s.fault(`\u must be followed by four hex digits, and half of a surrogate pair by the other half`)
		}
	default:
		return s.fault("a backslash may not be followed by %s", strconv.QuoteToASCII(string(rest[1:2])))
	}
	s.dst = appendEscaped(s.dst, r)
	s.pos += size
	return nil
}

// unicodeEscape reads \uXXXX, or two of them that make a surrogate pair, at the
// start of rest; the rune is -1 if they are malformed or a surrogate is alone.
func unicodeEscape(rest []byte) (r rune, size int) {
	if len(rest) < 6 {
		return -1, 0
	}
	r = hexUnit(rest[2:6])
	switch {
	case r < 0xd800 || r > 0xdfff:
		return r, 6
	case r >= 0xdc00 || len(rest) < 12 || rest[6] != '\\' || rest[7] != 'u':
		return -1, 0
	}
	low := hexUnit(rest[8:12])
	if low < 0xdc00 || low > 0xdfff {
		return -1, 0
	}
	return (r-0xd800)<<10 + low - 0xdc00 + 0x10000, 12
}

// number reads a number token and keeps it as it is.
func (s *scanner) number() error {
	n, whole := numberLen(s.src[s.pos:])
	if n == 0 {
		return s.fault("a number must be written as JSON demands")
	}
	token := s.src[s.pos : s.pos+n]
	if !finite(token, whole) {
		return s.fault("a number must not be beyond ±%v", math.MaxFloat64)
	}
	s.dst = append(s.dst, token...)
	s.pos += n
	return nil
}

// numberLen returns the length of the number token at the start of b, 0 if there is
// none, and whether it has neither point nor exponent.
func numberLen[T string | []byte](b T) (n int, whole bool) {
	i := 0
	digits := func() bool {
		start := i
		for i < len(b) && b[i] >= '0' && b[i] <= '9' {
			i++
		}
		return i > start
	}
	if i < len(b) && b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++ // and no digit after it: what follows then is no part of a JSON text
	} else if !digits() {
		return 0, false
	}
	whole = true
	if i < len(b) && b[i] == '.' {
		whole = false
		i++
		if !digits() {
			return 0, false
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		whole = false
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if !digits() {
			return 0, false
		}
	}
	return i, whole
}

// finite reports whether a number token fits a float64. A float64 reaches 1.7e308,
// so up to 300 bytes only an exponent can carry a token beyond it.
func finite(token []byte, whole bool) bool {
	const surelyBytesMax = 300
	if len(token) <= surelyBytesMax && (whole || !bytes.ContainsAny(token, "eE")) {
		return true
	}
	f, err := strconv.ParseFloat(string(token), 64)
	return err == nil && !math.IsInf(f, 0)
}
