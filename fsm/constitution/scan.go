package constitution

import "strings"

// scanner finds which of many literals occur in a text, whatever their case, in one
// pass: the automaton of Aho and Corasick (Communications of the ACM 18, 1975) with
// every transition worked out, over classes of bytes, so that the table stays small.
type scanner struct {
	literals int
	class    [256]uint8 // 0: in no literal
	classes  int
	next     []uint16   // state·classes + class
	found    [][]uint16 // by state: the literals that end there
}

func newScanner(texts []string) *scanner {
	s := &scanner{literals: len(texts), classes: 1}
	for _, t := range texts {
		for i := range len(t) {
			if b := lowerByte(t[i]); s.class[b] == 0 && s.classes < 255 {
				s.class[b] = uint8(s.classes) //nolint:gosec // below 255
				s.classes++
			}
		}
	}
	for b := byte('A'); b <= 'Z'; b++ {
		s.class[b] = s.class[lowerByte(b)]
	}
	s.addState()
	for id, t := range texts {
		state := uint16(0)
		for i := range len(t) {
			at := int(state)*s.classes + int(s.class[t[i]])
			if s.next[at] == 0 {
				s.next[at] = s.addState()
			}
			state = s.next[at]
		}
		s.found[state] = append(s.found[state], uint16(id))
	}
	s.link()
	return s
}

func lowerByte(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}

func (s *scanner) addState() uint16 {
	s.next = append(s.next, make([]uint16, s.classes)...)
	s.found = append(s.found, nil)
	return uint16(len(s.found) - 1) //nolint:gosec // at most literalsBytesMax
}

// link turns the tree of literals into the automaton, breadth first.
func (s *scanner) link() {
	fail := make([]uint16, len(s.found))
	queue := make([]uint16, 0, len(s.found))
	for c := range s.classes {
		if child := s.next[c]; child != 0 {
			queue = append(queue, child)
		}
	}
	for i := 0; i < len(queue); i++ {
		state := queue[i]
		f := fail[state]
		s.found[state] = append(s.found[state], s.found[f]...)
		for c := range s.classes {
			child := &s.next[int(state)*s.classes+c]
			other := s.next[int(f)*s.classes+c]
			if *child == 0 {
				*child = other
				continue
			}
			fail[*child] = other
			queue = append(queue, *child)
		}
	}
}

// words is how many 64-bit words the bits of all literals take.
func (s *scanner) words() int { return (s.literals + 63) / 64 }

// scan sets the bits of the literals that occur in text.
func (s *scanner) scan(text string, found []uint64) {
	if s.literals == 0 {
		return
	}
	// The two characters beyond ASCII that (?i) takes for an ASCII letter (k and s).
	if strings.Contains(text, "\u212a") || strings.Contains(text, "\u017f") {
		for i := range found {
			found[i] = ^uint64(0)
		}
		return
	}
	state := 0
	for i := range len(text) {
		state = int(s.next[state*s.classes+int(s.class[text[i]])])
		for _, id := range s.found[state] {
			found[id/64] |= 1 << (id % 64)
		}
	}
}
