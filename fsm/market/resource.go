package market

import "fmt"

// Resource is what a licence is for.
type Resource uint8

// The resources.
const (
	CPU Resource = iota
	GPU
	Memory
	Storage
	Bandwidth
	Inference
	Consensus
	// ResourceCount is how many there are.
	ResourceCount
)

func (r Resource) String() string {
	switch r {
	case CPU:
		return "cpu"
	case GPU:
		return "gpu"
	case Memory:
		return "memory"
	case Storage:
		return "storage"
	case Bandwidth:
		return "bandwidth"
	case Inference:
		return "inference"
	case Consensus:
		return "consensus"
	default:
		return fmt.Sprintf("resource(%d)", uint8(r))
	}
}

// ResourcesByName lists the resources in the order of their names' bytes, as canonical forms need them.
func ResourcesByName() [ResourceCount]Resource {
	return [...]Resource{Bandwidth, Consensus, CPU, GPU, Inference, Memory, Storage}
}

// ParseResource is the inverse of [Resource.String]; ok is false for any other text.
func ParseResource(name string) (r Resource, ok bool) {
	for r := CPU; r < ResourceCount; r++ {
		if r.String() == name {
			return r, true
		}
	}
	return 0, false
}

// MarshalText writes the resource's name.
func (r Resource) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a resource's name.
func (r *Resource) UnmarshalText(name []byte) error {
	parsed, ok := ParseResource(string(name))
	if !ok {
		return fmt.Errorf("market: no resource is called %q", name)
	}
	*r = parsed
	return nil
}
