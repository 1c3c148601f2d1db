package fate

import (
	"fmt"
	"slices"
	"strings"
)

// Part is what a score is made of.
type Part string

// The parts, in the order of the dimensions that they belong to.
const (
	PartIntent         Part = "intent"
	PartExecutionID    Part = "execution_id"
	PartTimestamp      Part = "timestamp"
	PartTrace          Part = "trace"
	PartMetadata       Part = "metadata"
	PartName           Part = "name"
	PartType           Part = "type"
	PartInput          Part = "input"
	PartDescription    Part = "description" // or a rationale
	PartSNR            Part = "snr"
	PartPII            Part = "pii_detected"
	PartToxicity       Part = "toxicity_detected"
	PartEthicsViolated Part = "ethics_violation"
	PartRule           Part = "rule" // a denial, of any dimension
)

// Gap is a part that lowers a score.
type Gap struct {
	Dimension Dimension `json:"dimension"`
	Part      Part      `json:"part"`
	// Missing says that the part was not given at all; otherwise it was, and is too low or speaks against
	// the operation.
	Missing bool `json:"missing"`
	// Gain is how much the dimension's score rises when this part and those before it in the list are mended.
	Gain float64 `json:"gain"`
	// Composite is the composite score then.
	Composite float64 `json:"composite"`
	// Required says that the operation does not pass with only those before it mended.
	Required bool `json:"required"`
	// Least is, for the SNR score, the lowest that passes with the other Required parts mended, rounded up to
	// four decimals; 0 for others, and if none would do.
	Least float64 `json:"least,omitempty"`
	// Words are, for the intent, those of its words that the operation's name lacks.
	Words []string `json:"words,omitempty"`
	// Rule is the name of the rule, if one denied.
	Rule string `json:"rule,omitempty"`
}

// String says what to do about the gap.
func (g Gap) String() string {
	switch {
	case g.Part == PartRule:
		return fmt.Sprintf("%v: the rule %q denies this", g.Dimension, g.Rule)
	case g.Part == PartIntent && !g.Missing:
		return fmt.Sprintf("%v: the operation's name lacks the intent's %s", g.Dimension, strings.Join(g.Words, ", "))
	case g.Part == PartSNR && g.Least > 0:
		return fmt.Sprintf("%v: snr must be at least %.4f", g.Dimension, g.Least)
	case g.Part == PartSNR:
		return fmt.Sprintf("%v: snr is too low", g.Dimension)
	case g.Part == PartDescription:
		return fmt.Sprintf("%v: give a description or a rationale", g.Dimension)
	case g.Missing:
		return fmt.Sprintf("%v: give %s", g.Dimension, g.Part)
	default:
		return fmt.Sprintf("%v: %s speaks against it", g.Dimension, g.Part)
	}
}

// draft is an operation on its way to passing.
type draft struct {
	o       Operation
	intent  float64 // fidelity
	denials []Denial
}

func (d *draft) scores() Scores {
	s := d.o.scores(d.intent)
	for _, denial := range d.denials {
		s = s.zeroed(denial.Dimension)
	}
	return s
}

// mended returns the draft with a gap closed.
func (d draft) mended(g Gap) draft {
	switch g.Part {
	case PartIntent:
		d.intent = 1
	case PartExecutionID:
		d.o.HasExecutionID = true
	case PartTimestamp:
		d.o.HasTimestamp = true
	case PartTrace:
		d.o.HasTrace = true
	case PartMetadata:
		d.o.HasMetadata = true
	case PartName:
		d.o.Name = "named"
	case PartType:
		d.o.Type = "typed"
	case PartInput:
		d.o.HasInput = true
	case PartDescription:
		d.o.HasDescription = true
	case PartSNR:
		d.o.HasSNR, d.o.SNR = true, 1
	case PartPII:
		d.o.HasMetadata = true
		d.o.PIIDetected = false
	case PartToxicity:
		d.o.HasMetadata = true
		d.o.ToxicityDetected = false
	case PartEthicsViolated:
		d.o.HasMetadata = true
		d.o.EthicsViolation = false
	case PartRule:
		left := make([]Denial, 0, len(d.denials))
		for _, denial := range d.denials {
			if denial != (Denial{Dimension: g.Dimension, Rule: g.Rule}) {
				left = append(left, denial)
			}
		}
		d.denials = left
	}
	return d
}

