package fate

// lower returns the lower-case form of a code point, as one code point: İ gives i and a final Σ
// gives σ, where a mapping of whole words would give i with a dot above, and ς.
func lower(r rune) rune {
	if r < 0x80 {
		if 'A' <= r && r <= 'Z' {
			return r + ('a' - 'A')
		}
		return r
	}
	low, high := 0, len(lowerRanges)
	for low < high {
		middle := (low + high) / 2
		if lowerRanges[middle].to < r {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == len(lowerRanges) {
		return r
	}
	m := &lowerRanges[low]
	if r < m.from || (r-m.from)%m.step != 0 {
		return r
	}
	return r + m.delta
}

// isGap reports whether a code point separates words: '_' and what Unicode holds to be white space,
// with the separators U+001C to U+001F, which the reference (Python) counts among it.
func isGap(r rune) bool {
	switch {
	case r == '_', r == ' ', '\t' <= r && r <= '\r', 0x1c <= r && r <= 0x1f:
		return true
	case r < 0x80:
		return false
	}
	switch r {
	case 0x85, 0xa0, 0x1680, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000:
		return true
	}
	return 0x2000 <= r && r <= 0x200a
}
