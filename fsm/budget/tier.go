package budget

import "fmt"

// Tier is a size of budget.
type Tier uint8

// The tiers, from the smallest.
const (
	Nano Tier = iota
	Micro
	Meso
	Macro
	Mega
	tierCount
)

func (t Tier) String() string {
	switch t {
	case Nano:
		return "nano"
	case Micro:
		return "micro"
	case Meso:
		return "meso"
	case Macro:
		return "macro"
	case Mega:
		return "mega"
	default:
		return fmt.Sprintf("tier(%d)", uint8(t))
	}
}

// ParseTier is the inverse of [Tier.String]; ok is false for any other text.
func ParseTier(name string) (t Tier, ok bool) {
	for t := Nano; t < tierCount; t++ {
		if t.String() == name {
			return t, true
		}
	}
	return 0, false
}

// MarshalText writes the tier's name.
func (t Tier) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads a tier's name.
func (t *Tier) UnmarshalText(name []byte) error {
	parsed, ok := ParseTier(string(name))
	if !ok {
		return fmt.Errorf("budget: no tier is called %q", name)
	}
	*t = parsed
	return nil
}

// base is what a tier gives before signals.
type base struct {
	timeMillis       int64
	tokens           int64
	depth            int64
	tracks           int64
	iterations       int64
	confidence       float64
	extendedThinking bool
	ntuWindow        int
}

func (t Tier) base() base {
	switch t {
	case Nano:
		return base{timeMillis: 1_000, tokens: 100, depth: 1, tracks: 1, iterations: 1, confidence: 0.9, ntuWindow: 3}
	case Micro:
		return base{timeMillis: 5_000, tokens: 500, depth: 2, tracks: 1, iterations: 3, confidence: 0.92, ntuWindow: 5}
	case Meso:
		return base{timeMillis: 30_000, tokens: 2_000, depth: 4, tracks: 2, iterations: 6, confidence: 0.95, ntuWindow: 7}
	case Macro:
		return base{timeMillis: 300_000, tokens: 10_000, depth: 6, tracks: 3, iterations: 9, confidence: 0.97, extendedThinking: true, ntuWindow: 9}
	default:
		return base{timeMillis: 1_800_000, tokens: 50_000, depth: 7, tracks: 3, iterations: 9, confidence: 0.99, extendedThinking: true, ntuWindow: 12}
	}
}

// Task is a kind of work. The zero Task is [Transform], which is also what an operation that
// names none does.
type Task uint8

// The tasks.
const (
	Transform Task = iota
	Echo
	Classify
	Lookup
	Validate
	Summarize
	Analyze
	Generate
	Reason
	Plan
	Synthesize
	Debug
	Optimize
	Architect
	Research
	Proof
	Consensus
	taskCount
)

func (t Task) String() string {
	switch t {
	case Transform:
		return "transform"
	case Echo:
		return "echo"
	case Classify:
		return "classify"
	case Lookup:
		return "lookup"
	case Validate:
		return "validate"
	case Summarize:
		return "summarize"
	case Analyze:
		return "analyze"
	case Generate:
		return "generate"
	case Reason:
		return "reason"
	case Plan:
		return "plan"
	case Synthesize:
		return "synthesize"
	case Debug:
		return "debug"
	case Optimize:
		return "optimize"
	case Architect:
		return "architect"
	case Research:
		return "research"
	case Proof:
		return "proof"
	case Consensus:
		return "consensus"
	default:
		return fmt.Sprintf("task(%d)", uint8(t))
	}
}

// ParseTask is the inverse of [Task.String]. The empty text is [Transform]; ok is false
// for any other.
func ParseTask(name string) (t Task, ok bool) {
	if name == "" {
		return Transform, true
	}
	for t := Transform; t < taskCount; t++ {
		if t.String() == name {
			return t, true
		}
	}
	return 0, false
}

// MarshalText writes the task's name.
func (t Task) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads a task's name; an empty one is [Transform].
func (t *Task) UnmarshalText(name []byte) error {
	parsed, ok := ParseTask(string(name))
	if !ok {
		return fmt.Errorf("budget: no task is called %q", name)
	}
	*t = parsed
	return nil
}

// Tier returns the task's own tier, before complexity raises it.
func (t Task) Tier() Tier {
	switch t {
	case Echo, Classify:
		return Nano
	case Lookup, Transform, Validate:
		return Micro
	case Summarize, Analyze, Generate, Reason:
		return Meso
	case Plan, Synthesize, Debug, Optimize:
		return Macro
	default:
		return Mega
	}
}