// found lists what lowers the scores, in the order of the parts.
func (d *draft) found() []Gap {
	o := &d.o
	var gaps []Gap
	add := func(holds bool, dimension Dimension, part Part, missing bool) {
		if holds {
			gaps = append(gaps, Gap{Dimension: dimension, Part: part, Missing: missing})
		}
	}
	for _, denial := range d.denials {
		g := Gap{Dimension: denial.Dimension, Part: PartRule, Rule: denial.Rule}
		if !slices.ContainsFunc(gaps, func(h Gap) bool { return h.Dimension == g.Dimension && h.Rule == g.Rule }) {
			gaps = append(gaps, g)
		}
	}
	if d.intent < 1 {
		g := Gap{Dimension: Fidelity, Part: PartIntent, Words: lacking(o)}
		g.Missing = len(g.Words) == 0
		gaps = append(gaps, g)
	}
	add(!o.HasExecutionID, Accountability, PartExecutionID, true)
	add(!o.HasTimestamp, Accountability, PartTimestamp, true)
	add(!o.HasTrace, Accountability, PartTrace, true)
	add(!o.hasMetadata(), Accountability, PartMetadata, true)
	add(o.Name == "", Accountability, PartName, true)
	add(!o.hasType(), Transparency, PartType, true)
	add(!o.HasInput, Transparency, PartInput, true)
	add(!o.HasDescription && !o.HasRationale, Transparency, PartDescription, true)
	add(!o.HasSNR || o.SNR != 1, Ethics, PartSNR, !o.HasSNR)
	add(o.PIIDetected, Ethics, PartPII, false)
	add(o.ToxicityDetected, Ethics, PartToxicity, false)
	add(o.EthicsViolation, Ethics, PartEthicsViolated, false)
	return gaps
}

// lacking returns the words of the intent that the name lacks.
func lacking(o *Operation) []string {
	has := SplitWords(o.Name)
	return slices.DeleteFunc(SplitWords(o.Intent), func(word string) bool { return slices.Contains(has, word) })
}

// gaps orders what lowers the scores by what helps most, one after the other, for a composite that is a
// product is mended by its lowest factors. It is called for refusals alone.
func (p Policy) gaps(o *Operation, denials []Denial) []Gap {
	now := draft{o: *o, intent: fidelity(o.Intent, o.Name), denials: denials}
	open := now.found()
	list := make([]Gap, 0, len(open))
	passed := false
	for len(open) > 0 {
		best, bestComposite := 0, -1.0
		for i, g := range open {
			then := now.mended(g)
			// What denies goes first: nothing else helps while it stands.
			if c := p.Composite(then.scores()); c > bestComposite && (len(now.denials) == 0 || g.Part == PartRule) {
				best, bestComposite = i, c
			}
		}
		g := open[best]
		open = slices.Delete(open, best, best+1)
		then := now.mended(g)
		g.Gain = then.scores().Of(g.Dimension) - now.scores().Of(g.Dimension)
		g.Composite = bestComposite
		g.Required = !passed
		passed = passed || len(then.denials) == 0 && p.Passes(bestComposite)
		now = then
		// A description is metadata too: once it is given, "metadata" gains nothing.
		if g.Gain > 0 || g.Part == PartRule {
			list = append(list, g)
		}
	}
	return p.withLeast(o, denials, list)
}

// withLeast fills in the lowest SNR score that passes once the other required parts are mended.
func (p Policy) withLeast(o *Operation, denials []Denial, list []Gap) []Gap {
	at := slices.IndexFunc(list, func(g Gap) bool { return g.Part == PartSNR })
	if at < 0 {
		return list
	}
	rest := draft{o: *o, intent: fidelity(o.Intent, o.Name), denials: denials}
	for _, g := range list {
		if g.Required && g.Part != PartSNR {
			rest = rest.mended(g)
		}
	}
	list[at].Least, _ = p.leastSNR(rest)
	if !list[at].Required && o.ethicsOfSNR() >= list[at].Least {
		return slices.Delete(list, at, at+1) // it is below 1, but neither missing nor low
	}
	return list
}

// LeastSNR returns the lowest SNR score, rounded up to four decimals, with which an operation passes that
// lacks nothing else: to claim less is to be refused.
func (p Policy) LeastSNR() float64 {
	least, ok := p.leastSNR(draft{o: Operation{Name: "named", Type: "typed", HasExecutionID: true, HasTimestamp: true, HasTrace: true,
		HasMetadata: true, HasInput: true, HasDescription: true}, intent: 1})
	if !ok {
		return 1 // only the zero Policy, which lets nothing pass
	}
	return least
}

// leastSNR returns the lowest SNR score with which a draft passes; 0 and false if none does.
func (p Policy) leastSNR(d draft) (least float64, ok bool) {
	const steps = 10000
	passes := func(step int) bool {
		d.o.HasSNR, d.o.SNR = true, float64(step)/steps
		return len(d.denials) == 0 && p.Passes(p.Composite(d.scores()))
	}
	low, high := 0, steps+1 // the lowest that passes is above low−1 and at most high
	for low < high {
		if middle := (low + high) / 2; middle > steps || passes(middle) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	if low > steps {
		return 0, false
	}
	return float64(low) / steps, true
}
