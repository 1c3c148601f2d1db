package fate

const (
	// SNRDefault is the ethics score of an operation that gives no SNR score.
	SNRDefault = 0.95

	// IntentBytesMax bounds the work of comparing words. A longer intent has none.
	IntentBytesMax = 512
	// NameBytesMax is the same for an operation's name.
	NameBytesMax = 512

	// TypeUnknown is the type of an operation that has none; so is "".
	// (In the reference "" counts as a type: here the absence of one is not a merit.)
	TypeUnknown = "unknown"

	fidelityFloor     = 0.7
	fidelityRange     = 0.3
	transparencyFloor = 0.7
)

// Operation is what is asked for, as far as the built-in scores look at it.
type Operation struct {
	Name   string // the operation's own name, such as "file_read"
	Type   string // what kind of operation it is; "" or "unknown" is none
	Intent string // what the caller says that it is for; without words in it, none is declared

	// SNR is the sender's signal-to-noise score in [0, 1], if HasSNR. Anything else, NaN too,
	// counts as 0: what cannot be a score must not open a gate.
	SNR    float64
	HasSNR bool

	HasExecutionID bool // these three every signed envelope has
	HasTimestamp   bool
	HasTrace       bool

	HasInput       bool
	HasDescription bool // metadata has a description
	HasRationale   bool // metadata has a rationale
	HasMetadata    bool // metadata has any member; implied by the two above and the three below

	PIIDetected      bool // metadata says that personal data was found
	ToxicityDetected bool
	EthicsViolation  bool
}

// Scores are the four scores of an operation, each in [0, 1].
type Scores struct {
	Fidelity       float64 `json:"fidelity"`
	Accountability float64 `json:"accountability"`
	Transparency   float64 `json:"transparency"`
	Ethics         float64 `json:"ethics"`
}

// Scores computes the four scores. It allocates nothing.
func (o *Operation) Scores() Scores {
	return o.scores(fidelity(o.Intent, o.Name))
}

// Words are the words of an intent and of a name as [SplitWords] gives them, for who scores
// the same strings many times.
type Words struct{ Intent, Name []string }

// ScoresOf computes the four scores from words that were split before; the operation's Intent is
// not looked at. It allocates nothing.
func (o *Operation) ScoresOf(w Words) Scores {
	if len(w.Intent) == 0 {
		return o.scores(fidelityFloor)
	}
	hits := 0
	for _, word := range w.Intent {
		for _, has := range w.Name {
			if word == has {
				hits++
				break
			}
		}
	}
	return o.scores(share(hits, len(w.Intent)))
}

func (o *Operation) scores(fidelity float64) Scores {
	return Scores{
		Fidelity:       fidelity,
		Accountability: o.accountability(),
		Transparency:   o.transparency(),
		Ethics:         o.ethics(),
	}
}

// share is the fidelity of an intent of so many distinct words, so many of which the name has.
func share(hits, words int) float64 {
	return fidelityFloor + float64(fidelityRange*(float64(hits)/float64(words)))
}

// accountability adds in the order of the reference: sums of tenths depend on it in their last bit,
// and the weakest dimension on that.
func (o *Operation) accountability() float64 {
	score := 0.0
	if o.HasExecutionID {
		score += 0.3
	}
	if o.HasTimestamp {
		score += 0.3
	}
	if o.HasTrace {
		score += 0.2
	}
	if o.hasMetadata() {
		score += 0.1
	}
	if o.Name != "" {
		score += 0.1
	}
	return score
}

func (o *Operation) hasMetadata() bool {
	return o.HasMetadata || o.HasDescription || o.HasRationale || o.PIIDetected || o.ToxicityDetected || o.EthicsViolation
}

func (o *Operation) transparency() float64 {
	score := transparencyFloor
	if o.hasType() {
		score += 0.1
	}
	if o.HasInput {
		score += 0.1
	}
	if o.HasDescription || o.HasRationale {
		score += 0.1
	}
	return score
}

func (o *Operation) hasType() bool { return o.Type != "" && o.Type != TypeUnknown }

func (o *Operation) ethicsOfSNR() float64 {
	switch {
	case !o.HasSNR:
		return SNRDefault
	case o.SNR > 0 && o.SNR <= 1:
		return o.SNR
	default:
		return 0
	}
}

func (o *Operation) ethics() float64 {
	score := o.ethicsOfSNR()
	if o.PIIDetected {
		score = float64(score * 0.5)
	}
	if o.ToxicityDetected {
		score = float64(score * 0.3)
	}
	if o.EthicsViolation {
		score = float64(score * 0.1)
	}
	return score
}
