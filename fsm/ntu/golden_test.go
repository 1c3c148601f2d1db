package ntu_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"testing"

	"github.com/bizra/bizra/fsm/ntu"
)

// goldenBits is the SHA-256 over 10,000 states and the encodings of their units. Any processor
// must give it, whatever GOARCH, GOAMD64 or GOARM64 say.
const goldenBits = "a1521f55ee5118ea5bf57c57ff54bde3d2c4eb70018b54b2b19fb324426aa22e"

func TestGolden(t *testing.T) {
	h := sha256.New()
	seed := uint64(2)
	draw := func() float64 {
		seed = seed*6364136223846793005 + 1442695040888963407
		return float64(seed>>11) / (1 << 53)
	}
	write := func(f float64) {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], math.Float64bits(f))
		h.Write(b[:])
	}
	for i := range 200 {
		u, err := ntu.New(ntu.Config{Window: 1 + i%ntu.WindowMax, Alpha: draw(), Beta: draw(), Gamma: draw()})
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			s, err := u.Observe(float64(draw()*1.2) - 0.1)
			if err != nil {
				t.Fatal(err)
			}
			write(s.Belief)
			write(s.Entropy)
			write(s.Potential)
		}
		b, err := u.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		h.Write(b)
	}
	share, err := ntu.DefaultChain().Stationary()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range share {
		write(f)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != goldenBits {
		t.Errorf("results have hash %s, want %s", got, goldenBits)
	}
}
