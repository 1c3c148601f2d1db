package fsm

import (
	"encoding/binary"
	"math/bits"
)

// Sizes of the generations of [recent]: the first is small, since most machines see few proofs, and each is twice the one
// before, up to two megabytes.
const (
	recentNoncesMin   = 4 << 10
	recentNoncesMax   = 1 << 20
	recentBitsEach    = 16 // with recentProbes, one nonce in a thousand is taken for a known one
	recentProbes      = 6
	recentGenerations = 8
)

// recent knows which nonces may be in the replay window, so that most new proofs, whose nonce is not, need not look in the
// store. It is never wrong about what it has not seen, and of what it may have seen the store decides, so no outcome
// depends on it. It knows the nonces from one sequence number on; those before are those of before the machine was opened.
type recent struct {
	since       uint64 // sequence number of the first nonce that the generations hold
	generations []*generation
}

// generation is a Bloom filter over nonces with consecutive sequence numbers.
type generation struct {
	first, next uint64
	capacity    uint64
	bits        []uint64
}

func newRecent(since uint64) recent { return recent{since: since} }

// add takes in a nonce by its sequence number, and drops generations of which all nonces are forgotten.
func (r *recent) add(nonce *[32]byte, seq, forgotten uint64) {
	for len(r.generations) > 0 && (r.generations[0].next <= forgotten || len(r.generations) >= recentGenerations) {
		r.since = r.generations[0].next
		r.generations = r.generations[1:]
	}
	last := len(r.generations) - 1
	if last < 0 || r.generations[last].next-r.generations[last].first == r.generations[last].capacity {
		capacity := uint64(recentNoncesMin)
		if last >= 0 {
			capacity = min(2*r.generations[last].capacity, recentNoncesMax)
		}
		r.generations = append(r.generations, &generation{first: seq, next: seq, capacity: capacity, bits: make([]uint64, capacity*recentBitsEach/64)})
		last++
	}
	r.generations[last].add(nonce)
}

// unknown says for certain that a nonce is not in the window, whose first sequence number is given.
func (r *recent) unknown(nonce *[32]byte, first uint64) bool {
	if first < r.since {
		return false
	}
	for _, g := range r.generations {
		if g.mayHold(nonce) {
			return false
		}
	}
	return true
}

func (g *generation) add(nonce *[32]byte) {
	g.next++
	at, step := spread(nonce)
	for range recentProbes {
		bit := at % uint64(64*len(g.bits))
		g.bits[bit/64] |= 1 << (bit % 64)
		at += step
	}
}

func (g *generation) mayHold(nonce *[32]byte) bool {
	at, step := spread(nonce)
	for range recentProbes {
		bit := at % uint64(64*len(g.bits))
		if g.bits[bit/64]&(1<<(bit%64)) == 0 {
			return false
		}
		at += step
	}
	return true
}

// spread makes two numbers of a nonce for double hashing. Signers choose nonces; whoever chooses them to collide has his
// proofs looked up in the store.
func spread(nonce *[32]byte) (at, step uint64) {
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(nonce[8*i:]) }
	const odd1, odd2 = 0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f
	hi, lo := bits.Mul64(word(0)^odd1, word(1)^odd2)
	hi2, lo2 := bits.Mul64(word(2)^odd2, word(3)^odd1)
	at, step = hi^lo2, lo^hi2
	return at ^ at>>32, step | 1
}
