package prefixtree

import (
	"bytes"
	"crypto/sha256"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm/store"
)

// memory is a KV in a map that counts what is done to it and can be told to fail.
type memory struct {
	records              map[string][]byte
	gets, sets, deletes  int
	failGetAfter         int   // with failWith set, the Get after this many fails
	failWith             error // nil: none fails
	sinceFailureWasArmed int
}

func newMemory() *memory { return &memory{records: map[string][]byte{}} }

func (m *memory) Get(key []byte) ([]byte, error) {
	m.gets++
	if m.failWith != nil {
		if m.sinceFailureWasArmed == m.failGetAfter {
			return nil, m.failWith
		}
		m.sinceFailureWasArmed++
	}
	v, ok := m.records[string(key)]
	if !ok {
		return nil, store.ErrNotFound
	}
	return bytes.Clone(v), nil
}

func (m *memory) Set(key, value []byte) { m.sets++; m.records[string(key)] = value }
func (m *memory) Delete(key []byte)     { m.deletes++; delete(m.records, string(key)) }

func (m *memory) clone() *memory {
	c := newMemory()
	for k, v := range m.records {
		c.records[k] = bytes.Clone(v)
	}
	return c
}

type pairs map[[32]byte][32]byte

func (p pairs) changes() []Change {
	var out []Change
	for _, k := range slices.SortedFunc(maps.Keys(p), func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) }) {
		v := p[k]
		out = append(out, Change{k, &v})
	}
	return out
}

// twinRoot is the specification a second time, with labels as text of zeros and ones and everything from scratch.
func twinRoot(set pairs) [32]byte {
	if len(set) == 0 {
		return sha256.Sum256([]byte("bizra-state-v1:\x00"))
	}
	values := map[string][32]byte{}
	var keys []string
	for k, v := range set {
		text := bitText(k)
		keys = append(keys, text)
		values[text] = v
	}
	slices.Sort(keys)
	return twinNode(keys, values)
}

func bitText(key [32]byte) string {
	var s strings.Builder
	for _, b := range key {
		for bit := 7; bit >= 0; bit-- {
			s.WriteByte('0' + b>>bit&1)
		}
	}
	return s.String()
}

func bitBytes(text string) []byte {
	out := make([]byte, 32)
	for i, c := range text {
		if c == '1' {
			out[i/8] |= 0x80 >> (i % 8)
		}
	}
	return out
}

func twinNode(keys []string, values map[string][32]byte) [32]byte {
	var b bytes.Buffer
	b.WriteString("bizra-state-v1:")
	if len(keys) == 1 {
		value := values[keys[0]]
		b.WriteByte(1)
		b.Write(bitBytes(keys[0]))
		b.Write(value[:])
		return sha256.Sum256(b.Bytes())
	}
	common := keys[0]
	for _, k := range keys {
		for !strings.HasPrefix(k, common) {
			common = common[:len(common)-1]
		}
	}
	var sides [2][]string
	for _, k := range keys {
		side := k[len(common)] - '0'
		sides[side] = append(sides[side], k)
	}
	b.Write([]byte{2, byte(len(common) >> 8), byte(len(common))})
	b.Write(bitBytes(common))
	for _, side := range sides {
		hash := twinNode(side, values)
		b.Write(hash[:])
	}
	return sha256.Sum256(b.Bytes())
}

// turningPoints are bits near the borders where label code goes wrong: ends of bytes, of words, of the key.
var turningPoints = []int{0, 1, 6, 7, 8, 9, 15, 16, 62, 63, 64, 65, 127, 128, 191, 192, 200, 247, 248, 254, 255}

// anyKey draws keys that differ from one base in few bits, so that they share long prefixes and meet again and again.
func anyKey() *rapid.Generator[[32]byte] {
	return rapid.Custom(func(t *rapid.T) [32]byte {
		var key [32]byte
		if rapid.IntRange(0, 9).Draw(t, "far") == 0 {
			key[0] = 0xf0
		}
		for range rapid.IntRange(0, 3).Draw(t, "flips") {
			bit := rapid.SampledFrom(turningPoints).Draw(t, "bit")
			key[bit/8] ^= 0x80 >> (bit % 8)
		}
		return key
	})
}

func anyValue() *rapid.Generator[[32]byte] {
	return rapid.Map(rapid.IntRange(0, 3), func(n int) [32]byte { return [32]byte{31: byte(n)} })
}

func anyBatch() *rapid.Generator[[]Change] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Change {
		c := Change{Key: anyKey().Draw(t, "key")}
		if rapid.IntRange(0, 2).Draw(t, "deletes") > 0 {
			v := anyValue().Draw(t, "value")
			c.Value = &v
		}
		return c
	}), 0, 40)
}

func (p pairs) apply(batch []Change) {
	for _, c := range batch {
		if c.Value == nil {
			delete(p, c.Key)
		} else {
			p[c.Key] = *c.Value
		}
	}
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func mustUpdate(t fataler, kv KV, changes []Change) [32]byte {
	t.Helper()
	root, err := Update(kv, changes)
	if err != nil {
		t.Fatalf("Update: %v", err)
	}
	return root
}

func mustProve(t fataler, r Reader, key [32]byte) Proof {
	t.Helper()
	p, err := Prove(r, key)
	if err != nil {
		t.Fatalf("Prove(%x): %v", key, err)
	}
	return p
}

// numbered returns n pairs with keys spread like those of real state.
func numbered(n int) pairs {
	set := pairs{}
	for i := range n {
		key := KeyHash([]byte{byte(i >> 16), byte(i >> 8), byte(i)})
		set[key] = ValueHash(key[:])
	}
	return set
}

// ladder returns the all-zero key and, for each bit, the key with only that bit set: the deepest tree there is.
func ladder() pairs {
	set := pairs{{}: {1}}
	for bit := range keyBits {
		var key [32]byte
		key[bit/8] = 0x80 >> (bit % 8)
		set[key] = [32]byte{byte(bit)}
	}
	return set
}

func TestTwinAgreesWithItself(t *testing.T) {
	if got := bitText([32]byte{0: 0xa5, 31: 1}); !strings.HasPrefix(got, "10100101") || !strings.HasSuffix(got, "00000001") {
		t.Fatalf("bitText = %s", got)
	}
	key := [32]byte{1, 2, 3, 31: 0xff}
	if !bytes.Equal(bitBytes(bitText(key)), key[:]) {
		t.Fatal("bitBytes does not undo bitText")
	}
}
