package pattern

import (
	"math"

	"github.com/bizra/bizra/fsm/exact"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/pci"
)

// Action is the payload.action of an envelope that elevates a pattern.
const Action = "pattern.elevate"

// Limits of a pattern.
const (
	NameBytesMax      = 128
	StatementBytesMax = 2048
	ObservationsMax   = 1_000_000_000
	RegionBytesMax    = 63

	// potentialSlack is how far the potential may be off belief·(1 − entropy).
	potentialSlack = 1e-9
)

// Pattern is what is elevated. Belief, Entropy and Potential are in [0, 1].
type Pattern struct {
	Region       string
	Name         string
	Statement    string
	Session      string // "" for none
	Belief       float64
	Entropy      float64
	Potential    float64
	Observations int64 // 1 or more
}

// Read reads payload.data but for its region. Faults are the object's, for the caller to collect with Done.
func Read(o *pci.Object) Pattern {
	p := Pattern{
		Name: o.Text("name", NameBytesMax), Statement: o.Text("statement", StatementBytesMax), Session: o.OptionalText("session", session.IDBytesMax),
		Belief: o.Float("belief"), Entropy: o.Float("entropy"), Potential: o.Float("potential"), Observations: o.Int("observations"),
	}
	if p.Name == "" || p.Statement == "" {
		o.Fault("data.name and data.statement of a pattern must not be empty")
	}
	if !inUnit(p.Belief) || !inUnit(p.Entropy) || !inUnit(p.Potential) {
		o.Fault("data.belief, data.entropy and data.potential must be from 0 to 1")
	}
	if off := p.Potential - Potential(p.Belief, p.Entropy); !(math.Abs(off) <= potentialSlack) {
		o.Fault("data.potential must be belief·(1 − entropy)")
	}
	if p.Observations < 1 || p.Observations > ObservationsMax {
		o.Fault("data.observations must be from 1 to %d", ObservationsMax)
	}
	return p
}

// ReadData reads the whole of payload.data; the error is a [*pci.Reject] with [pci.RejectSchema].
func ReadData(v pci.Value) (Pattern, error) {
	o := pci.ReadObject(v)
	p := Read(o)
	if p.Region = o.Text("region", RegionBytesMax); p.Region == "" {
		o.Fault("data.region must not be empty")
	}
	return p, o.Done()
}

// Data is the payload.data that says p, for signing.
func (p *Pattern) Data() map[string]any {
	data := map[string]any{"region": p.Region, "name": p.Name, "statement": p.Statement, "belief": p.Belief, "entropy": p.Entropy,
		"potential": p.Potential, "observations": p.Observations}
	if p.Session != "" {
		data["session"] = p.Session
	}
	return data
}

// Impact is potential·ln(1 + observations), in nats, from 0 to under 21; see the package comment.
func (p *Pattern) Impact() float64 {
	return exact.Mul(p.Potential, exact.Log(float64(1+p.Observations)))
}

// Potential is belief·(1 − entropy), the unit's own formula (rules of the state machine, section 2).
func Potential(belief, entropy float64) float64 { return exact.Mul(belief, 1-entropy) }

func inUnit(x float64) bool { return x >= 0 && x <= 1 }
