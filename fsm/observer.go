package fsm

import "fmt"

// Observer is told what Apply is doing, on Apply's goroutine. What it does must change nothing of
// what Apply does. Layers do not nest.
type Observer interface {
	Enter(Layer)
	Leave(Layer)
}

// Layer is a part of what a proof goes through.
type Layer uint8

// The layers in the order in which a proof meets them.
const (
	LayerClaims  Layer = iota // IHSAN, SNR, measured SNR, POLICY
	LayerNTU                  // the session's unit observes
	LayerFATE                 // rules of the constitution, and the four scores
	LayerSession              // the step and its node's hash
	LayerBudget               // allocation and charge
	LayerMarket               // licences, steps and epochs of the market
	LayerConduct              // outcome, unit and measured SNR of the agent
	LayerLedger               // the entry and the replay window
	layerCount
)

// Layers are all of them.
func Layers() []Layer {
	all := make([]Layer, layerCount)
	for i := range all {
		all[i] = Layer(i)
	}
	return all
}

func (l Layer) String() string {
	switch l {
	case LayerClaims:
		return "claims"
	case LayerNTU:
		return "ntu"
	case LayerFATE:
		return "fate"
	case LayerSession:
		return "session"
	case LayerBudget:
		return "budget"
	case LayerMarket:
		return "market"
	case LayerConduct:
		return "conduct"
	case LayerLedger:
		return "ledger"
	default:
		return fmt.Sprintf("layer(%d)", uint8(l))
	}
}

// layer tells the observer that a layer begins, and returns what tells it that it has ended.
func (m *Machine) layer(l Layer) func() {
	o := m.cfg.Observer
	if o == nil {
		return nothing
	}
	o.Enter(l)
	return func() { o.Leave(l) }
}

func nothing() {}
