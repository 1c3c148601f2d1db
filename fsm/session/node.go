package session

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"

	"github.com/zeebo/blake3"

	"github.com/bizra/bizra/fsm/fate"
	"github.com/bizra/bizra/fsm/ntu"
	"github.com/bizra/bizra/pci"
)

// Hash names a node: BLAKE3-256("bizra-session-v1:" ‖ canonical form).
type Hash [32]byte

// String is the hash as 64 lower-case hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Compare orders hashes by their bytes.
func (h Hash) Compare(o Hash) int { return bytes.Compare(h[:], o[:]) }

// ParseHash reads 64 lower-case hexadecimal digits.
func ParseHash(text string) (Hash, error) {
	var h Hash
	if len(text) != 2*len(h) {
		return h, fmt.Errorf("a node's hash has %d hexadecimal digits, not %d", 2*len(h), len(text))
	}
	for _, c := range []byte(text) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return h, fmt.Errorf("a node's hash is written in lower-case hexadecimal digits: %q is none", c)
		}
	}
	_, err := hex.Decode(h[:], []byte(text))
	return h, err
}

const hashDomain = "bizra-session-v1:"

// Node is one state of a session, and how it was reached.
type Node struct {
	Parents    []Hash // sorted; none for genesis
	Region     string // origin
	Session    string
	Clock      uint64 // 1 + the greatest of the parents' clocks; 0 for genesis
	State      State
	Type       Type
	Reason     string // "" where none was given
	Data       Hash   // digest of the proof's payload.data
	TimeMillis int64  // log time, Unix milliseconds
	Judged            // what the layers below said of the step
}

// Judged is what NTU and FATE said of a step before it was taken. Both are nil for steps
// that they do not judge, which are all but transitions.
type Judged struct {
	NTU  *ntu.State // of the session's unit, after the step's observation
	Fate *Scored
}

// Scored is how a step fared in FATE.
type Scored struct {
	fate.Scores
	Composite float64
}

// AppendCanonical appends the node's canonical JSON, which is what its hash covers.
func (n *Node) AppendCanonical(dst []byte) []byte {
	dst = append(dst, `{"clock":`...)
	dst = strconv.AppendUint(dst, n.Clock, 10)
	dst = append(dst, `,"data":"`...)
	dst = hex.AppendEncode(dst, n.Data[:])
	dst = append(dst, `","fate":`...)
	dst = n.Fate.appendCanonical(dst)
	dst = append(dst, `,"ntu":`...)
	dst = AppendNTU(dst, n.NTU)
	dst = append(dst, `,"parents":[`...)
	for i, p := range n.Parents {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		dst = hex.AppendEncode(dst, p[:])
		dst = append(dst, '"')
	}
	dst = append(dst, `],"reason":`...)
	dst = pci.AppendString(dst, n.Reason)
	dst = append(dst, `,"region":`...)
	dst = pci.AppendString(dst, n.Region)
	dst = append(dst, `,"session":`...)
	dst = pci.AppendString(dst, n.Session)
	dst = append(dst, `,"state":"`...)
	dst = append(dst, n.State.String()...)
	dst = append(dst, `","time":`...)
	dst = strconv.AppendInt(dst, n.TimeMillis, 10)
	dst = append(dst, `,"type":"`...)
	dst = append(dst, n.Type.String()...)
	return append(dst, `"}`...)
}

func (s *Scored) appendCanonical(dst []byte) []byte {
	if s == nil {
		return append(dst, "null"...)
	}
	dst = pci.AppendFloat(append(dst, `{"accountability":`...), s.Accountability)
	dst = pci.AppendFloat(append(dst, `,"composite":`...), s.Composite)
	dst = pci.AppendFloat(append(dst, `,"ethics":`...), s.Ethics)
	dst = pci.AppendFloat(append(dst, `,"fidelity":`...), s.Fidelity)
	dst = pci.AppendFloat(append(dst, `,"transparency":`...), s.Transparency)
	return append(dst, '}')
}

// AppendNTU appends the canonical JSON of a unit's state, null for none.
func AppendNTU(dst []byte, s *ntu.State) []byte {
	if s == nil {
		return append(dst, "null"...)
	}
	dst = pci.AppendFloat(append(dst, `{"belief":`...), s.Belief)
	dst = pci.AppendFloat(append(dst, `,"entropy":`...), s.Entropy)
	dst = pci.AppendFloat(append(dst, `,"potential":`...), s.Potential)
	return append(dst, '}')
}

