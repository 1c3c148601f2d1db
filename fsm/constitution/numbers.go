package constitution

const (
	cardDigitsMin, cardDigitsMax = 13, 19
	ibanCharsMin, ibanCharsMax   = 15, 34
)

// HasCardNumber reports whether a text has the number of a payment card: 13 to 19
// digits, alone or in groups, that begin as an issuer's do and whose check digit is
// right (ISO/IEC 7812, Luhn). The numbers that payment providers publish for tests are
// not counted.
func HasCardNumber(text string) bool {
	var digits [cardDigitsMax]byte
	for i := 0; i < len(text); {
		if !isDigit(text[i]) {
			i++
			continue
		}
		n, j := 0, i
		for ; j < len(text); j++ {
			if isDigit(text[j]) {
				if n < cardDigitsMax {
					digits[n] = text[j] - '0' //nolint:gosec // j is below len(text)
				}
				n++
			} else if (text[j] != ' ' && text[j] != '-') || j+1 >= len(text) || !isDigit(text[j+1]) {
				break
			}
		}
		if n >= cardDigitsMin && n <= cardDigitsMax && !gluedTo(text, i, j) && isCard(digits[:n]) {
			return true
		}
		i = j
	}
	return false
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// gluedTo reports whether text[i:j] is a part of a word or of a decimal fraction.
func gluedTo(text string, i, j int) bool {
	return i > 0 && (isWord(text[i-1]) || text[i-1] == '.') || j < len(text) && isWord(text[j])
}

func isWord(c byte) bool {
	return isDigit(c) || c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

func isCard(d []byte) bool {
	sum := 0
	for i, c := range d {
		v := int(c)
		if (len(d)-i)%2 == 0 {
			if v *= 2; v > 9 {
				v -= 9
			}
		}
		sum += v
	}
	if sum%10 != 0 || isTestCard(d) {
		return false
	}
	two, four := int(d[0])*10+int(d[1]), int(d[0])*1000+int(d[1])*100+int(d[2])*10+int(d[3])
	switch {
	case d[0] == 4:
		return len(d) == 13 || len(d) == 16 || len(d) == 19
	case two >= 51 && two <= 55, four >= 2221 && four <= 2720, four == 6011, two == 65:
		return len(d) == 16
	case two == 34, two == 37:
		return len(d) == 15
	}
	return false
}

func isTestCard(d []byte) bool {
	text := make([]byte, 0, cardDigitsMax)
	different := 0
	seen := [10]bool{}
	for _, c := range d {
		text = append(text, c+'0')
		if !seen[c] {
			seen[c] = true
			different++
		}
	}
	if different <= 3 {
		return true // 4242…, 4111…, 5555…4444, 4000…0002
	}
	switch string(text) {
	case "378282246310005", "371449635398431", "6011111111111117", "6011000990139424", "5105105105105100",
		"4012888888881881", "2223003122003222", "4000056655665556", "5200828282828210", "4000000000009995":
		return true
	}
	return false
}

// HasIBAN reports whether a text has the number of a bank account: a country's two
// capital letters, two check digits that are right (ISO 13616, modulo 97) and as many
// characters as the country's numbers have, alone or in groups of four. Numbers that
// standards and providers publish as examples are not counted.
func HasIBAN(text string) bool {
	for i := 0; i+4 < len(text); i++ {
		if !isUpper(text[i]) || !isUpper(text[i+1]) || !isDigit(text[i+2]) || !isDigit(text[i+3]) || i > 0 && isWord(text[i-1]) {
			continue
		}
		if want := ibanLen(text[i : i+2]); want > 0 && isIBAN(text[i:], want) {
			return true
		}
	}
	return false
}

func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }

func isIBAN(text string, want int) bool {
	chars := make([]byte, 0, ibanCharsMax)
	i := 0
	for ; i < len(text) && len(chars) < want; i++ {
		switch c := text[i]; {
		case isDigit(c) || isUpper(c):
			chars = append(chars, c)
		case c == ' ' && len(chars)%4 == 0:
		default:
			return false
		}
	}
	if len(chars) < want || i < len(text) && isWord(text[i]) || isExampleIBAN(string(chars)) {
		return false
	}
	rest := 0
	for k := range want {
		c := chars[(k+4)%want]
		if isDigit(c) {
			rest = (rest*10 + int(c-'0')) % 97
		} else {
			rest = (rest*100 + int(c-'A') + 10) % 97
		}
	}
	return rest == 1
}

func isExampleIBAN(s string) bool {
	switch s {
	case "DE89370400440532013000", "GB82WEST12345698765432", "GB29NWBK60161331926819", "GB33BUKB20201555555555",
		"FR1420041010050500013M02606", "NL91ABNA0417164300", "CH9300762011623852957", "ES9121000418450200051332",
		"IT60X0542811101000000123456", "BE68539007547034", "AT611904300234573201", "SE4550000000058398257466":
		return true
	}
	return false
}

// ibanLen is how many characters a country's numbers have (SWIFT's registry), 0 for a
// country that is not looked for.
func ibanLen(country string) int {
	switch country {
	case "NO":
		return ibanCharsMin
	case "BE":
		return 16
	case "DK", "FI", "NL":
		return 18
	case "SI":
		return 19
	case "AT", "EE", "LT", "LU":
		return 20
	case "CH", "HR", "LI", "LV":
		return 21
	case "BG", "DE", "GB", "IE":
		return 22
	case "AE", "IL":
		return 23
	case "CZ", "ES", "RO", "SE", "SK", "SA":
		return 24
	case "PT":
		return 25
	case "IS", "TR":
		return 26
	case "FR", "GR", "IT", "MC", "SM":
		return 27
	case "AL", "CY", "HU", "LB", "PL":
		return 28
	case "MT":
		return 31
	}
	return 0
}
