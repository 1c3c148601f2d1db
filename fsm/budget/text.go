package budget

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/bizra/bizra/fsm/exact"
)

const (
	// TextBytesMax is the size of the longest text that is measured.
	TextBytesMax = 1 << 20
	// EntropyOfNothing is the entropy that no text at all counts as.
	EntropyOfNothing = 0.5
)

// ErrText is returned for a text of more than [TextBytesMax] bytes.
var ErrText = errors.New("budget: text too long")

// Text is what is measured of a text.
type Text struct {
	// Length is in code points.
	Length int
	// Entropy is the Shannon entropy of the text's code points divided by the logarithm of the number of
	// different ones, in [0, 1]; 0 if all are the same, [EntropyOfNothing] for the empty text.
	Entropy float64
}

// Measure measures a text. Each byte that is not part of valid UTF-8 counts as U+FFFD. It allocates
// only for code points beyond ASCII, 1 KiB for each 256 neighbours of which one occurs. The error is [ErrText].
func Measure(text string) (Text, error) {
	if len(text) > TextBytesMax {
		return Text{}, fmt.Errorf("%w: %d bytes, at most %d are measured", ErrText, len(text), TextBytesMax)
	}
	var counts [utf8.RuneSelf]uint32
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return measureAny(text), nil
		}
		counts[text[i]]++
	}
	var s spread
	s.add(counts[:])
	return s.text(len(text)), nil
}

// pageRunes is how many neighbouring code points share a page of counts.
const pageRunes = 256

// measureAny counts in pages, so that the sum over them runs in the order of code points, which does not
// depend on the order in which they occur.
func measureAny(text string) Text {
	var pages [(utf8.MaxRune + 1) / pageRunes]*[pageRunes]uint32
	length := 0
	for _, r := range text {
		page := pages[r/pageRunes]
		if page == nil {
			page = new([pageRunes]uint32)
			pages[r/pageRunes] = page
		}
		page[r%pageRunes]++
		length++
	}
	var s spread
	for _, page := range pages {
		if page != nil {
			s.add(page[:])
		}
	}
	return s.text(length)
}

// spread is what entropy needs of the counts.
type spread struct {
	different int
	sum       float64 // of count·log(count)
}

func (s *spread) add(counts []uint32) {
	for _, n := range counts {
		if n == 0 {
			continue
		}
		s.different++
		if n > 1 {
			s.sum += float64(float64(n) * exact.Log(float64(n)))
		}
	}
}

// text uses −Σ p·log p = log N − (Σ n·log n)/N, for p = n/N.
func (s *spread) text(length int) Text {
	switch s.different {
	case 0:
		return Text{Entropy: EntropyOfNothing}
	case 1:
		return Text{Length: length}
	}
	entropy := (exact.Log(float64(length)) - s.sum/float64(length)) / exact.Log(float64(s.different))
	return Text{Length: length, Entropy: exact.Clamp01(entropy)}
}
