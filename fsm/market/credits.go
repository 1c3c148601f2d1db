package market

import (
	"fmt"
	"strconv"
	"strings"
)

// creditDigits are the decimals of a micro-credit.
const creditDigits = 6

// FormatCredits writes micro-credits as credits, such as 2.5, without needless zeros.
func FormatCredits(micro int64) string {
	sign, n := "", unsigned(micro)
	if micro < 0 {
		sign, n = "-", -n // also of the least number, which has no positive
	}
	text := fmt.Sprintf("%s%d.%0*d", sign, n/Credit, creditDigits, n%Credit)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

// ParseCredits reads credits, such as 2.5, into micro-credits. There are no signs, no exponents and at most six decimals.
func ParseCredits(text string) (int64, error) {
	whole, part, pointed := strings.Cut(text, ".")
	if whole == "" || pointed && part == "" || len(part) > creditDigits || strings.Trim(whole+part, "0123456789") != "" {
		return 0, fmt.Errorf("%.40q are no credits: write them such as 12 or 2.5, with at most %d decimals", text, creditDigits)
	}
	n, err := strconv.ParseInt(whole+part+strings.Repeat("0", creditDigits-len(part)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%.40q are more credits than there can be", text)
	}
	return n, nil
}