// ReadNTU reads a member that [AppendNTU] has written.
func ReadNTU(o *pci.Object, name string) *ntu.State {
	if v, _ := o.Any(name); v.Kind() == pci.NullKind {
		return nil
	}
	s := o.Object(name)
	state := &ntu.State{Belief: s.Float("belief"), Entropy: s.Float("entropy"), Potential: s.Float("potential")}
	_ = s.Done()
	return state
}

func readScored(o *pci.Object, name string) *Scored {
	if v, _ := o.Any(name); v.Kind() == pci.NullKind {
		return nil
	}
	s := o.Object(name)
	scored := &Scored{Composite: s.Float("composite"), Scores: fate.Scores{Fidelity: s.Float("fidelity"),
		Accountability: s.Float("accountability"), Transparency: s.Float("transparency"), Ethics: s.Float("ethics")}}
	_ = s.Done()
	return scored
}

// Hash is the node's name.
func (n *Node) Hash() Hash {
	var buf [1024]byte
	return HashCanonical(n.AppendCanonical(append(buf[:0], hashDomain...))[len(hashDomain):])
}

// HashCanonical names a node by its canonical form.
func HashCanonical(canonical []byte) Hash {
	h := blake3.New()
	_, _ = h.WriteString(hashDomain)
	_, _ = h.Write(canonical)
	var sum Hash
	h.Sum(sum[:0])
	return sum
}

// ParseNode reads a node's canonical form. It refuses every other form, so that
// the bytes of a node are fixed by its hash and the other way round.
func ParseNode(canonical []byte) (*Node, error) {
	v, err := pci.Parse(canonical, pci.Limits{BytesMax: NodeBytesMax, DepthMax: 3})
	if err != nil {
		return nil, fmt.Errorf("decode session node: %w", err)
	}
	f := pci.ReadObject(v)
	n := &Node{Reason: f.Text("reason", ReasonBytesMax), Region: f.Text("region", IDBytesMax), Session: f.Text("session", IDBytesMax)}
	clock, time := f.Int("clock"), f.Int("time")
	state, stateOK := ParseState(f.Text("state", 16))
	typ, typeOK := ParseType(f.Text("type", 16))
	n.State, n.Type, n.TimeMillis, n.Clock = state, typ, time, uint64(max(clock, 0))
	data, dataErr := ParseHash(f.Text("data", 64))
	n.Data = data
	n.Fate, n.NTU = readScored(f, "fate"), ReadNTU(f, "ntu")
	for _, p := range f.Array("parents", TipsMax) {
		h, err := ParseHash(p.String())
		if err != nil {
			return nil, fmt.Errorf("decode session node: parents: %w", err)
		}
		n.Parents = append(n.Parents, h)
	}
	if err := f.Done(); err != nil {
		return nil, fmt.Errorf("decode session node: %w", err)
	}
	if dataErr != nil || !stateOK || !typeOK || clock < 0 {
		return nil, fmt.Errorf("decode session node: clock, data, state or type is not one that a node can have")
	}
	if !slices.IsSortedFunc(n.Parents, Hash.Compare) || !bytes.Equal(n.AppendCanonical(nil), canonical) {
		return nil, fmt.Errorf("decode session node: not in canonical form")
	}
	return n, nil
}

// ParseLineage reads clock and parents out of a canonical form that [ParseNode] has taken,
// or that this package has written. It is for walks: it looks at nothing else.
func ParseLineage(canonical []byte) (clock uint64, parents []Hash, err error) {
	number, ok := bytes.CutPrefix(canonical, []byte(`{"clock":`))
	number, _, more := bytes.Cut(number, []byte(`,`))
	if clock, err = strconv.ParseUint(string(number), 10, 64); !ok || !more || err != nil {
		return 0, nil, fmt.Errorf("read a session node's lineage: no clock")
	}
	// Inside a string the quotes would be escaped.
	_, list, found := bytes.Cut(canonical, []byte(`,"parents":[`))
	list, _, ended := bytes.Cut(list, []byte(`]`))
	if !found || !ended || (len(list) > 0 && (len(list)+1)%lineageParentBytes != 0) {
		return 0, nil, fmt.Errorf("read a session node's lineage: no parents")
	}
	for i := 0; i < len(list); i += lineageParentBytes {
		h, err := ParseHash(string(list[i+1 : i+1+2*len(Hash{})]))
		if err != nil {
			return 0, nil, fmt.Errorf("read a session node's lineage: %w", err)
		}
		parents = append(parents, h)
	}
	return clock, parents, nil
}

const lineageParentBytes = 2*len(Hash{}) + len(`"",`)
